"""What `tokenlink bench` makes of figures: tables and missed goals. None of them is measured here."""

import copy
import io
import os
import subprocess
import sys
from typing import Any

import pytest
import xarray as xr
from rich.console import Console

from phy import AnalogLink, LinkConfig
from studies.benchmarks import bridge as bridge_benchmark
from studies.benchmarks import estimation as estimation_benchmark
from studies.benchmarks import latency as latency_benchmark
from studies.benchmarks import phy as phy_benchmark
from studies.benchmarks import recovery as recovery_benchmark
from studies.benchmarks import sensing as sensing_benchmark
from studies.benchmarks.clock import write_json

STAGES = ("CIR", "CIR to H", "H given", "fresh realisations")
PHY = {
    "4x8, 64 subcarriers": {
        "stages": {stage: {"tokenlink": 0.001, "sionna": 0.03, "sionna_xla": 0.02} for stage in STAGES},
        "ratios": {"CIR to H": 30.0, "H given": 30.0, "fresh realisations": 30.0},
        "goals": {"CIR to H": 15, "H given": 20, "fresh realisations": 5},
        "products_s": 0.0005,
        "errors": dict.fromkeys(phy_benchmark.MAX_ERRORS, 1e-7),
    }
}
RECOVERY = {
    "pylops": {
        name: {"tokenlink_s": 0.01, "pylops_s": 0.5, "ratio": 50.0, "same_support": 1.0, "difference": 1e-5}
        for name in ("omp", "fista")
    },
    "codes": {
        "num_training": 10,
        "num_sent": 20,
        "nmse": {
            "8x2": {
                "no prior": {
                    "ls": "recovery='ls' has no solution",
                    "lmmse": 0.5,
                    "omp": 2.0,
                    "fista": 0.6,
                    "vamp": 0.5,
                },
                "learned": {
                    "ls": "recovery='ls' has no solution",
                    "lmmse": 0.1,
                    "omp": 0.2,
                    "fista": 0.05,
                    "vamp": 0.01,
                },
            }
        },
        "gini": 0.8,
        "best_tenth_error": 0.02,
    },
}
BRIDGE = {
    "imports": {"phy": 2.0},
    "crossing": {
        **{"link": 0.010, "channel": 0.0101, "link and tape": 0.020, "channel and backward": 0.0203},
        "link and pull_back": 0.0201,
        "bridge alone": 0.0001,
    },
    "training step": {
        **{"white noise": 1.0, "fades met before": 1.02, "new fades": 1.2, "as in training": 1.05},
        "cached_share": 0.9,
    },
    "cosines": [
        {"recovery": recovery, "prior": False, "estimator": "perfect", "snr_db": snr_db, "cosine": 1.0, "least": least}
        for recovery, least in (("ls", 0.9999), ("lmmse", 0.5))
        for snr_db in bridge_benchmark.SNRS_DB
    ],
}
ESTIMATION = {
    "fades": 320,
    "rows": [
        {
            **{"channel": "cdl-a", "speed": 30, "snr_db": snr_db, "bound": 0.01},
            "measured": {"ls-linear": 0.1, "lmmse-robust": 0.02, "lmmse": 0.0105, "lmmse-spatial": 0.008},
            "declared": {"ls-linear": 0.09, "lmmse-robust": 0.02, "lmmse": 0.0104, "lmmse-spatial": 0.0079},
        }
        for snr_db in estimation_benchmark.SNR_DB
    ],
}
SENSING = {
    "tokens": {
        **{"prompts": 2000, "images": 519, "whole_s": 3.0, "shared_s": 1.0, "tower_s": 0.2},
        **{"largest": 8.0, "difference": 4e-6},
    },
    "answers": {"prompts": 500, "images": 130, "whole_s": 3.0, "shared_s": 1.0, "tower_s": 0.2, "different": 0},
}
REPORTS = [
    (sensing_benchmark, SENSING),
    (phy_benchmark, PHY),
    (recovery_benchmark, RECOVERY),
    (bridge_benchmark, BRIDGE),
    (estimation_benchmark, ESTIMATION),
]


def changed(report, value, *path):
    report = copy.deepcopy(report)
    part = report
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return report


