"""One resolved, validated configuration per run: defaults < `--config` file < `--tiny` < `-s key=value`."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ValidationError


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names key, value and way out, a line each."""


class Record(BaseModel, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False):
    """What every part of a study's configuration is: frozen, every key known, every default checked."""

    def plain(self) -> dict[str, Any]:
        """Return the configuration as nested dicts, lists, numbers and strings, ready for YAML and JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the configuration as the YAML that `--config` reads."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True)

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with nested `changes`, validated as a whole."""
        return validate(type(self), merge(self.plain(), changes))


RecordType = TypeVar("RecordType", bound=Record)


def content_hash(content: Any) -> str:
    """SHA-256 (first 32 hexadecimal digits) of JSON content; equal content gives equal hashes, in any order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def resolve(
    kind: type[RecordType],
    *,
    file: Path | None = None,
    layers: Iterable[Mapping[str, Any]] = (),
    assignments: Iterable[str] = (),
) -> RecordType:
    """Build a configuration from its defaults and everything that overrides them, later layers last.

    Parameters
    ----------
    kind : the study's configuration class; every field has a default
    file : YAML file with some of the keys
    layers : nested mappings, such as a study's tiny version
    assignments : ``"link.num_rx_ant=8"``, the value in YAML

    Raises
    ------
    ConfigError
        For a file or assignment that cannot be read, an unknown key, or a value that cannot be used.
    """
    tree = kind().plain()
    if file is not None:
        tree = merge(tree, read_yaml(file))
    for layer in layers:
        tree = merge(tree, layer)
    for assignment in assignments:
        tree = merge(tree, parse_assignment(assignment))
    return validate(kind, tree)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds keys and values at its top level."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a configuration: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds {type(content).__name__}, not keys and values; see --print-config for one that does"
        )
    return content


def parse_assignment(assignment: str) -> dict[str, Any]:
    """Turn ``"link.num_rx_ant=8"`` into ``{"link": {"num_rx_ant": 8}}``."""
    key, equals, value = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"-s {assignment!r} is no assignment; write -s link.num_rx_ant=8")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"-s {assignment!r}: the value is no YAML: {error}") from error
    for part in reversed(parts):
        tree = {part: tree}
    return tree


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merge key by key; everything else, lists included, is replaced."""
    merged = dict(tree)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate(kind: type[RecordType], tree: Mapping[str, Any]) -> RecordType:
    """Validate a nested mapping; every error names its key."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        known = kind().plain()
        raise ConfigError("\n".join(_explain(known, problem) for problem in error.errors())) from error


def _explain(known: Mapping[str, Any], problem: Any) -> str:
    loc = [str(part) for part in problem["loc"]]
    key = ".".join(loc) or "the configuration"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        siblings: Any = known
        for part in loc[:-1]:
            siblings = siblings.get(part, {}) if isinstance(siblings, Mapping) else {}
        close = difflib.get_close_matches(loc[-1], siblings, n=1)
        hint = f"did you mean {'.'.join([*loc[:-1], close[0]])!r}?" if close else f"known here: {', '.join(siblings)}"
        return f"unknown key {key!r}; {hint}"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')} (got {problem['input']!r})"
