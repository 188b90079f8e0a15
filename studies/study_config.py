"""What every study can be told: questions, models, link and curves. Loads neither framework."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from phy.config import LinkConfig
from studies import curves
from studies.config import Record, expanded, shown


def distinct(values: tuple) -> tuple:
    """Refuse an axis without a value, or with one twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError("give at least one value, and none twice")
    return values


def rising(values: tuple) -> tuple:
    """Return the values of an axis in their order."""
    return tuple(sorted(values))


def known_curve(name: str) -> str:
    """Refuse the name of a curve that is neither in the table nor importable as MODULE:ATTRIBUTE."""
    try:
        curves.find(name)
    except KeyError:
        close = difflib.get_close_matches(name, curves.CURVES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(curves.CURVES)}"
        raise ValueError(f"there is no curve {shown(name)}; {hint} A curve of your own is MODULE:ATTRIBUTE") from None
    return name


def named_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse two curves of one name, which archives could not tell apart."""
    known = [curves.find(name).name for name in names]
    if twice := [name for name in known if known.count(name) > 1]:
        raise ValueError(f"two curves are called {twice[0]!r}; give one of them another name")
    return names


Distinct = AfterValidator(distinct)
Place = Annotated[str, AfterValidator(expanded)]  # a shipped name, or a path
SnrAxis = Annotated[tuple[Annotated[float, Field(ge=-100, le=100)], ...], Distinct, AfterValidator(rising)]
Curves = Annotated[tuple[Annotated[str, AfterValidator(known_curve)], ...], Distinct, AfterValidator(named_apart)]


class DataConfig(Record, frozen=True):
    """Where questions and images come from."""

    folder: Place | None = Field(default=None, description="folder of the data set; null: the shipped split")
    split: str = Field(default="test", description="split to read from the folder")
    layout: str = Field(default="clevr", description="layout of the folder; `semantic/data` has a reader for each")


class ModelsConfig(Record, frozen=True):
    """Which weights are used: a shipped name or a folder. Rows of `studies/curves.py` name these keys."""

    machine_tokens: Place = "clevr-mini"
    machine_tokens_uncompressed: Place = "clevr-mini-uncompressed"
    machine_tokens_adaptive: Place = "clevr-mini-adaptive"
    deepjscc: Place = "deepjscc"
    deepjscc_small: Place = "deepjscc-small"
    code_prior: Place | None = Field(
        default=None,
        description="prior of machine-tokens' recovery: `own`, the moments that the pair's decoder knows, or a file of "
        "`tokenlink train prior`",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="precision of the agents' large models; codes are float32"
    )
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?)$")] = Field(
        default="cpu", description="device of the agents: cpu, cuda, or one of several such as cuda:1"
    )


class StudyConfig(Record, frozen=True):
    """What every study on questions and a link needs to know; a study adds its own axes."""

    seed: int = Field(default=0, ge=0, lt=2**63, description="chooses the questions; link.seed draws the fades")
    num_questions: int = Field(default=2000, ge=1, description="per point, spread evenly over the families")
    interval_width: float | None = Field(
        default=None,
        ge=0.1,
        le=100,
        description="widest 95 % interval that an accuracy may have [%]; a first run of 400 questions then says how "
        "many are asked, num_questions at most",
    )
    batch_size: int = Field(default=100, ge=1, description="questions per forward pass; sums round with it")
    num_threads: int = Field(default=1, ge=1, le=1024, description="of each process; sums round with it")
    data: DataConfig = DataConfig()
    models: ModelsConfig = ModelsConfig()
    link: LinkConfig = LinkConfig()
    schemes: Curves = curves.DEFAULT

    def public(self) -> dict[str, Any]:
        """Return the configuration as it may be published: folders of this machine are reduced to their last part."""
        plain = self.plain()
        for section, keys in (("data", ("folder",)), ("models", tuple(plain["models"]))):
            plain[section].update({key: without_folder(plain[section][key]) for key in keys})
        return plain


def without_folder(name: str | None) -> str | None:
    """Reduce a path of this machine to its last part; shipped names stay."""
    return Path(name).name if name and name.startswith(("/", "~", ".")) else name
