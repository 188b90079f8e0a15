"""`tokenlink train STAGE`: the stages in the order in which the shipped weights were made.

The options of a stage are the parameters of the function that does the work. Only the last two meet the link, and are
therefore put together here: `semantic` knows a channel only as something to call.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import typer

if TYPE_CHECKING:
    from bridge import TokenChannel

STAGES = {
    "vision": "semantic.endpoints.vision",
    "task": "semantic.endpoints.language",
    "sensor": "semantic.endpoints.sensor",
}


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make every parameter of a function an option of its own name, required where it has no default."""
    signature = inspect.signature(function, eval_str=True)
    parameters = []
    for name, parameter in signature.parameters.items():
        annotation = parameter.annotation
        if get_origin(annotation) is not Annotated:  # which says more already
            annotation = Annotated[annotation, typer.Option(f"--{name.replace('_', '-')}")]
        parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**options: Any) -> None:
        function(**options)

    command.__doc__ = (inspect.getdoc(function) or "").partition("\n\n")[0]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def train_agents(
    out: Path,
    data: Path,
    sensor: Path,
    task: Path,
    minutes: float,
    num_tokens: int = 5,
    width: int = 64,
    uncompressed: bool = False,
    min_snr_db: float = -10.0,
    max_snr_db: float = 20.0,
    seed: int = 0,
    lr: float = 1e-3,
    r: Annotated[int, typer.Option("--r", help="rank of LoRA")] = 16,
    max_images: int | None = None,
    init: Path | None = None,
    nested: Annotated[bool, typer.Option("--nested", help="a code whose first tokens suffice")] = False,
    assign: Annotated[list[str] | None, typer.Option("-s", help="a key of the link, e.g. -s num_rx_ant=4")] = None,
) -> None:
    """Train sensor adapter and code end to end over the link; `--uncompressed` leaves the code out."""
    import tensorflow  # noqa: F401 -- before torch, as bridge does

    from semantic.agent_training import main

    main(
        out,
        data,
        sensor,
        task,
        link_channel(assign),
        minutes,
        num_tokens=num_tokens,
        width=None if uncompressed else width,
        snr_db=(min_snr_db, max_snr_db),
        seed=seed,
        lr=lr,
        r=r,
        max_images=max_images,
        init=init,
        nested=nested,
    )


def train_adaptive(
    out: Path,
    data: Path,
    split: str = "val",
    num_questions: int = 3000,
    price: Annotated[float, typer.Option(help="accuracy that another token has to bring, or it is not sent")] = 0.01,
    snr_db: list[float] = [-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0],  # noqa: B006 -- typer's own way; never changed
    assign: Annotated[list[str] | None, typer.Option("-s", help="a key of the link, e.g. -s num_rx_ant=4")] = None,
) -> None:
    """Measure how many tokens of the nested code in OUT suffice, by SNR and kind of task; OUT gets the table."""
    import tensorflow  # noqa: F401 -- before torch, as bridge does

    from semantic.agent_training import NUM_FADES, TRAINING_REALISATIONS
    from semantic.token_choice import measure
    from studies.workbench import DataConfig, load_agents, load_dataset

    choice = measure(
        load_agents(str(out)),
        load_dataset(DataConfig(folder=str(data), split=split)),
        link_channel(assign),
        snr_db=sorted(snr_db),
        first_realisation=TRAINING_REALISATIONS + NUM_FADES,
        num_questions=num_questions,
        price=price,
    )
    for kind, table in choice.accuracy.items():
        print(f"{kind} ({choice.num_questions[kind]} questions)")
        for at, row in zip(choice.snr_db, table, strict=True):
            chosen = choice.num_tokens(at, f"this is a question about {kind} .")
            print(f"  {at:g} dB: {', '.join(f'{value:.3f}' for value in row)}: {chosen}")
    print(choice.save(out))


