"""The report page: what stands on it, and that names of others stay text and nothing is fetched."""

import base64
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from studies import archive, curves, overview, plots, risk, tables
from studies.page import gallery, markup, report_page
from studies.page.chart import marker_path
from studies.page.lines import lines_of
from studies.tables import Grid, visible
from tests.studies.pages import SCRIPT, case, hostile_results, judged, parsed, results
from tests.studies.test_hostile_names import HOSTILE
from tests.studies.test_hostile_names import results as named_results
from tests.studies.test_overview import ACCURACY, FIXED

LARGEST = 5_000_000  # bytes


# --- what stands on it ---------------------------------------------------------------------------------------------


def test_every_element_is_closed_and_every_reference_leads_somewhere():
    shown = gallery.Gallery([0.0, 20.0], "", [case(), case(5)], 0)
    seeds = results({"machine-tokens": [[0.6, 0.7], [0.5, 0.9]]}, axes={"seed": [0, 1], "snr_db": [-10.0, 20.0]})
    seeds.attributes.update(study="accuracy-vs-seed")
    document = parsed(report_page.page([results(), seeds], judged(), shown))
    ids = [part.attributes["id"] for part in document.all() if "id" in part.attributes]
    assert len(set(ids)) == len(ids)
    for part in document.all():
        for name in ("aria-labelledby", "href"):
            if name in part.attributes:
                assert part.attributes[name].removeprefix("#") in ids
    assert document.all("html")[0].attributes["lang"] == "en"
    assert document.all("body")[0].all("a")[0].text == "Skip to the content"
    assert [len(document.all(name)) for name in ("main", "h1", "title", "nav", "header")] == [1] * 5
    levels = [int(part.name[1]) for part in document.all() if part.name in ("h1", "h2", "h3")]
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))
    assert all(image.attributes["alt"] for image in document.all("img"))
    assert all(part.attributes["aria-label"] for part in document.all(role="region"))
    text = document.text
    for words in ("channel cdl-c, 4x8 antennas, 400 questions", "machine-tokens, 2 trainings", "link.num_rx_ant"):
        assert words in text


def test_every_table_has_a_caption_and_heads_and_all_cells_of_the_terminals():
    run = results()
    document = parsed(report_page.page([run], judged(), None))
    found = {}
    for part in document.all("table"):
        (caption,) = part.all("caption")
        assert all(head.attributes["scope"] == "col" for head in part.all("thead")[0].all("th"))
        rows = part.all("tbody")[0].all("tr")
        assert all([cell.attributes.get("scope") for cell in row.all("th")] == ["row"] for row in rows)
        assert {len(row.parts) for row in rows} <= {len(part.all("thead")[0].all("th"))}
        found[caption.text] = [[cell.text for cell in row.parts] for row in rows]
    rows = overview.compared(run)
    for grid in (
        tables.accuracy_table(run),
        tables.family_table(run),
        tables.comparison_table(run),
        tables.ledger_table(run),
        overview.overview_table(rows),
        overview.mcnemar_table(rows),
        overview.equal_table(run),
    ):
        expected = [[cell.replace("\n", "") for cell in row] for row in grid.rows]
        assert found[grid.title.replace("\n", " ")] == expected
    assert not [title for title in found if title.startswith(("Schemes less their bounds", "PSNR"))]  # without rows


def test_a_table_of_risk_has_coverage_and_calibration_of_every_curve_that_is_sure_of_something():
    run = named_results("deepjscc", values=(0.0, 20.0))
    grid = risk.risk_table(run)
    assert [row[0] for row in grid.rows] == [
        f"{scheme}, mood {mood}" for scheme in ("deepjscc", "machine-tokens") for mood in ("good", "other")
    ]
    correct = run.of("correct", "machine-tokens")[1, 0]
    confidence = run.of("confidence", "machine-tokens")[1, 0]
    coverage, gap = risk.coverage_at(correct, confidence), risk.calibration_error(correct, confidence)
    assert grid.rows[2][2] == f"{100 * coverage:.0f}\n{100 * gap:.1f}"
    run.variables["confidence"][:, 1] = np.nan
    assert risk.risk_table(run).rows[2][2] == "missing"
    assert not risk.risk_table(results()).rows


