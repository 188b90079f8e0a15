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
    max_images: int | None = None,
    init: Path | None = None,
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
        max_images=max_images,
        init=init,
    )


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
    app.command("deepjscc")(as_command(train_deepjscc))
    return app
