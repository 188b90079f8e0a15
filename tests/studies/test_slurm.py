"""The batch script of `--print-slurm`, run by a real shell against stand-ins that write down how they are called."""

import json
import os
import subprocess
import sys

import pytest

from studies.slurm import script

RECORDS = """#!{python}
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps(sys.argv) + "\\n")
print("17;cluster")
"""


@pytest.fixture
def shell(tmp_path):
    """Run a script by bash; returns the calls of `tokenlink` and `sbatch`, by name of the program."""
    programs, record = tmp_path / "bin", tmp_path / "record"
    programs.mkdir()
    for name in ("tokenlink", "sbatch"):
        (programs / name).write_text(RECORDS.format(python=sys.executable))
        (programs / name).chmod(0o755)

    def run(text, **variables):
        path = tmp_path / "job script.sh"
        path.write_text(text)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "RECORD": str(record), **variables}
        for options in (["-n"], []):  # -n: read it, and do nothing
            done = subprocess.run(["bash", *options, str(path)], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        calls = [json.loads(line) for line in record.read_text().splitlines()]
        record.unlink()
        return [(os.path.basename(program), arguments) for program, *arguments in calls]

    return run


ODD = ["run", "mine:STUDY", "-s", "snr_db=[0, 5]", "-s", 'models.machine_tokens=it\'s $HOME; `x` "y"', "--out", "a b"]


def test_a_task_of_the_array_computes_its_shard_with_the_very_options(shell, tmp_path):
    text = script(ODD, study="mine two", folder=tmp_path, total=12, cpus=6)
    assert "#SBATCH --array=1-12\n" in text
    assert "#SBATCH --cpus-per-task=6\n" in text
    assert "#SBATCH --job-name=tokenlink-mine-two\n" in text
    assert shell(text, SLURM_ARRAY_TASK_ID="7") == [("tokenlink", [*ODD, "--shard", "7/12"])]


def test_started_by_hand_it_submits_the_array_and_a_job_that_merges_after_it(shell, tmp_path):
    folder = tmp_path / "it's a folder"
    text = script(ODD, study="mine", folder=folder, total=3, cpus=2)
    array, (program, arguments) = shell(text)
    assert array == ("sbatch", ["--parsable", str(tmp_path / "job script.sh")])
    assert (program, arguments[1]) == ("sbatch", "--dependency=afterany:17")
    merging = arguments[-1].removeprefix("--wrap=")
    assert shell(merging) == [("tokenlink", ["plot", str(folder)])]  # as Slurm runs it: by a shell
