"""The road that a newcomer takes first, on what ships: weights, split, both frameworks, spawned workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies import run_folder

ROOT = Path(__file__).resolve().parents[2]


def tiny(folder, *options, study="accuracy-vs-snr"):
    command = [sys.executable, "-m", "studies.cli", "run", study, "--tiny", "--out", str(folder), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False, env=os.environ)


@pytest.mark.slow
def test_the_tiny_study_runs_and_workers_change_none_of_its_numbers(tmp_path):
    for workers, options in {"1": ("--engine", "inline"), "2": ("--workers", "2")}.items():
        done = tiny(tmp_path / workers, *options)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "oneDNN" not in done.stderr  # TensorFlow's start-up lines
    assert (tmp_path / "1" / "results.h5").read_bytes() == (tmp_path / "2" / "results.h5").read_bytes()
    names = [path.relative_to(tmp_path / "1") for path in (tmp_path / "1").glob("*/*.h5")]
    assert len(names) == 13
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
    assert run_folder.check(tmp_path / "1") == run_folder.Check(9, 9, [])
    results = run_folder.collect(tmp_path / "1")
    nmse = results.of("code_nmse", "machine-tokens")
    assert 0 < nmse[1] < nmse[0] / 10  # 20 dB less noise
    assert results.of("accuracy", "raw-image")[0] > results.of("accuracy", "question-only")[0]


@pytest.mark.slow
def test_the_tiny_study_along_tokens_runs_and_reports(tmp_path):
    lines = ["-s", "pairs=[clevr-mini]", "-s", "schemes=[machine-tokens, raw-image, question-only]"]
    done = tiny(tmp_path, *lines, "--engine", "inline", study="accuracy-vs-tokens")
    assert done.returncode == 0, done.stderr
    results = run_folder.collect(tmp_path)
    assert results.variables["correct"].shape == (3, 1, 2, 24)
    assert results.along("data_res", "machine-tokens").item(0) == 80  # 5 tokens of 64 numbers on 4 antennas
    command = [sys.executable, "-m", "studies.cli", "report", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True, env=os.environ)
    assert "accuracy-vs-snr was not run" in (tmp_path / "claims.md").read_text()


def test_what_was_measured_with_shipped_weights_fits_them():
    from semantic import AgentLink
    from semantic.agent_link import PRETRAINED
    from semantic.token_choice import FILE, TokenChoice
    from studies.schemes.digital import quantizer_file

    agents = AgentLink.from_pretrained("clevr-mini")
    tables = quantizer_file.load_tables("clevr-mini", "transform", agents)  # refuses those of other weights
    assert tables["mean"].shape == (agents.num_tokens, agents.width)
    books = quantizer_file.load_tables("clevr-mini", "vector", agents)
    assert books["codebooks_8"].shape == (agents.num_tokens, 256, agents.width)
    for path in PRETRAINED.glob(f"*/{FILE}"):
        nested = AgentLink.from_pretrained(path.parent)
        choice = TokenChoice.from_pretrained(path.parent, nested)
        assert {choice.num_tokens(at, "") for at in choice.snr_db} <= set(range(1, nested.num_tokens + 1))