def test_claims_stand_with_their_verdict_numbers_and_rule():
    document = parsed(report_page.page([results()], judged("tokens win"), None))
    (item,) = document.all("ol", class_="claims")[0].all("li")[:1]
    assert item.all(class_="verdict")[0].text == "reproduced"
    assert "tokens win: +10.0 [+5.0, +20.0]" in item.text
    assert "Rule: tokens win." in item.text


# --- the figure ----------------------------------------------------------------------------------------------------


@pytest.fixture
def figure():
    accuracy = {**ACCURACY, "bound-linear": [0.7, 0.8, 0.9, 0.95], "silent-link": [np.nan] * 4}
    run = results(accuracy)
    for name in ("accuracy", "accuracy_low", "accuracy_high"):
        run.variables[name][list(accuracy).index("silent-link")] = np.nan
        run.variables[name][list(accuracy).index("deepjscc"), 1] = np.nan
    (drawn,) = parsed(report_page.page([run], [], None)).all("figure", class_="chart")
    return run, drawn


def drawn_lines(chart):
    return {json.loads(line.attributes["data-of"])[0]: line for line in chart.all("g") if "data-of" in line.attributes}


def test_a_line_for_each_scheme_has_its_colour_dashes_and_a_point_that_tells_its_interval(figure):
    run, chart = figure
    lines = drawn_lines(chart)
    assert list(lines)[-1] == "machine-tokens"  # drawn last, never hidden
    assert set(lines) == {*ACCURACY, "bound-linear"}
    bounds = (run.of(name, "machine-tokens") for name in ("accuracy", "accuracy_low", "accuracy_high"))
    for point, at, *percent in zip(lines["machine-tokens"].all("g"), (-15, -10, 0, 20), *bounds, strict=True):
        mean, low, high = (f"{100 * value:.1f}" for value in percent)
        assert point.attributes["aria-label"] == f"machine tokens, {at} dB: {mean} %, 95 % interval {low} to {high}"
    assert lines["machine-tokens"].has({"class": "c08519c"})
    assert len(lines["deepjscc"].all("g", class_="point")) == 3
    assert lines["deepjscc"].all("path", fill=None)[1].attributes["d"].count("M") == 2  # broken at the missing point
    for scheme, dashes in {"machine-tokens": None, "raw-image": "6 3", "question-only": "1.6 2.6"}.items():
        paths = [path for path in lines[scheme].all("path") if not path.attributes.get("class")]
        assert [path.attributes.get("stroke-dasharray") for path in paths] == [dashes]


def test_points_stand_where_their_accuracy_is(figure):
    _, chart = figure
    beside = {float(text.text): float(text.attributes["y"]) for text in chart.all("g", class_="beside")[0].all("text")}
    below = {float(text.text): float(text.attributes["x"]) for text in chart.all("g", class_="below")[0].all("text")}
    lines = drawn_lines(chart)
    level = lines["raw-image"]
    expected = np.interp(float(level.attributes["data-value"].split(" %")[0]), list(beside), list(beside.values()))
    assert float(level.attributes["data-y"]) == pytest.approx(expected, abs=0.2)
    assert {path.attributes["d"].split("H")[0] for path in level.all("path")} == {f"M66 {level.attributes['data-y']}"}
    for point in lines["machine-tokens"].all("g"):
        at, percent = point.attributes["data-label"].split(", ")[1], point.attributes["data-value"].split(" %")[0]
        expected = np.interp(float(percent), list(beside), list(beside.values()))
        assert float(point.attributes["data-y"]) == pytest.approx(expected, abs=0.2)
        assert float(point.attributes["data-x"]) == pytest.approx(below[float(at.split(" ")[0])], abs=0.2)


