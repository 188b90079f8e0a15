"""The recipes of studies/README.md, carried out as written; its tables say what the code says."""

import re
import shlex
import subprocess
import sys

import pytest

from studies import run_folder
from studies.curves import CURVES
from tests.readme_blocks import ROOT, blocks

README = "studies/README.md"


def carry_out(heading, folder, *options):
    """Write the recipe's file and run its command, both as they stand in the README."""
    (_, code), (_, command) = blocks(README, heading)
    name = re.match(r"# (\w+\.py)\n", code)[1]
    (folder / name).write_text(code)
    program, *arguments = shlex.split(command)
    assert program == "tokenlink"
    done = subprocess.run(
        [sys.executable, "-m", "studies.cli", *arguments, "--out", "run", *options],
        **{"cwd": folder, "env": {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}},
        **{"capture_output": True, "text": True, "timeout": 500, "check": False},
    )
    assert done.returncode == 0, done.stderr
    return done, run_folder.collect(folder / "run")


@pytest.mark.slow
def test_the_recipe_for_a_curve_works(tmp_path):
    done, results = carry_out("## Recipe: adding a curve", tmp_path, "--engine", "inline")
    assert results.schemes == ["machine-tokens", "machine-tokens-twice"]
    assert "machine-tokens-twice" in done.stdout
    once, twice = (results.of("code_nmse", scheme) for scheme in results.schemes)
    assert (twice < 0.8 * once).all()
    spent = [results.along("data_res", scheme) for scheme in results.schemes]
    assert (spent[1] == 2 * spent[0]).all()


@pytest.mark.slow
def test_the_recipe_for_a_figure_works(tmp_path):
    done, results = carry_out("## Recipe: adding a figure", tmp_path, "--engine", "inline")
    assert results.coordinates["antennas"].tolist() == ["2x4", "4x4", "4x8"]
    assert results.variables["correct"].shape == (3, 3, 2, 24)
    assert "4x4" in done.stdout
    nmse = results.of("code_nmse", "machine-tokens")
    assert (nmse[2] < nmse[1]).all()  # more receive antennas, less noise
    assert (tmp_path / "run" / "figures" / "accuracy-vs-antennas.png").stat().st_size > 10_000


def test_the_table_of_curves_is_that_of_the_code():
    text = (ROOT / README).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)`( \*)? \| ([^|]*) \|$", text, re.MULTILINE)
    assert rows == [(c.name, " *" if c.default else "", c.about) for c in CURVES.values()]


def test_the_table_of_realisations_is_that_of_the_code():
    from phy.link_adaptation import FIRST_REALISATION
    from semantic.agent_training import NUM_FADES, TRAINING_REALISATIONS

    text = (ROOT / README).read_text(encoding="utf-8")
    starts = [int(number.replace(" ", "")) for number in re.findall(r"^\| from ([\d ]+) \|", text, re.MULTILINE)]
    assert starts[0] == 0
    assert {TRAINING_REALISATIONS, FIRST_REALISATION} <= set(starts)
    assert f"{NUM_FADES:,}".replace(",", " ") in text
