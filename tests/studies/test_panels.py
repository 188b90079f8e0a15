"""Which line goes into which panel, and how lines are told apart, in grey too."""

import itertools

import pytest
from matplotlib.colors import to_rgb

from studies import plots
from studies.curves import CURVES, DEFAULT, GROUPS
from tests.studies.made_up_results import SIXTEEN, SNR_DB, THREE, made_up


def grey(color):
    """How light a colour is on paper without colours, from 0 to 1 (ITU-R BT.601)."""
    red, green, blue = to_rgb(color)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_two_curves_differ_in_marker_or_dashes():
    drawn = [(curve.line.get("marker"), str(curve.line.get("linestyle"))) for curve in CURVES.values()]
    assert len(set(drawn)) == len(CURVES)


def test_two_curves_that_run_by_default_differ_in_marker_or_in_grey():
    for one, other in itertools.combinations((CURVES[name].line for name in DEFAULT), 2):
        assert one.get("marker") != other.get("marker") or abs(grey(one["color"]) - grey(other["color"])) > 0.15


def test_every_curve_has_a_group_and_every_bound_is_drawn_as_one():
    for curve in CURVES.values():
        assert curve.group in GROUPS
        assert curve.hatched or "bound)" not in curve.label
        assert not (curve.hatched and "marker" in curve.line)


def test_many_curves_have_a_panel_for_each_group_with_the_proposal_and_the_levels_in_all():
    chart = plots.accuracy_chart(made_up(SIXTEEN, {"snr_db": SNR_DB}))
    assert [panel.title for panel in chart.panels] == list(GROUPS)
    shown = [line.scheme for panel in chart.panels for line in panel.lines]
    assert sorted(shown) == sorted(set(SIXTEEN) - {"raw-image", "question-only", "silent-link"})
    for panel in chart.panels:
        assert {CURVES[line.scheme].group for line in panel.lines} == {panel.title}
        there = {line.scheme for line in (*panel.lines, *panel.references)}
        assert {"machine-tokens", "raw-image", "question-only", "silent-link"} <= there
        for line in panel.references:
            assert line.intervals is None
            assert line.style["linewidth"] < 1
            assert not line.proposal
    assert {line.scheme for line in chart.legend} == {"machine-tokens", "raw-image", "question-only", "silent-link"}


def test_few_curves_share_a_panel():
    chart = plots.accuracy_chart(made_up(DEFAULT, {"snr_db": SNR_DB}))
    (panel,) = chart.panels
    assert [line.scheme for line in panel.lines] == list(DEFAULT)
    assert not panel.references + chart.legend


@pytest.mark.parametrize(
    ("schemes", "values", "titles"),
    [
        (("machine-tokens", "caption"), (0.0, 5.0, 10.0, 15.0), ["machine tokens", "caption"]),
        (("machine-tokens", "caption", "jpeg-ldpc", "avif-ldpc"), (0.0, 15.0), ["at 0 dB", "at 15 dB"]),
        (SIXTEEN, (5.0, 15.0), [f"{group}, at {at} dB" for at in (5, 15) for group in GROUPS]),
    ],
    ids=["of each scheme", "of each value", "of both"],
)
def test_curves_at_many_values_of_a_second_axis_are_spread_too(schemes, values, titles):
    results = made_up((*schemes, "raw-image") if len(schemes) < 9 else schemes, {"width": (8, 16), "snr_db": values})
    chart = plots.accuracy_chart(results)
    assert [panel.title for panel in chart.panels] == titles
    lines = [(panel.title, line.label) for panel in chart.panels for line in panel.lines]
    assert len(set(lines)) == len(lines)
    curves = [scheme for scheme in schemes if not CURVES[scheme].level]
    assert len(lines) == len(curves) * len(values)
    for panel in chart.panels:
        for line in panel.references:
            if line.scheme == "machine-tokens":
                assert line.at == panel.title.split("at ")[1]


def test_lines_of_one_scheme_grow_darker_with_the_value_and_differ_in_dashes():
    chart = plots.accuracy_chart(made_up(THREE, {"width": (8, 16), "snr_db": (-5.0, 0.0, 5.0, 15.0)}))
    lines = [line for line in chart.panels[0].lines if not line.level]
    assert [line.label for line in lines] == [f"machine tokens, {at} dB" for at in (-5, 0, 5, 15)]
    greys = [grey(line.style["color"]) for line in lines]
    assert greys == sorted(greys, reverse=True)
    assert len({line.style["linestyle"] for line in lines}) == 4
    assert lines[-1].style == dict(CURVES["machine-tokens"].line)


def test_a_curve_from_outside_of_the_table_has_its_group_or_a_panel_of_others():
    own = '{"mine": {"label": "mine", "line": {"color": "red"}, "level": false, "group": "text", "hatched": false}}'
    results = made_up(("mine", "strange", *SIXTEEN), {"snr_db": SNR_DB}, own_curves_json=own)
    panels = {panel.title: [line.label for line in panel.lines] for panel in plots.accuracy_chart(results).panels}
    assert "mine" in panels["text"]
    assert panels["other curves"] == ["strange"]