@pytest.mark.parametrize(("num_values", "shown", "on_phones"), [(3, 3, 3), (21, 21, 11), (80, 27, 14)])
def test_heads_of_a_long_axis_do_not_lie_on_each_other(num_values, shown, on_phones):
    snr_db = np.linspace(10, 90, num_values).round().tolist()
    run = results({"raw-image": [0.5] * num_values}, axes={"snr_db": snr_db})
    heads = parsed(report_page.page([run], [], None)).all("g", class_="below")[0].all("text")
    assert len(heads) == shown
    assert shown - sum(head.has({"class": "dense"}) for head in heads) == on_phones
    places = [float(head.attributes["x"]) for head in heads]
    assert min(np.diff(places)) > 8 * 2


def test_levels_cross_the_figure_and_bounds_have_hairs(figure):
    _, chart = figure
    lines = drawn_lines(chart)
    assert lines["raw-image"].has({"class": "level"})
    assert not lines["raw-image"].all(class_="marker")
    assert [len(line.all("rect", class_="band")) for line in (lines["raw-image"], lines["machine-tokens"])] == [1, 0]
    hairs = {
        name: sum("v-6" in (path.attributes["d"] or "") for path in line.all("path")) for name, line in lines.items()
    }
    assert {name for name, count in hairs.items() if count} == {"bound-linear"}
    assert "a line with hairs is a bound" in chart.all("figcaption")[0].text


def test_a_second_axis_has_switches_and_a_line_for_each_of_its_values():
    accuracy = {"machine-tokens": [[0.5, 0.6], [0.7, 0.8]], "raw-image": [[0.9, 0.9]] * 2}
    run = results(accuracy, axes={"num_tokens": [1, 5], "snr_db": [0.0, 20.0]})
    (chart,) = parsed(report_page.page([run], [], None)).all("figure")
    keys = [json.loads(line.attributes["data-of"]) for line in chart.all("g") if "data-of" in line.attributes]
    assert keys == [["raw-image"], ["machine-tokens", "snr_db=20"], ["machine-tokens", "snr_db=0"]]
    switches = [[box.attributes["value"] for box in group.all("input")] for group in chart.all("fieldset")]
    assert switches == [["machine-tokens", "raw-image"], ["snr_db=0", "snr_db=20"]]
    assert all("disabled" in group.attributes for group in chart.all("fieldset"))  # until there is a script
    assert chart.all("legend")[1].text == "SNR per receive antenna [dB]"
    dashes = [
        label.all("path")[0].attributes.get("stroke-dasharray") for label in chart.all("fieldset")[1].all("label")
    ]
    assert dashes == ["6 3", None]  # as in the lines of the proposal


def test_every_curve_of_the_table_can_be_drawn_and_seen_in_the_dark():
    run = results({name: np.full(4, 0.5) for name in curves.CURVES}, peak_db=np.full(len(curves.CURVES), np.nan))
    lines = {line.scheme: line for line in lines_of(run)}
    assert set(lines) == set(curves.CURVES)
    for name, curve in curves.CURVES.items():
        style = lines[name].style
        assert report_page.contrast(report_page.lightened(style.colour), report_page.DARK_PAPER) >= 4.5
        assert style.marker == curve.line.get("marker", "")
        assert bool(style.dashes) == (curve.line["linestyle"] != "-")
    assert report_page.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert f"--paper: {report_page.DARK_PAPER};" in (report_page.FOLDER / "style.css").read_text()


def test_markers_are_those_of_matplotlib():
    path, filled = marker_path("s")
    assert filled
    assert path == "M-3.75 3.75L3.75 3.75L3.75 -3.75L-3.75 -3.75Z"
    assert not marker_path("x")[1]


@pytest.mark.parametrize(
    ("line", "colour"),
    [
        ({"color": SCRIPT, "marker": 7, "linestyle": [0, [1, "x"]]}, "#555555"),
        ({"marker": SCRIPT}, plots.SPARE_COLOURS[1]),  # a colour that is not told is a spare one
        ({}, plots.SPARE_COLOURS[1]),
    ],
)
def test_a_style_that_is_none_is_drawn_without_it(line, colour):
    run = results({"machine-tokens": ACCURACY["machine-tokens"], "own": ACCURACY["deepjscc"]})
    run.attributes["own_curves_json"] = json.dumps({"own": {"label": SCRIPT, "line": line, "level": False}})
    own = next(line for line in lines_of(run) if line.scheme == "own")
    assert (own.style.colour, own.style.marker, own.style.dashes) == (colour, "", "")
    assert SCRIPT not in report_page.page([run], [], None)