def shown(tables):
    """Lines of text; titles are as wide as their tables, and wrap."""
    file = io.StringIO()
    Console(file=file, width=200).print(*tables)
    return [" ".join(line.split()) for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(("benchmark", "report"), REPORTS)
def test_met_goals_are_not_named(benchmark, report):
    assert benchmark.shortfalls(report) == []


CASE = "4x8, 64 subcarriers"
MISSED = [
    (phy_benchmark, changed(PHY, 14.9, CASE, "ratios", "CIR to H"), "CIR to H is 14.9 times as fast, not 15"),
    (phy_benchmark, changed(PHY, 4.0, CASE, "ratios", "fresh realisations"), "fresh realisations is 4.0 times"),
    (phy_benchmark, changed(PHY, 2e-5, CASE, "errors", "H"), f"{CASE}: H differs by 2.0e-05"),
    (phy_benchmark, changed(PHY, float("nan"), CASE, "errors", "H"), "H differs by nan"),
    (recovery_benchmark, changed(RECOVERY, 19.0, "pylops", "omp", "ratio"), "omp: 19.0 times the throughput, not 20"),
    (recovery_benchmark, changed(RECOVERY, 0.5, "pylops", "omp", "same_support"), "omp: same support in 50% of"),
    (
        recovery_benchmark,
        changed(RECOVERY, 2e-3, "pylops", "fista", "difference"),
        "fista: coefficients differ by 2.0e-03",
    ),
    (
        estimation_benchmark,
        changed(ESTIMATION, 0.008, "rows", 1, "bound"),
        "cdl-a, 30 km/h, 10 dB: lmmse is 1.2 dB above the bound",
    ),
    (
        estimation_benchmark,
        changed(ESTIMATION, 0.008, "rows", 0, "declared", "lmmse"),
        "cdl-a, 30 km/h, -10 dB: lmmse declares 0.76 of its error",
    ),
    (bridge_benchmark, changed(BRIDGE, 0.0105, "crossing", "channel"), "forward: the bridge adds 500 µs to 10000 µs"),
    (
        bridge_benchmark,
        changed(BRIDGE, 0.015, "crossing", "link and tape"),
        "under a tape: the bridge adds 5300",
    ),
    (bridge_benchmark, changed(BRIDGE, 0.019, "crossing", "link and pull_back"), "link.vjp: the bridge adds 1300 µs"),
    (
        bridge_benchmark,
        changed(BRIDGE, 1.11, "training step", "as in training"),
        "takes 1.11 times as long as with white",
    ),
    (
        bridge_benchmark,
        changed(BRIDGE, 0.99, "cosines", 0, "least"),
        "ls, channel known, -10 dB: gradients differ, 0.9900",
    ),
]


@pytest.mark.parametrize(("benchmark", "report", "line"), MISSED)
def test_a_missed_goal_is_named_alone(benchmark, report, line):
    (found,) = benchmark.shortfalls(report)
    assert line in found


def test_tables_hold_the_figures_and_their_units():
    text = " ".join(shown(phy_benchmark.tables(PHY)))
    for words in ("processor time in ms", "bare matrix products", "fresh realisations", "XLA", "1.0e-07", "1e-05"):
        assert words in text
    text = " ".join(shown(bridge_benchmark.tables(BRIDGE)))
    for words in ("in ms; memory holds 90%", "10.10", "1.050", "1.000 (0.50)"):
        assert words in text


def latencies() -> dict[str, Any]:
    """Return a report of the benchmark of latency in which every stage takes a millisecond more than the one before."""
    chain = {name: 0.001 * (1 + number) for number, name in enumerate(latency_benchmark.CHAIN)}
    of_size = {"chain": chain, "decoding": dict.fromkeys(latency_benchmark.PAYLOADS, 2.5 * chain["recovery"])}
    return {**{str(size): of_size for size in latency_benchmark.BATCHES}, "versions": {"torch": "2"}}


def test_the_stages_of_a_question_are_shares_of_its_time():
    chain = latencies()["1"]["chain"]
    lines = shown(latency_benchmark.tables(latencies()))
    for name, seconds in chain.items():
        assert f"{name} {1e3 * seconds:.3f} {100 * seconds / sum(chain.values()):.1f} %" in lines
    assert " ".join(lines).count("2.5 x") == len(latency_benchmark.BATCHES) * len(latency_benchmark.PAYLOADS)
    assert latency_benchmark.shortfalls({}) == []


def test_the_archive_of_latency_holds_every_time_under_its_name(tmp_path):
    report = latencies()
    latency_benchmark.draw(report, folder=tmp_path, name="latency")
    assert {path.name for path in tmp_path.iterdir()} == {f"latency.{end}" for end in ("h5", "png", "pdf", "pgf")}
    with xr.open_dataset(tmp_path / "latency.h5", engine="h5netcdf") as archive:
        for size in latency_benchmark.BATCHES:
            of_size = archive.sel(questions_at_a_time=size)
            for stage, seconds in report[str(size)]["chain"].items():
                assert of_size["seconds"].sel(stage=stage).item() == seconds
            for decoder, seconds in report[str(size)]["decoding"].items():
                assert of_size["decoding_seconds"].sel(decoder=decoder).item() == seconds
            assert of_size["share"].sum().item() == pytest.approx(1)
            assert of_size["decoding_over_recovery"].values == pytest.approx(2.5)
        assert archive.attrs["version_torch"] == "2"


def test_estimates_stand_beside_their_bound():
    lines = shown(estimation_benchmark.tables(ESTIMATION))
    assert lines.count("cdl-a 30 -20.0 -10.0 -17.0 -19.8 -21.0 0.90 1.00 0.99 0.99") == 3


@pytest.mark.parametrize("channel", ["rayleigh", "tdl-d", "cdl-c"])
def test_the_bound_is_what_the_estimate_declares_where_the_correlation_is_a_product(channel):
    """Within 1 % on cdl-c, whose paths turn alike; exactly where there is one Doppler spectrum and a line of sight."""
    link = AnalogLink(LinkConfig(channel=channel, estimator="lmmse", phase_mask=False, num_tx_ant=3, fft_size=24))
    for no in (0.01, 1.0):
        _, declared = estimation_benchmark.errors_of(link, no, 1)
        assert estimation_benchmark.bound(link, no) == pytest.approx(declared, rel=1e-2 if channel == "cdl-c" else 2e-3)


def test_the_table_of_recoveries_names_its_link_and_who_wins():
    lines = shown(recovery_benchmark.tables(RECOVERY))
    title = "over cdl-c, estimator perfect, modulation amplitude; prior learned from 10 codes"
    assert title in " ".join(lines)
    assert [line for line in lines if line.startswith("8x2")] == [
        "8x2 no prior refused -3.01 3.01 -2.22 -3.01 lmmse, vamp",
        "8x2 learned refused -10.00 -6.99 -13.01 -20.00 vamp",
    ]


def test_a_benchmark_loads_both_frameworks_without_a_word():
    code = (
        "from studies.processes import prepare_process; prepare_process(1, ['phy.startup', 'studies.benchmarks.phy'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_figures_are_written_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "bench.json"
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left on device: .*bench\.json"):
        write_json(path, {"a": 2})
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("bench.json", '{\n  "a": 1\n}\n')]
