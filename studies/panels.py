"""Which line goes into which panel, and how lines of one panel are told apart: many curves become small multiples."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.colors import to_hex, to_rgb

from studies.chart import Line, Panel
from studies.curves import CONTROLS, GROUPS

MANY = 6  # curves of a panel; more of them are spread over several
OTHERS = "other curves"
CHANGES: tuple[dict[str, Any], ...] = (  # lines of one scheme, from the last value backwards
    {},
    {"linestyle": "--", "markerfacecolor": "white"},
    {"linestyle": ":", "markerfacecolor": "white"},
    {"linestyle": "-.", "markerfacecolor": "white"},
)


def arrange(lines: Sequence[Line]) -> tuple[tuple[Panel, ...], tuple[Line, ...]]:
    """Spread lines over panels, and return these and the lines that all of them share.

    Up to `MANY` curves stay together. More of them get a panel for each group; where a scheme has lines at several
    values of another axis, a panel for each value or, if there are fewer schemes than values, for each scheme. The
    proposal and the levels of bounds and controls are in all panels.

    Parameters
    ----------
    lines : sequence of Line
    """
    curves = [line for line in lines if not line.level]
    num_values, num_schemes = len({line.at for line in curves}), len({line.scheme for line in curves})
    if len({(line.scheme, line.at) for line in curves}) <= MANY:
        return (Panel(lines=_told_apart(lines)),), ()
    shared = [line for line in lines if line.level and (line.group == CONTROLS or num_values > 1)]
    own = [line for line in lines if line not in shared]
    by_scheme = num_values > num_schemes
    parts = _by_scheme(own) if by_scheme else _by_value_and_group(own, grouped=num_schemes > MANY)
    if len(parts) < 2:
        return (Panel(lines=_told_apart(lines)),), ()
    levels = tuple(map(_as_reference, shared))
    proposals = [] if by_scheme else [line for line in own if line.proposal and line.label]
    panels = []
    for title, of_panel in parts:
        there = any(line.proposal for line in of_panel)
        elsewhere = [_as_reference(line) for line in proposals if line.at == of_panel[0].at and not there]
        bare = [replace(line, at="") for line in of_panel] if not by_scheme else of_panel
        panels.append(Panel(title=title, lines=_told_apart(bare), references=(*levels, *elsewhere)))
    legend = {line.label: line for panel in panels for line in panel.references}
    return tuple(panels), tuple(legend.values())


def lighter(color: Any, share: float) -> str:
    """Mix a colour with a share of white."""
    red, green, blue = ((1 - share) * part + share for part in to_rgb(color))
    return to_hex((red, green, blue))


def _by(attribute: str, lines: Iterable[Line]) -> list[list[Line]]:
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(getattr(line, attribute), []).append(line)
    return list(parts.values())


def _by_scheme(lines: Iterable[Line]) -> list[tuple[str, list[Line]]]:
    return [(part[0].label, [replace(line, label="") for line in part]) for part in _by("scheme", lines)]


def _by_value_and_group(lines: Iterable[Line], *, grouped: bool) -> list[tuple[str, list[Line]]]:
    order = {group: number for number, group in enumerate(GROUPS)}
    parts = []
    for of_value in _by("at", lines):
        at = f"at {of_value[0].at}" if of_value[0].at else ""
        groups = sorted(_by("group", of_value), key=lambda part: order.get(part[0].group, len(order)))
        for part in groups if grouped else [of_value]:
            title = part[0].group or OTHERS if grouped else ""
            parts.append((", ".join(words for words in (title, at) if words), part))
    return parts


def _as_reference(line: Line) -> Line:
    """Return a line as panels show it that are about others: thin, without interval, the proposal in grey."""
    style = {**line.style, "linewidth": 0.8}
    if line.proposal:
        style = {"color": "0.55", "linestyle": "-", "linewidth": 0.8}
        return replace(line, label=f"{line.label}, for comparison", style=style, low=None, high=None, proposal=False)
    return replace(line, style=style, low=None, high=None)


def _told_apart(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Name and vary the lines of each scheme: the last as usual, those before it lighter and dashed."""
    varied = {}
    for of_scheme in _by("scheme", lines):
        for back, line in enumerate(reversed(of_scheme)):
            label = ", ".join(part for part in (line.label, line.at) if part)
            style = {**line.style, **CHANGES[back % len(CHANGES)]} if line.at else dict(line.style)
            if line.at and "color" in style:
                style["color"] = lighter(style["color"], 0.5 * back / max(1, len(of_scheme) - 1))
            varied[line] = replace(line, label=label, style=style)
    return tuple(varied[line] for line in lines)
