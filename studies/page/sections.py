"""Sections of the page that are text and tables: results, claims, configuration and origin."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from studies import curves, overview, risk, tables
from studies.archive import Results
from studies.claims import Claim
from studies.page.markup import Html, element, joined, table
from studies.tables import Grid

NO_FACTS = ("config_json", "own_curves_json")  # attributes that are shown in another form, or are none


def tables_section(results: Results, seeds: Results | None) -> Html:
    """Return every table of a run that has rows; `seeds` is a run of accuracy-vs-seed, if there is one."""
    return joined(table(grid) for grid in _grids(results, seeds) if grid.rows)


def _grids(results: Results, seeds: Results | None) -> Iterator[Grid]:
    yield tables.accuracy_table(results)
    yield tables.family_table(results)
    if list(results.axes) == ["snr_db"]:
        rows = overview.compared(results)
        yield overview.overview_table(rows, seeds)
        yield overview.mcnemar_table(rows)
    yield tables.comparison_table(results)
    yield tables.ledger_table(results)
    yield overview.equal_table(results)
    yield overview.bounds_table(results)
    if list(results.axes) == ["snr_db"]:
        yield tables.quality_table(results)
    if "seed" in results.axes:
        yield tables.spread_table(results)
    elif list(results.axes)[1:] == ["snr_db"]:
        yield tables.uses_table(results)
    yield risk.risk_table(results)


def claims_section(claims: Sequence[Claim]) -> Html:
    """Return the paper's claims, each with its verdict, its numbers, and the rule that it was judged by."""
    items = []
    for claim in claims:
        judgement = claim.judgement
        numbers = [element("li", str(number)) for number in judgement.numbers]
        items.append(
            element(
                "li",
                element("strong", claim.text),
                element("br"),
                element("span", judgement.verdict, class_="verdict"),
                f" {judgement.conditions}",
                *([element("ul", *numbers)] if numbers else []),
                element("small", f"Rule: {claim.rule}.", class_="rule"),
            )
        )
    note = "Differences in points of accuracy, paired, with 95 % intervals (bootstrap over images)."
    return joined([element("p", note, class_="soft"), element("ol", *items, class_="claims")])


def schemes_section(results: Results) -> Html:
    """Say what each scheme of a run is."""
    own = json.loads(str(results.attributes.get("own_curves_json", "{}")))
    rows = []
    for scheme in results.schemes:
        label = str(own.get(scheme, {}).get("label", "a curve of another version"))
        rows.append([scheme, curves.CURVES[scheme].about if scheme in curves.CURVES else label])
    return _words(Grid("Schemes", ["scheme", "what reaches the answering model"], rows))


def origin_section(results: Results) -> Html:
    """Return the configuration of a run, and what its archive says of where the numbers come from."""
    config = json.loads(str(results.attributes.get("config_json", "{}")))
    settings = [[key, value] for key, value in _flat(config)]
    facts = [[key, str(value)] for key, value in results.attributes.items() if key not in NO_FACTS]
    return joined(
        [
            _words(Grid("Configuration", ["key", "value"], settings)),
            _words(Grid("Attributes of results.h5", ["name", "value"], facts)),
        ]
    )


def setting(results: Results, *keys: str) -> Any:
    """Return a value of a run's configuration; None where it has none."""
    value = json.loads(str(results.attributes.get("config_json", "{}")))
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _words(grid: Grid) -> Html:
    return element("div", table(grid), class_="words")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)
