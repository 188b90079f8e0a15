"""The table of curves: each row has a name, a line and parts of its own; one row and one part add a curve."""

import functools
import importlib
import json
import sys

import matplotlib as mpl
import numpy as np
import pytest

from studies import accuracy_vs_snr, curves, plots, provenance, run_folder, tables
from studies.accuracy_vs_snr import STUDY, Config
from studies.config import ConfigError, resolve
from studies.curves import CURVES, Curve
from studies.schemes.carriers import lossless
from studies.schemes.scheme import Scheme
from studies.study_config import ModelsConfig

ROWS = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)


def test_every_curve_has_a_label_and_a_line_of_its_own():
    assert len({curve.label for curve in CURVES.values()}) == len(CURVES)
    assert len({json.dumps(dict(curve.line), sort_keys=True) for curve in CURVES.values()}) == len(CURVES)


@ROWS
def test_a_row_can_be_drawn_read_in_one_line_and_found_in_any_process(curve):
    mpl.lines.Line2D([0], [0], **curve.line)  # refuses a key or a value that is no style
    assert curve.weights in ModelsConfig.model_fields
    assert 0 < len(curve.about) <= 100
    assert "\n" not in curve.about + curve.label
    for part in (curve.encoder, curve.carrier, curve.reader):
        if part is not None:
            assert getattr(importlib.import_module(part.__module__), part.__qualname__) is part
    assert curves.find(curve.name) is curve


def test_parts_that_disagree_about_the_weights_are_refused():
    def part(**content):
        return type("Part", (lossless.Everything,), {"determined_by": lambda self: content})()

    with pytest.raises(ValueError, match="encoder, carrier and reader of a curve disagree about 'agents'; give it"):
        Scheme(None, part(agents="a"), part(agents="b"))
    assert Scheme(None, part(agents="a"), part(agents="a", more=1)).determined_by() == {"agents": "a", "more": 1}


def test_a_part_that_hides_its_module_is_refused():
    with pytest.raises(TypeError, match=r"curve 'odd': its parts must be functions.*got functools\.partial"):
        Curve(name="odd", carrier=functools.partial(lossless.everything), reader=str, about="", label="")


# --- a curve from outside of the package ---------------------------------------------------------------------------


def legend(figure):
    """The handles of a figure's legend, by label."""
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    return dict(zip(labels, axes.get_legend().legend_handles, strict=True))


def test_a_curve_joins_from_outside_of_the_package(fakes, drawn, config, own_curve, tmp_path):
    mine = f"{own_curve}:MY_CURVE"
    config = config.updated({"schemes": ["machine-tokens", mine], "snr_db": [-20.0, -5.0, 40.0]})
    results, failed, folder = accuracy_vs_snr.main(config, out=tmp_path / "run")
    assert not failed
    assert results.schemes == ["machine-tokens", "louder-tokens"]
    ratio = results.of("code_nmse", "louder-tokens") / results.of("code_nmse", "machine-tokens")
    np.testing.assert_allclose(ratio, 10**-0.6, rtol=1e-3)
    for make in (tables.accuracy_table, tables.family_table, tables.ledger_table):
        assert "louder-tokens" in {row[0] for row in make(results).rows}
    csv = (folder / "figures" / "accuracy-vs-snr.csv").read_text()
    assert f"louder-tokens,40,{results.of('accuracy', 'louder-tokens')[-1]:.6f}" in csv
    lines = legend(drawn[-1])
    assert list(lines) == ["machine tokens", "tokens, louder"]
    assert (lines["tokens, louder"].get_color(), lines["tokens, louder"].get_marker()) == ("#12ab34", "d")

    sys.modules.pop(own_curve)  # a figure can be drawn again where the module is not
    picture = (folder / "figures" / "accuracy-vs-snr.png").read_bytes()
    plots.draw_accuracy(run_folder.collect(folder), folder=tmp_path / "again", name="accuracy-vs-snr")
    assert (tmp_path / "again" / "accuracy-vs-snr.png").read_bytes() == picture


def test_points_of_a_curve_from_outside_depend_on_its_file(fakes, config, own_curve, tmp_path):
    config = config.updated({"schemes": ["machine-tokens", f"{own_curve}:MY_CURVE"]})
    before = {job.id: job.kind for job in STUDY.plan(config, tmp_path).jobs}
    path = tmp_path / "own" / f"{own_curve}.py"
    path.write_text(path.read_text().replace("snr_db + 6", "snr_db + 7"))
    provenance.source_hash.cache_clear()
    after = {job.id: job.kind for job in STUDY.plan(config, tmp_path).jobs}
    kept = {kind for job_id, kind in before.items() if job_id in after}
    assert kept == {"machine-tokens", "codes by tokens"}
    assert "louder-tokens" not in kept
    assert sum(kind == "louder-tokens" for kind in after.values()) == len(config.snr_db)


def test_curves_that_cannot_be_found_or_told_apart_are_refused(own_curve):
    for name, message in [
        (f"{own_curve}:OTHER", f"'{own_curve}:OTHER' cannot be imported: .*write MODULE:ATTRIBUTE"),
        ("no_such_module:X", "'no_such_module:X' cannot be imported: No module named"),
        (f"{own_curve}:AGENTS", f"'{own_curve}:AGENTS' is FakeAgents, not studies.curves.Curve"),
        ("machine-token", "there is no curve 'machine-token'; did you mean 'machine-tokens'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            resolve(Config, assignments=[f"schemes=['{name}']"])
    with pytest.raises(ConfigError, match="two curves are called 'louder-tokens'"):
        resolve(Config, assignments=[f"schemes=['{own_curve}:MY_CURVE', '{own_curve}:AGAIN']"])
