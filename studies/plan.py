"""`plan.json`: which points make up a run, as a record whose every field is checked and whose hash it carries."""

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from studies.axes import AxisValue, named
from studies.config import Record, checked_name, content_hash, shown

PLAN_SCHEMA = "tokenlink-plan"
PLAN_VERSION = 2  # plans of version 1 have no hashes; they are read


Name = Annotated[str, AfterValidator(checked_name)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class PlannedPoint(Record, frozen=True):
    """A point of a run: its file's name, and where it stands in the results."""

    hash: Hash
    scheme: Name
    coordinates: dict[Name, AxisValue]

    @property
    def label(self) -> str:
        """Scheme and coordinates, as a user reads them."""
        return ", ".join([self.scheme, *(named(axis, value) for axis, value in self.coordinates.items())])


class Plan(Record, frozen=True):
    """Content of `plan.json`: the points that make up a run, and the attributes of its archive.

    Attributes
    ----------
    config : str or None
        Hash of what `config.yaml` holds; None in plans of version 1.
    """

    study: Name
    schemes: Annotated[tuple[Name, ...], Field(min_length=1)]
    axes: dict[Name, tuple[AxisValue, ...]]
    points: Annotated[tuple[PlannedPoint, ...], Field(min_length=1)]
    config: Hash | None = None
    attributes: dict[Name, str | int | float]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        places = [(point.scheme, tuple(sorted(point.coordinates.items()))) for point in self.points]
        for what, values in (
            ("points", [point.hash for point in self.points]),
            ("places of points", places),
            ("schemes", self.schemes),
            *((f"values of {axis}", along) for axis, along in self.axes.items()),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"two {what} are the same")
        known = {axis: set(along) for axis, along in self.axes.items()}
        for point in self.points:
            strange = [axis for axis, at in point.coordinates.items() if at not in known.get(axis, ())]
            if strange or point.scheme not in self.schemes:
                raise ValueError(f"point {point.hash} stands where there is no {strange[0] if strange else 'scheme'}")
        if self.attributes.get("study") != self.study or "config_hash" not in self.attributes:
            raise ValueError("the attributes are of another study")
        return self

    def written(self) -> bytes:
        """Return the content of the file."""
        content = {"schema": PLAN_SCHEMA, "schema_version": PLAN_VERSION, "plan_hash": self.hash, **self.plain()}
        return json.dumps(content, indent=1).encode()

    @property
    def hash(self) -> str:
        """Hash of everything in it; `results.h5` holds it too."""
        return content_hash(self.plain())


def read_plan(folder: Path) -> Plan:
    """Read a run folder's `plan.json`.

    Raises
    ------
    ValueError
        If there is none, or it is not as a run left it.
    """
    path = folder / "plan.json"
    if not path.exists():
        raise ValueError(
            f"{folder} is no run folder: it has no plan.json. `tokenlink run STUDY --out {folder}` makes one."
        )
    try:
        return _parse_plan(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be used: {error}; the same `tokenlink run` writes it anew") from error


def _parse_plan(content: bytes) -> Plan:
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError(f"it holds {type(fields).__name__}, not keys and values")
    schema, version, expected = (fields.pop(name, None) for name in ("schema", "schema_version", "plan_hash"))
    older = version == 1 and type(version) is int and expected is None and "config" not in fields
    if schema != PLAN_SCHEMA or not (older or (version == PLAN_VERSION and type(version) is int)):
        raise ValueError(f"it stores {shown((schema, version))}, this version reads {(PLAN_SCHEMA, PLAN_VERSION)}")
    try:
        plan = Plan.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{shown(at)}: {first['msg'].removeprefix('Value error, ')}") from error
    if not older and (plan.config is None or plan.hash != expected):
        raise ValueError("its content is not what its hash says")
    return plan