def train_prior(out: Path, data: Path, split: str = "train", num_questions: int = 6000, basis: str = "pca") -> None:
    """Learn from training images what a receiver may know of the codes of the pair in OUT, which gets prior.npz."""
    import tensorflow  # noqa: F401 -- before torch, as bridge does

    from phy import CodePrior
    from studies.schemes.digital.quantizer_file import encode_questions
    from studies.workbench import DataConfig, load_agents, load_dataset

    codes, _ = encode_questions(
        load_agents(str(out)), load_dataset(DataConfig(folder=str(data), split=split)), num_questions
    )
    path = out / "prior.npz"
    CodePrior.fit(codes, basis=basis).save(path)
    print(path)


def train_quantizer(out: Path, data: Path, split: str = "train", num_questions: int = 6000) -> None:
    """Learn the quantisers of the pair in OUT from its codes of training images; OUT gets the tables and their card."""
    import numpy as np

    from semantic.training import write_card
    from studies.schemes.digital.quantizer_file import CARD, KINDS, encode_questions, error, load_tables, save_tables
    from studies.workbench import DataConfig, load_agents, load_dataset

    agents = load_agents(str(out))
    dataset = load_dataset(DataConfig(folder=str(data), split=split))
    codes, images = encode_questions(agents, dataset, num_questions)
    kept = images < np.quantile(images, 0.9)  # the last tenth of the images only measures
    path = save_tables(out, codes[kept], agents.model_hash)
    results: dict[str, object] = {"codes learned from": int(kept.sum()), "codes measured on": int((~kept).sum())}
    for name, kind in KINDS.items():
        tables = load_tables(str(out), name, agents)
        for num_bytes in sorted({min(size, kind.most_bytes(codes.shape[1:])) for size in (5, 40, 160)}):
            nmse = error(kind, tables, codes[~kept], num_bytes)
            results[f"{name}, {num_bytes} bytes: squared error over power"] = f"{nmse:.4f}"
    options = {"out": out, "data": data, "split": split, "num_questions": num_questions}
    write_card(out, title="Quantisers of the codes", stage="quantizer", options=options, results=results, name=CARD)
    for name, value in results.items():
        print(f"{name}: {value}")
    print(path)


def train_deepjscc(
    out: Path,
    data: Path,
    minutes: float,
    point: str = "deepjscc",
    min_snr_db: float = -5.0,
    max_snr_db: float = 20.0,
    seed: int = 0,
    batch: int = 8,
    lr: float = 1e-3,
    bfloat16: bool = False,
    max_images: int | None = None,
    assign: Annotated[list[str] | None, typer.Option("-s", help="a key of the link, e.g. -s num_rx_ant=4")] = None,
) -> None:
    """Train DeepJSCC end to end over the link; `--point deepjscc-small` sends as little as machine tokens."""
    import tensorflow  # noqa: F401 -- before torch, as bridge does

    from semantic.deepjscc_training import main

    main(
        out,
        data,
        link_channel(assign),
        minutes,
        point=point,
        snr_db=(min_snr_db, max_snr_db),
        seed=seed,
        batch=batch,
        lr=lr,
        bfloat16=bfloat16,
        max_images=max_images,
    )


def link_channel(assign: list[str] | None) -> "TokenChannel":
    """Return the channel of a default link with some keys set otherwise."""
    from studies.config import resolve
    from studies.workbench import StudyConfig, make_channel

    return make_channel(resolve(StudyConfig, assignments=[f"link.{assignment}" for assignment in assign or []]).link)


def build_app() -> typer.Typer:
    """Return `tokenlink train` with a command per stage."""
    app = typer.Typer(help="Train a stage.", add_completion=False, pretty_exceptions_enable=False)
    for stage, module in STAGES.items():
        app.command(stage)(as_command(importlib.import_module(module).main))
    app.command("agents")(as_command(train_agents))
    app.command("adaptive")(as_command(train_adaptive))
    app.command("quantizer")(as_command(train_quantizer))
    app.command("prior")(as_command(train_prior))
    app.command("deepjscc")(as_command(train_deepjscc))
    return app