def test_a_run_without_a_complete_point_says_so():
    run = results()
    for name in ("accuracy", "accuracy_low", "accuracy_high"):
        run.variables[name][:] = np.nan
    run.variables["correct"][:] = archive.MISSING
    assert "No curve of this run is complete yet." in report_page.page([run], [], None)


# --- texts of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*HOSTILE, "</style><img src=x onerror=alert(1)>", "\ud83d\0\u202e", "-->'\"&amp;"])
def test_names_of_others_stay_text(name):
    shown = gallery.Gallery([0.0, 20.0], name, [case(question=name)], 1)
    page = report_page.page([hostile_results(name)], judged(name), shown)
    page.encode()
    document = parsed(page)
    (script,) = document.all("script")
    assert script.text == (report_page.FOLDER / "script.js").read_text()
    assert {part.name for part in document.all()} == ELEMENTS
    assert not [key for part in document.all() for key in part.attributes if key.startswith("on") or key == "style"]
    assert {visible(name), f"vaguely {visible(name)}"} <= {
        text for part in document.all() if not part.all() for text in (part.text, part.text.strip("“”"))
    }
    assert visible(name) in [box.attributes["value"] for box in document.all("input")]


ELEMENTS = set(
    "html head meta title style body a header h1 nav ul li main section h2 p figure svg g line text path circle rect "
    "figcaption fieldset legend label input span button article h3 div img dl dt dd strong table caption thead tr th "
    "tbody td small ol br script".split()
)


def test_markup_escapes_whatever_is_not_html():
    made = markup.element("p", "<b>", markup.Html("<i></i>"), 'a"\x1b', class_='"><x', hidden=True, id=None, width=0.5)
    assert made == '<p class="&quot;&gt;&lt;x" hidden width="0.5">&lt;b&gt;<i></i>a&quot;\\x1b</p>'
    assert markup.element("br") == "<br>"
    grid = Grid("a\nb", ["<h>", "x"], [["r<", "1\n2"]])
    (found,) = parsed(markup.table(grid)).all("table")
    assert [cell.text for cell in found.all("th")] == ["<h>", "x", "r<"]
    assert found.all("caption")[0].text == "a b"


def test_nothing_is_fetched_and_nothing_else_may_run():
    shown = gallery.Gallery([0.0, 20.0], "", [case()], 0)
    page = report_page.page([results()], judged(), shown)
    assert "://" not in page
    document = parsed(page)
    for part in document.all():
        for key in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
            assert part.attributes.get(key, "#").startswith(("#", "data:image/"))
    style, script = (document.all(name)[0].text for name in ("style", "script"))
    assert not any(word in style for word in ("url(", "@import", "@font-face"))
    digests = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (style, script)
    ]
    policy = document.all("meta", http_equiv="Content-Security-Policy")[0].attributes["content"]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src {digests[0]}; script-src {digests[1]}; base-uri 'none'; "
        "form-action 'none'"
    )


def test_the_largest_page_stays_below_five_megabytes(monkeypatch):
    monkeypatch.setattr(overview, "compare", lambda *outcomes, images: FIXED)
    names, snr_db = [*curves.CURVES], list(np.arange(-20.0, 21.0, 2.0))
    accuracy = {name: np.linspace(0.5, 0.9, len(snr_db)) for name in names}
    run = results(accuracy, axes={"snr_db": snr_db}, peak_db=np.full(len(names), 9.0))
    huge = replace(case(shape=(40, 4096), num_snrs=5, side=2000), answers={name: [None] * 5 for name in names})
    page = report_page.page([run], [], gallery.Gallery([0.0, 1.0, 2.0, 3.0, 4.0], "", [huge] * 24, 0)).encode()
    assert 500_000 < len(page) < LARGEST
    assert b"codes as sent, the first 16 x 256 numbers" in page
