"""One resolved, validated configuration per run: defaults < `--config` file < `--tiny` < `-s key=value`."""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

MOST_SHOWN = 80  # characters of a value in a message
LONGEST = 600  # characters of a message about a value
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's names of a key that is not known
MOST_LINES = 20  # of a message about a configuration
DEEPEST = 20  # levels of lists and keys within each other


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names key, value and way out, a line each."""


class Record(BaseModel, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False):
    """What every part of a study's configuration is: frozen, every key known, every default checked.

    True and false are no numbers, and numbers are neither true nor false: pydantic alone would take `num_rx_ant=true`
    for one antenna.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _keep_true_and_false_apart(cls, given: Any, handler: Callable[[Any], Self]) -> Self:
        record = handler(given)
        if isinstance(given, Mapping) and (taken := list(_taken_for_another(given, record.plain()))):
            raise ValidationError.from_exception_data(cls.__name__, taken)
        return record

    def plain(self) -> dict[str, Any]:
        """Return the configuration as nested dicts, lists, numbers and strings, ready for YAML and JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the configuration as the YAML that `--config` reads."""
        return yaml.dump(self.plain(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

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
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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
    if not equals or not all(parts) or len(parts) > DEEPEST:
        raise ConfigError(f"-s {shown(assignment)} is no assignment; write -s link.num_rx_ant=8")
    try:
        tree: Any = parse_yaml(value)
    except ValueError as error:
        raise ConfigError(f"-s {shown(assignment)}: the value is no YAML: {error}") from error
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
        problems = error.errors()
        known = kind().plain() if any(problem["type"] in UNKNOWN for problem in problems) else {}
        lines = [_explain(known, problem) for problem in problems[:MOST_LINES]]
        more = [f"… and {len(problems) - MOST_LINES} more"] if len(problems) > MOST_LINES else []
        raise ConfigError("\n".join(lines + more)) from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Say of which keys the values differ in two configurations, "there" the old one."""
    for key in sorted({*old, *new}):
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from differences(old[key], new[key], f"{prefix}{key}.")
        elif old.get(key) != new.get(key):
            yield f"{prefix}{key}: {shown(old.get(key))} there, {shown(new.get(key))} here"


def shown(value: Any) -> str:
    """Write a value for a message, its end cut off where it is long."""
    return _cut(repr(value), MOST_SHOWN)


def checked_name(name: str) -> str:
    """Return a name that becomes a file's and stands in tables: without separators of folders, and no formula."""
    if not re.fullmatch(r"\w[^/\\\x00-\x1f\x7f]{0,99}", name):
        raise ValueError(f"{shown(name)} is no name: a letter or digit comes first, and no / or control character")
    return name


def expanded(path: str) -> str:
    """Return a path or a name with ~ in place of a home folder written out; every path of a user goes through here."""
    return os.path.expanduser(path)


# --- YAML ----------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without what loses or changes a value on its way: a key given twice, aliases, tags, numbers of base 60.

    Scalars are those of YAML 1.2 (true, false, null, decimal numbers); everything else is a string.
    """

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 -- PyYAML's own way; filled below
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            self._refuse(event, f"{event.anchor!r} is an anchor or alias (& or *); write the value out")
        if getattr(event, "tag", None) is not None:
            self._refuse(event, f"{event.tag!r} is a tag (!); write the value alone")
        self.depth += 1
        if self.depth > DEEPEST:
            self._refuse(event, f"there are more than {DEEPEST} levels within each other")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                self._refuse(key_node, f"the key {shown(key)} is no string")
            if key in keys:
                self._refuse(key_node, f"the key {shown(key)} stands there twice; leave one out")
            keys.add(key)
        return super().construct_mapping(node, deep)

    @staticmethod
    def _refuse(node: Any, problem: str) -> None:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Dumper(yaml.SafeDumper):
    """The writer that `_Loader` reads: it quotes a string that would be read as a number."""


_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"
)
for _tag, _pattern, _first in (
    ("null", re.compile("~|null|"), ["~", "n", ""]),
    ("bool", re.compile("true|false"), ["t", "f"]),
    ("int", re.compile("[-+]?(0|[1-9][0-9]*)"), list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), _first)


def parse_yaml(text: str) -> Any:
    """Read YAML as `_Loader` takes it; anything else is a ValueError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


# --- messages ------------------------------------------------------------------------------------------------------


def _taken_for_another(given: Any, taken: Any, loc: tuple[str | int, ...] = ()) -> Iterator[InitErrorDetails]:
    """Name the values of which one side is true or false and the other is a number."""
    if isinstance(given, Mapping) and isinstance(taken, Mapping):
        for key in given:
            yield from _taken_for_another(given[key], taken.get(key), (*loc, key))
    elif isinstance(given, (list, tuple)) and isinstance(taken, list):
        for index, value in enumerate(given):  # in any order: an axis is sorted
            if isinstance(value, bool) and not any(isinstance(other, bool) for other in taken):
                yield _no_number((*loc, index), value)
    elif isinstance(given, bool) and isinstance(taken, (int, float)) and not isinstance(taken, bool):
        yield _no_number(loc, given)
    elif isinstance(taken, bool) and isinstance(given, (int, float)) and not isinstance(given, bool):
        yield InitErrorDetails(type=PydanticCustomError("boolean", "write true or false"), loc=loc, input=given)


def _no_number(loc: tuple[str | int, ...], value: bool) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("number", "a number is needed"), loc=loc, input=value)


def _explain(known: Mapping[str, Any], problem: Any) -> str:
    loc = [_cut(str(part), MOST_SHOWN) for part in problem["loc"]]
    key = ".".join(loc) or "the configuration"
    if problem["type"] in UNKNOWN:
        siblings: Any = known
        for part in loc[:-1]:
            siblings = siblings.get(part, {}) if isinstance(siblings, Mapping) else {}
        close = difflib.get_close_matches(loc[-1], siblings, n=1)
        hint = f"did you mean {'.'.join([*loc[:-1], close[0]])!r}?" if close else f"known here: {', '.join(siblings)}"
        return f"unknown key {key!r}; {hint}"
    value, message = problem["input"], _cut(problem["msg"].removeprefix("Value error, "), LONGEST)
    if problem["type"] in ("tuple_type", "list_type") and type(value) in (str, int, float):
        message = f"a list is needed; write {key}='[{_cut(str(value), MOST_SHOWN)}]'"
    return f"{key}: {message} (got {shown(value)})"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 2]} …"
