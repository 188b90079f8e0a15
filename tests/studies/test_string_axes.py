"""A figure whose coordinates are words: antennas "4x8" beside SNR, or alone."""

import csv

import numpy as np
import pytest
import xarray as xr

from studies import archive, plots, run_folder, tables
from studies.config import ConfigError
from studies.schemes.carriers import analog
from studies.study import Study
from studies.study_config import SnrAxis, StudyConfig
from tests.studies.fakes import FakeChannel

ANTENNAS = ("4x4", "2x4", "4x8")  # in an order of their own: neither sorted nor rising


class Config(StudyConfig, frozen=True):
    antennas: tuple[str, ...] = ANTENNAS
    snr_db: SnrAxis = (-20.0, 40.0)


def configure(config, coordinates):
    if "antennas" not in coordinates:
        return config
    num_tx_ant, num_rx_ant = map(int, coordinates["antennas"].split("x"))
    return config.updated({"link": {"num_tx_ant": num_tx_ant, "num_rx_ant": num_rx_ant}})


ORDERS = {
    "first": lambda config: {"antennas": config.antennas, "snr_db": config.snr_db},
    "second": lambda config: {"snr_db": config.snr_db, "antennas": config.antennas},
    "alone": lambda config: {"antennas": config.antennas, "snr_db": config.snr_db[-1:]},
}


def study(order):
    return Study(
        name="accuracy-vs-antennas", Config=Config, axes=ORDERS[order], configure=configure, tiny={"num_questions": 24}
    )


@pytest.fixture
def link_of_antennas(fakes, stand_in):
    """A channel whose noise falls with the antennas; the links that were asked for, in a list."""
    asked = []

    class Channel(FakeChannel):
        def __init__(self, link):
            super().__init__()
            asked.append(f"{link.num_tx_ant}x{link.num_rx_ant}")
            self.gain_db = 10 * np.log10(link.num_rx_ant / link.num_tx_ant)

        def __call__(self, codes, snr_db, realisation):
            return super().__call__(codes, snr_db + self.gain_db, realisation)

    stand_in(analog, "make_channel", lambda link, prior=None: Channel(link))
    return asked


SCHEMES = ("machine-tokens", "raw-image", "question-only")


@pytest.mark.parametrize("order", ORDERS)
def test_a_figure_along_words_names_them_everywhere(link_of_antennas, drawn, order, tmp_path):
    config = Config(num_questions=30, batch_size=7, schemes=SCHEMES)
    plan = study(order).plan(config, tmp_path)
    labels = [job.label for job in plan.points]
    assert labels.count("raw-image") == labels.count("question-only") == 1  # computed once, whatever the antennas
    for antennas in ANTENNAS:
        assert any(f"{antennas} antennas" in label for label in labels)
    assert len(labels) == 2 + len(ANTENNAS) * (1 if order == "alone" else len(config.snr_db))
    assert {job.task.config.link.num_tx_ant for job in plan.points if job.kind == "machine-tokens"} == {2, 4}

    results, failed, folder = study(order).main(config, out=tmp_path)
    assert not failed
    assert set(link_of_antennas) >= set(ANTENNAS)
    for found in (results, archive.read_results(folder / "results.h5"), run_folder.collect(folder)):
        assert found.axes["antennas"].tolist() == list(ANTENNAS)
        assert list(found.axes) == list(ORDERS[order](config))
    with xr.open_dataset(folder / "results.h5", engine="h5netcdf") as data:
        assert list(data.antennas.values) == list(ANTENNAS)
        assert data.antennas.attrs["long_name"] == "transmit x receive antennas"
        best = data.code_nmse.sel(scheme="machine-tokens", antennas="4x8")
        assert (best < data.code_nmse.sel(scheme="machine-tokens", antennas="4x4")).all()

    rows = list(csv.DictReader((folder / "figures" / "accuracy-vs-antennas.csv").open()))
    assert [row["antennas"] for row in rows if row["scheme"] == "machine-tokens"][:1] == [ANTENNAS[0]]
    assert {row["antennas"] for row in rows} == set(ANTENNAS)
    axes = drawn[-1].axes[0]
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    entries = axes.get_legend_handles_labels()[1]
    if order == "second":
        assert ticks == ["-20", "40"]
        assert {f"machine tokens, {antennas} antennas" for antennas in ANTENNAS} <= set(entries)
    else:
        assert ticks == list(ANTENNAS)
        assert axes.get_xlabel() == "antennas, transmit x receive"
        np.testing.assert_array_equal(plots.positions(results, "antennas"), [0, 1, 2])
        assert "machine tokens, 40 dB" in entries
        assert ("machine tokens, -20 dB" in entries) == (order == "first")

    grid = tables.accuracy_table(results)
    if order == "second":
        assert [f"machine-tokens, {antennas} antennas" for antennas in ANTENNAS] == [
            row[0] for row in grid.rows if row[0].startswith("machine-tokens")
        ]
    else:
        assert list(grid.header) == ["scheme / antennas", *ANTENNAS]
    assert sum(row[0] == "raw-image" for row in grid.rows) == 1
    for make in (tables.family_table, tables.comparison_table):
        assert "4x8 antennas" in make(results).title
        assert "40 dB" in make(results).title
    assert tables.ledger_table(results).rows


def test_what_crosses_no_link_is_not_computed_again_for_more_antennas(link_of_antennas, tmp_path):
    config = Config(num_questions=30, batch_size=7, schemes=SCHEMES)
    study("first").main(config, out=tmp_path)
    (tmp_path / "config.yaml").unlink()
    more = study("first").plan(config.updated({"antennas": [*ANTENNAS, "8x8"]}), tmp_path)
    assert [job.label for job in more.pending()] == [
        f"machine-tokens, 8x8 antennas, {snr_db} dB" for snr_db in (-20, 40)
    ]  # and the codes are there


def test_an_axis_that_no_table_knows_is_called_by_its_name(link_of_antennas, tmp_path):
    def configure(config, coordinates):
        return config.updated({"link": {"num_rx_ant": 4 if coordinates.get("mood_of_day") == "bad" else 8}})

    def axes(config):
        return {"mood_of_day": ("good", "bad"), "snr_db": config.snr_db}

    own = Study(name="accuracy-vs-mood", Config=Config, axes=axes, configure=configure, tiny={})
    config = Config(num_questions=30, batch_size=7, schemes=("machine-tokens",), snr_db=(40.0,))
    results, *_ = own.main(config, out=tmp_path)
    assert results.coordinates["mood_of_day"].tolist() == ["good", "bad"]
    assert tables.accuracy_table(results).header == ["scheme / mood_of_day", "good", "bad"]
    assert [job.label for job in own.plan(config, tmp_path).points] == [
        f"machine-tokens, mood_of_day {mood}, 40 dB" for mood in ("good", "bad")
    ]


def test_a_study_without_an_snr_is_refused_before_it_runs(link_of_antennas, tmp_path):
    own = Study(name="no-snr", Config=Config, axes=lambda config: {"antennas": config.antennas}, tiny={})
    with pytest.raises(ConfigError, match="machine-tokens crosses the link, and no-snr has no axis snr_db; give it"):
        own.main(Config(num_questions=30, schemes=("raw-image", "machine-tokens")), out=tmp_path)
    assert not list(tmp_path.iterdir())
