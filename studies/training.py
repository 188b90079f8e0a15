"""`tokenlink train STAGE`: the stages in the order in which the shipped weights were made.

The options of a stage are the parameters of the function that does the work, and their help is its docstring. Where
that function takes a `channel`, the command takes the keys of a link: `semantic` knows a channel only as a callable.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from studies.claim_one import train_arms
from studies.config import expanded
from studies.pairs import train_pair
from studies.schemes.digital.payload_link import KEPT_RES, measure_losses

STAGES = {  # the module of each stage's `main`
    "vision": "semantic.endpoints.vision",
    "task": "semantic.endpoints.language",
    "sensor": "semantic.endpoints.sensor",
    "agents": "semantic.endpoints.agents",
    "lora": "semantic.endpoints.lora",
    "vqa": "semantic.endpoints.vqa",
    "deepjscc": "semantic.deepjscc_training",
}
OVER_THE_LINK = ("agents", "pair", "arms", "deepjscc", "mean", "adaptive")


def train_adaptive(
    out: Path,
    data: Path,
    channel: Any,
    split: str = "val",
    num_questions: int = 3000,
    price: float = 0.01,
    snr_db: list[float] = [-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0],  # noqa: B006 -- typer's own way; never changed
) -> None:
    """Measure how many tokens of a nested code suffice, by SNR and kind of task.

    Parameters
    ----------
    out : Path
        Folder of the agents; it gets the table.
    data : Path
        Folder of the data set.
    channel : callable
        Link to measure over.
    split : str
        Split to ask; no study may ask the same questions.
    num_questions : int
        Questions to ask, the first ones of the split.
    price : float
        Accuracy that another token has to add, or it is not sent.
    snr_db : list of float
        Rows of the table [dB].
    """
    from semantic.agent_training import NUM_FADES, TRAINING_REALISATIONS
    from semantic.token_choice import measure
    from studies.workbench import load_agents

    choice = measure(
        load_agents(str(out)),
        dataset(data, split),
        channel,
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


def train_mean(out: Path, data: Path, init: list[Path], channel: Any, num_questions: int = 6000) -> None:
    """Take the mean of agents that were trained on from one start.

    Parameters
    ----------
    out : Path
        Folder for the mean and its card.
    data : Path
        Folder of the data set: split `train` gives the code's moments, `val` the card's accuracies.
    init : list of Path
        Folders of the agents, or names of shipped ones.
    channel : callable
        Link that the mean is measured over; it is not trained.
    num_questions : int
        Questions to measure the moments on.
    """
    options = {name: value for name, value in locals().items() if name != "channel"}
    import random

    import torch

    from semantic import AgentLink
    from semantic.agent_mean import measure_code, take_mean
    from semantic.agent_training import evaluate
    from semantic.training import write_card
    from semantic.turns import turns_about

    agents, *others = (AgentLink.from_pretrained(folder) for folder in init)
    take_mean(agents, others)
    measure_code(agents, dataset(data, "train"), num_questions)
    agents.save_pretrained(out, dtype=torch.float16)
    agents = AgentLink.from_pretrained(out)  # as it was rounded
    held_out = turns_about(agents, dataset(data, "val"))
    results = {
        f"accuracy at {at:g} dB": evaluate(agents, channel, held_out, random.Random(0), at) for at in (20.0, 5.0, -5.0)
    }
    write_card(out, title="The mean of agents from one start", stage="mean", options=options, results=results)
    print("val", results)


def train_quantizer(
    out: Path,
    data: Path,
    split: str = "train",
    num_questions: int = 6000,
    asked_split: str = "val",
    num_asked: int = 1500,
) -> None:
    """Learn the quantisers of a pair from its codes of training images, and measure what their bytes are worth.

    Parameters
    ----------
    out : Path
        Folder of the agents; it gets the tables and their card.
    data : Path
        Folder of the data set.
    split : str
        Split whose codes are learned from, and measured on for a tenth of its images.
    num_questions : int
        Questions to encode.
    asked_split : str
        Split whose questions tell the accuracy of payloads by their size; no study may ask them.
    num_asked : int
        Questions to ask, from all over that split, evenly over the families.
    """
    options = dict(locals())
    import numpy as np

    from semantic.training import write_card
    from studies.schemes.digital.quantizer_file import (
        CARD,
        KINDS,
        encode_questions,
        error,
        load_tables,
        measure_accuracy,
        save_tables,
    )
    from studies.workbench import load_agents

    agents = load_agents(str(out))
    learned_from = dataset(data, split)
    codes, images = encode_questions(agents, learned_from, learned_from.questions[:num_questions])
    kept = images < np.quantile(images, 0.9)  # the last tenth of the images only measures
    learned = {name: kind.learn(codes[kept]) for name, kind in KINDS.items()}
    asked = dataset(data, asked_split)
    worth = measure_accuracy(agents, learned, asked, num_asked)
    path = save_tables(out, {name: learned[name] | worth[name] for name in KINDS}, agents.model_hash, int(kept.sum()))
    results: dict[str, object] = {"codes learned from": int(kept.sum()), "codes measured on": int((~kept).sum())}
    results["questions asked"] = min(num_asked, len(asked.questions))
    for name, kind in KINDS.items():
        tables = load_tables(str(out), name, agents)
        for num_bytes in sorted({min(size, kind.most_bytes(codes.shape[1:])) for size in (5, 40, 160)}):
            nmse = error(kind, tables, codes[~kept], num_bytes)
            results[f"{name}, {num_bytes} bytes: squared error over power"] = f"{nmse:.4f}"
        for num_bytes, accuracy in zip(tables["accuracy_bytes"].astype(int), tables["accuracy"], strict=True):
            results[f"{name}, {num_bytes} bytes: accuracy"] = f"{accuracy:.3f}"
        results["nothing arrives: accuracy"] = f"{tables['accuracy_lost'].item():.3f}"
    write_card(out, title="Quantisers of the codes", stage="quantizer", options=options, results=results, name=CARD)
    for name, value in results.items():
        print(f"{name}: {value}")
    print(path)


def train_prior(out: Path, data: Path, split: str = "train", num_questions: int = 6000, basis: str = "pca") -> None:
    """Learn a receiver's prior of a pair's codes from training images.

    Parameters
    ----------
    out : Path
        Folder of the agents; it gets prior.npz.
    data : Path
        Folder of the data set.
    split : str
        Split whose codes are learned from.
    num_questions : int
        Questions to encode.
    basis : str
        Basis in which codes are sparse: see `CodePrior.fit`.
    """
    import bridge  # noqa: F401 -- before phy: it fixes the order in which the two frameworks are loaded

    # isort: split
    from phy import CodePrior
    from studies.schemes.digital.quantizer_file import encode_questions
    from studies.workbench import load_agents

    learned_from = dataset(data, split)
    codes, _ = encode_questions(load_agents(str(out)), learned_from, learned_from.questions[:num_questions])
    path = out / "prior.npz"
    CodePrior.fit(codes, basis=basis).save(path)
    print(path)


def train_losses(
    data_res: list[int] = list(KEPT_RES),  # noqa: B006 -- typer's own way; never changed
    num_payloads: int = 2000,
) -> None:
    """Measure the kept loss rates of the default digital link anew.

    Parameters
    ----------
    data_res : list of int
        Budgets in resource elements to measure: the small one takes minutes, that of images an hour.
    num_payloads : int
        Payloads of each size at each SNR; fewer are sent where all are lost, or none.
    """
    print(measure_losses(data_res, num_payloads))


def train_images(data: Path, codec: str = "avif", split: str = "val", num_images: int = 64) -> None:
    """Measure which share of an image's variance a codec's payloads leave out, by their size; the link adapts by it.

    Parameters
    ----------
    data : Path
        Folder of the data set.
    codec : str
        Codec: avif or jpeg.
    split : str
        Split whose images are compressed; no study may ask about them.
    num_images : int
        Images, evenly over the split.
    """
    import numpy as np

    from studies.schemes.digital.image_code import measure_errors
    from studies.schemes.digital.image_codecs import CODECS

    if codec not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, got {codec!r}")
    source = dataset(data, split)
    indices = np.unique([question.image_index for question in source.questions])
    chosen = indices[np.linspace(0, len(indices) - 1, num_images).astype(int)]
    sizes = [int(16 * 2 ** (step / 4)) for step in range(37)]  # 16 bytes to 8 KB
    for size, share in measure_errors(CODECS[codec], [source.image(int(index)) for index in chosen], sizes).items():
        print(f"{size} bytes: {share:.4f}")


MEASUREMENTS: dict[
    str, Callable[..., None]
] = {  # stages that are put together here, from several or from both sides of the link
    "pair": train_pair,
    "arms": train_arms,
    "mean": train_mean,
    "adaptive": train_adaptive,
    "quantizer": train_quantizer,
    "prior": train_prior,
    "losses": train_losses,
    "images": train_images,
}


def dataset(folder: Path, split: str) -> Any:
    """Load a split that a stage reads."""
    from studies.study_config import DataConfig
    from studies.sweep import dataset_for

    return dataset_for(DataConfig(folder=str(folder), split=split))


def link_channel(assignments: list[str] | None, gradient: str) -> Any:
    """Return the channel of the default link, with the keys set that differ, and a kind of gradient."""
    from bridge import TokenChannel
    from phy import AnalogLink
    from studies.config import resolve
    from studies.study_config import StudyConfig

    keys = [f"link.{assignment}" for assignment in assignments or []]
    return TokenChannel(AnalogLink(resolve(StudyConfig, assignments=keys).link), gradient=gradient)


# --- commands --------------------------------------------------------------------------------------------------


_GRADIENT = inspect.Parameter(
    "gradient",
    inspect.Parameter.KEYWORD_ONLY,
    default="straight-through",
    annotation=Annotated[
        str, typer.Option("--gradient", help="straight-through, the paper's, or exact: that of the simulated link")
    ],
)


def as_command(function: Callable[..., None], **defaults: Any) -> Callable[..., None]:
    """Make every parameter of a function an option of its own name, required where it has no default.

    A parameter `channel` becomes `-s`, a key of the link that the channel runs over, and `--gradient`, how it hands
    gradients back. `defaults` take the place of the function's own.
    """
    signature = inspect.signature(function, eval_str=True)
    docstring = escape(inspect.getdoc(function) or "")  # [dB] is no markup
    lines = _parameter_lines(docstring)
    parameters = []
    for name, parameter in signature.parameters.items():
        option = typer.Option(f"--{name.replace('_', '-')}", help=lines.get(name))
        kind, default = parameter.annotation, defaults.get(name, parameter.default)
        if name == "channel":
            parameters.append(_GRADIENT)
            option = typer.Option("-s", help="key of the link, e.g. -s num_rx_ant=4")
            kind, default = list[str] | None, None
        annotation = Annotated[kind, option]
        parameters.append(parameter.replace(annotation=annotation, default=default, kind=parameter.KEYWORD_ONLY))

    def command(**options: Any) -> None:
        if "channel" in signature.parameters:
            options["channel"] = link_channel(options["channel"], options.pop("gradient"))
        function(**{name: with_home(option) for name, option in options.items()})

    command.__doc__ = docstring.partition("\n\n")[0]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def with_home(option: Any) -> Any:
    """Return an option, ``~`` expanded in paths."""
    if isinstance(option, list):
        return [with_home(part) for part in option]
    return Path(expanded(str(option))) if isinstance(option, Path) else option


def _parameter_lines(docstring: str) -> dict[str, str]:
    """Return what a docstring in numpy's style says of each parameter."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^(\w[\w, ]*) : [^\n]*\n((?:[ ]+[^\n]*\n?)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ") if text}


class Stages(TyperGroup):
    """A command for every stage, whose module is loaded when the stage is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the stages in their order."""
        return [*STAGES, *MEASUREMENTS]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the bridge before a stage that needs it: it fixes the order in which the two frameworks are loaded."""
        if args[0] in OVER_THE_LINK:
            importlib.import_module("bridge")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a stage, or None if there is no such stage."""
        if cmd_name not in self.list_commands(ctx):
            return None
        if function := MEASUREMENTS.get(cmd_name):
            return _only_command(cmd_name, function)
        return _only_command(cmd_name, importlib.import_module(STAGES[cmd_name]).main)


def _only_command(name: str, function: Callable[..., None]) -> Any:
    only = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    only.command(name)(as_command(function))
    return typer.main.get_command(only)


def build_app() -> typer.Typer:
    """Return `tokenlink train` with a command per stage."""
    app = typer.Typer(cls=Stages, help="Train a stage.", add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    return app
