import io

import numpy as np
import pytest
from rich.console import Console

from phy.config import LinkConfig
from studies import antennas, channels, estimation, gradients, link_tables, plots, run_folder, study
from studies.axes import Impossible
from studies.config import ConfigError
from studies.study import Study

OF_LINK = (antennas.STUDY, channels.STUDY, estimation.STUDY)


def run(chosen, changes, config, folder):
    """Run a study of the link with the stand-ins of `fakes`."""
    small = {"num_questions": 30, "batch_size": 7, "snr_db": [0.0, 40.0], **changes}
    return chosen.main(chosen.Config().updated(small), out=folder)


@pytest.mark.parametrize("chosen", OF_LINK, ids=lambda chosen: chosen.name)
def test_every_default_setting_is_a_link_or_is_refused_with_a_reason(chosen):
    config = chosen.Config()
    axis, values = next(iter(chosen.axes(config).items()))
    links, reasons = [], []
    for value in values:
        try:
            links.append(chosen.configure(config, {axis: value}).link)
        except Impossible as error:
            reasons.append(str(error))
    assert all(isinstance(link, LinkConfig) for link in links)
    assert len(links) >= 10
    assert [reason.partition(":")[0] for reason in reasons] == (
        ["8x2 ls", "8x3 ls"] if chosen is antennas.STUDY else []
    )


def test_any_pair_of_numbers_is_a_set_of_antennas():
    config = antennas.Config()
    link = antennas.STUDY.configure(config, {"antennas": "3x11"}).link
    assert (link.num_tx_ant, link.num_rx_ant, link.recovery) == (3, 11, config.link.recovery)
    chosen = antennas.STUDY.configure(config, {"antennas": "8x2 vamp prior"})
    assert (chosen.link.recovery, chosen.models.code_prior) == ("vamp", "own")
    assert antennas.STUDY.configure(config, {"antennas": "8x2 prior"}).models.code_prior == "own"


@pytest.mark.parametrize(
    ("chosen", "key", "value"),
    [
        (antennas.STUDY, "antennas", "4 by 8"),
        (antennas.STUDY, "antennas", "4x8 vamp prior please"),
        (channels.STUDY, "channels", "cdl-c 300"),
        (channels.STUDY, "channels", "cdl-z"),
        (estimation.STUDY, "estimators", "lmmse spacing"),
    ],
)
def test_a_value_that_says_nothing_is_refused_with_its_key(chosen, key, value):
    with pytest.raises(ConfigError, match=rf"^{key}: "):
        chosen.Config().updated({key: [value]})


def test_a_long_channel_gets_a_long_cyclic_prefix():
    config = channels.Config()
    usual = channels.STUDY.configure(config, {"channel": "cdl-c 120 km/h"}).link
    assert usual.cyclic_prefix_length is None
    assert usual.speed == pytest.approx(120 / 3.6)
    long = channels.STUDY.configure(config, {"channel": "cdl-c 1000 ns"}).link
    assert long.cyclic_prefix_duration >= 8.6523e-6 > usual.cyclic_prefix_duration  # TR 38.901, table 7.7.1-3
    with pytest.raises(Impossible, match=r"tdl-e 9000 ns: .* excess delay of 186 us"):
        channels.STUDY.configure(config, {"channel": "tdl-e 9000 ns"})


def test_pairs_become_an_axis_when_there_are_several():
    config = channels.Config().updated({"pairs": ["clevr-mini", "/somewhere/over-awgn"]})
    assert list(channels.STUDY.axes(config)) == ["channel", "snr_db", "pair"]
    chosen = channels.STUDY.configure(config, {"channel": "awgn", "pair": "over-awgn"})
    assert chosen.models.machine_tokens == "/somewhere/over-awgn"
    assert config.public()["pairs"] == ["clevr-mini", "over-awgn"]


def test_a_refused_setting_is_named_and_costs_no_other_point(fakes, config, tmp_path):
    changes = {"antennas": ["2x4", "8x2 ls", "8x2"], "schemes": ["machine-tokens", "question-only"]}
    finished = run(antennas.STUDY, changes, config, tmp_path)
    assert not finished.failed
    results = finished.results
    assert results.attributes["num_missing_points"] == 0
    accuracy = results.along("accuracy", "machine-tokens")  # [antennas, snr_db]
    assert np.isnan(accuracy[1]).all()
    assert np.isfinite(accuracy[[0, 2]]).all()
    (reason,) = link_tables.refusals(results)
    assert reason.startswith("8x2 ls: recovery='ls' has no solution: 8 real unknowns")
    console = Console(file=io.StringIO(), width=100)
    console.print(link_tables.settings_table(results))
    (line,) = [line for line in console.file.getvalue().splitlines() if "8x2 ls" in line]
    assert line.split()[-4:] == ["-"] * 4
    assert plots.caption(results).endswith("No such link: 8x2 ls.")


def test_the_sensor_looks_once_whatever_the_number_of_antenna_sets(fakes, config, tmp_path):
    run(antennas.STUDY, {"antennas": ["1x1", "2x4", "4x8", "8x8"]}, config, tmp_path)
    assert fakes["agents"].num_encoded == 30


def test_points_of_one_link_stand_together(fakes, config, tmp_path):
    small = antennas.Config().updated({"num_questions": 30, "antennas": ["2x4", "4x8"], "snr_db": [0.0, 10.0, 20.0]})
    labels = [job.label for job in antennas.STUDY.plan(small, tmp_path).points if "antennas" in job.label]
    sets = [label.split(", ")[1] for label in labels]
    assert sets == ["2x4 antennas"] * 3 + ["4x8 antennas"] * 3


def test_the_error_of_the_codes_is_a_figure_of_its_own(fakes, drawn, config, tmp_path):
    run(antennas.STUDY, {"antennas": ["2x4", "8x2 ls", "8x2"]}, config, tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"antennas.png", "antennas.pgf", "antennas-nmse.png", "antennas-nmse.pdf"} <= names
    results = run_folder.collect(tmp_path)
    with pytest.raises(ConfigError, match="draws a figure of its own, which has no y_range; leave it out"):
        study.draw_figures(results, tmp_path, "impairments", width=None, y_range=(40.0, 90.0))


def test_gradients_are_compared_between_two_pairs_that_were_trained_for_it():
    with pytest.raises(
        ConfigError, match=r"^pairs: two pairs of agents with different names are needed, .* --gradient exact"
    ):
        gradients.STUDY.axes(gradients.Config())
    config = gradients.Config().updated({"pairs": ["/here/straight", "/here/exact"]})
    assert gradients.STUDY.axes(config)["pair"] == ["straight", "exact"]
    assert gradients.STUDY.configure(config, {"pair": "exact"}).models.machine_tokens == "/here/exact"


def test_every_study_has_a_paragraph_and_a_tiny_version():
    for name in study.STUDIES:
        found = study.find(name)
        assert isinstance(found, Study)
        assert found.name == name
        found.Config().updated(found.tiny)
