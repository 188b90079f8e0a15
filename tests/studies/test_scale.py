"""A sweep of thousands of points: memory and open files stay flat, time grows with the points and no faster."""

import os
import time

import numpy as np
import pytest

from studies import archive, plots, risk, run_folder, sweep, tables
from studies.archive import Results
from studies.benchmarks.soak import resident_bytes
from studies.schemes.carriers import analog
from studies.study import Study
from studies.study_config import SnrAxis, StudyConfig
from tests.studies.fakes import FakeChannel

SCHEMES = ("machine-tokens", "wrong-image", "raw-image")
NUM_LINKS = 50
BALLAST = 2**18  # numbers that each link keeps, as its cache of fades does [8 bytes]


class Config(StudyConfig, frozen=True):
    num_links: int = NUM_LINKS
    snr_db: SnrAxis = (0.0,)


def study():
    """A curve has a point at every SNR of every link; links differ in their seed."""
    return Study(
        name="accuracy-vs-link",
        Config=Config,
        axes=lambda config: {"snr_db": config.snr_db, "link_seed": tuple(range(config.num_links))},
        configure=lambda config, at: (
            config.updated({"link": {"seed": at["link_seed"]}}) if "link_seed" in at else config
        ),
        tiny={},
    )


@pytest.fixture
def links(fakes, stand_in):
    """Links that keep memory, and how many were made."""
    made = []

    def make(link, prior=None):
        made.append(link.seed)
        channel = FakeChannel()
        channel.fades = np.ones(BALLAST)
        return channel

    stand_in(analog, "make_channel", make)
    return made


def num_handles():
    return len(os.listdir("/proc/self/fd"))


def measure(num_points, folder):
    """Run a sweep, and rebuild, check and draw its results; return what each takes."""
    snr_db = np.linspace(-100, 100, round(num_points / NUM_LINKS / 2)).tolist()
    config = Config(num_questions=12, batch_size=12, snr_db=snr_db, schemes=SCHEMES)
    seen, before = [], resident_bytes()
    start = time.process_time()
    results, failed, _ = study().main(
        config, out=folder, on_outcome=lambda outcome: seen.append((resident_bytes(), num_handles()))
    )
    run_s = time.process_time() - start
    assert not failed
    taken = {"points": len(seen), "run_s": run_s}
    for name, call in {
        "merge_s": lambda: run_folder.collect(folder),
        "check_s": lambda: run_folder.check(folder),
        "tables_s": lambda: [tables.accuracy_table(results), tables.ledger_table(results)],
    }.items():
        start = time.process_time()
        call()
        taken[name] = time.process_time() - start
    taken["links_bytes"] = seen[0][0] - before  # the plan is laid, and has made every link
    taken["grown_bytes"], taken["grown_handles"] = (
        last - early for last, early in zip(seen[-1], seen[len(seen) // 10], strict=True)
    )
    taken["resident_bytes"], taken["handles"] = seen[-1]
    print({name: round(value, 2) for name, value in taken.items()}, flush=True)
    return taken


def test_a_sweep_over_many_links_keeps_few_of_them(links, tmp_path):
    taken = measure(200, tmp_path)
    assert len(links) > 2 * NUM_LINKS
    assert taken["grown_handles"] == 0
    assert taken["links_bytes"] + taken["grown_bytes"] < (sweep.KEPT + 10) * 8 * BALLAST


@pytest.mark.thousands
def test_memory_and_files_are_flat_over_ten_thousand_points_and_time_is_linear(links, tmp_path):
    taken = [measure(count, tmp_path / str(count)) for count in (1000, 3000, 10_000)]
    few, _, many = taken
    factor = many["points"] / few["points"]
    assert factor > 9
    for name in ("run_s", "merge_s", "check_s", "tables_s"):
        assert many[name] < 2 * factor * few[name] + 1, name
    for part in taken:
        assert part["grown_handles"] == 0
        assert part["grown_bytes"] < 100e6


@pytest.mark.thousands
def test_ten_million_outcomes_are_merged_and_drawn(tmp_path):
    """500 SNRs of 10 curves, 2 000 questions each."""
    rng, num_questions, num_snr, names = np.random.default_rng(0), 2000, 500, [f"curve-{i}" for i in range(10)]
    columns = {
        "question": np.arange(num_questions),
        "image_index": np.arange(num_questions) // 4,
        "family": np.array(["a family of questions"] * num_questions),
        "realisation": np.arange(num_questions),
    }
    scalars = dict.fromkeys((*archive.SCALARS, *archive.LEDGER), 1.0)

    def points():
        for name in names:
            for at in range(num_snr):
                outcome = {"correct": (rng.random(num_questions) < 0.7).astype(np.uint8)}
                outcome["confidence"] = rng.random(num_questions, np.float32)
                yield {"scheme": name, "snr_db": float(at)}, archive.Point({}, {**columns, **outcome}, scalars)

    before, start = resident_bytes(), time.process_time()
    content = archive.build_results(list(points()), names, {"snr_db": np.arange(num_snr).tolist()}, {})
    results: Results = archive.parse_results(content)
    print(f"build {time.process_time() - start:.1f} s, {(resident_bytes() - before) / 1e6:.0f} MB", flush=True)
    assert results.variables["correct"].size == 10**7
    start = time.process_time()
    paths = plots.draw_accuracy(results, folder=tmp_path, name="figure") + risk.draw_risk(results, folder=tmp_path)
    print(f"draw {time.process_time() - start:.1f} s, {(resident_bytes() - before) / 1e6:.0f} MB", flush=True)
    assert len(paths) == 8
    assert all(path.stat().st_size > 1000 for path in paths)
