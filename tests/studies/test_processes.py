"""A study in spawned workers, on a real data set's files: the same numbers, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studies import run_folder
from studies.accuracy_vs_snr import STUDY, Config
from studies.curves import Curve
from studies.processes import THREAD_VARIABLES
from studies.schemes.carriers.analog import Codes
from studies.schemes.carriers.lossless import everything
from studies.schemes.encoders.tokens import Tokens
from studies.schemes.readers.pictures import Pictures
from studies.schemes.readers.prefix import Prefix
from tests.mutants import generator
from tests.studies.fakes import FakeAgents, FakeChannel, grey_split

ROOT = Path(__file__).resolve().parents[2]
START = (
    "import sys; from pathlib import Path; from tests.studies.test_processes import run\n"
    "if __name__ == '__main__': run(Path(sys.argv[1]), Path(sys.argv[2]), 'process', 2)"
)
SNR_DB = (-20.0, -10.0, 0.0, 10.0, 20.0)


class SlowChannel(FakeChannel):
    def __call__(self, codes, snr_db, realisation):
        time.sleep(0.1)
        return super().__call__(codes, snr_db, realisation)


AGENTS = FakeAgents()


def tokens(workbench, weights):
    return Tokens(AGENTS)


def slow_codes(workbench, weights):
    return Codes(SlowChannel(), AGENTS.num_tokens, AGENTS.width)


def prefix(workbench, weights):
    return Prefix(AGENTS)


def pictures(workbench, weights):
    return Pictures(AGENTS)


SLOW = Curve(name="slow-tokens", encoder=tokens, carrier=slow_codes, reader=prefix, about="", label="")
BOUND = Curve(name="bound", carrier=everything, reader=pictures, about="", label="")


def sweep(data, folder, *more):
    schemes = [*(f"{__name__}:{name}" for name in ("SLOW", "BOUND")), *more]
    config = Config(num_questions=24, batch_size=8, snr_db=SNR_DB, data={"folder": str(data)}, schemes=schemes)
    return STUDY.plan(config, folder)


def run(data, folder, engine, workers, *more):
    """Run all of it, or what is left, and return how many jobs there were and the bytes of the results."""
    study = sweep(data, folder, *more)
    study.claim_folder()
    jobs = study.pending()
    failed = study.run(jobs, engine=engine, workers=workers, on_outcome=lambda outcome: None)
    assert not failed, failed
    run_folder.collect(folder)
    return len(jobs), (folder / "results.h5").read_bytes()


@pytest.fixture
def data(tmp_path):
    return grey_split(tmp_path)


@pytest.fixture(autouse=True)
def _keep_environment(monkeypatch):
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")


def test_workers_change_no_number_of_curves_from_outside_of_the_package_either(data, own_curve, tmp_path):
    mine = f"{own_curve}:MY_CURVE"
    num_jobs, expected = run(data, tmp_path / "inline", "inline", 1, mine)
    assert num_jobs == 3 + 2 * len(SNR_DB) + 1 + 3
    assert run(data, tmp_path / "processes", "process", 2, mine) == (num_jobs, expected)
    results = run_folder.collect(tmp_path / "processes")
    assert results.schemes == ["slow-tokens", "bound", "louder-tokens"]
    assert results.of("accuracy", "louder-tokens")[-1] == 1


def children_of(pid):
    """Processes whose parent is `pid`, from /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended in the meantime
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers through /proc")
def test_a_killed_run_resumes_and_leaves_no_workers(data, tmp_path):
    _, expected = run(data, tmp_path / "whole", "inline", 1)
    folder = tmp_path / "killed"
    victim = subprocess.Popen([sys.executable, "-c", START, str(data), str(folder)], cwd=ROOT)
    deadline = time.monotonic() + 300
    while len(list((folder / "points").glob("*.h5"))) < 2 and time.monotonic() < deadline:
        assert victim.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    workers = children_of(victim.pid)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(workers) >= 2
    deadline = time.monotonic() + 10  # the kernel ends them with their parent
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    alive = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive, "workers outlive the run that started them"
    done = len(list((folder / "points").glob("*.h5"))) + len(list((folder / "codes").glob("*.h5")))
    assert run(data, folder, "process", 2) == (3 + len(SNR_DB) + 1 - done, expected)


@pytest.mark.thousands
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers through /proc")
def test_runs_that_are_stopped_at_any_moment_in_any_way_end_with_the_same_bytes(data, tmp_path):
    """Kills and signals to the run or to it and its workers, up to five a run, by a seed."""
    expected, rng, stopped = run(data, tmp_path / "whole", "inline", 1)[1], generator(12), 0
    for number in range(8):
        folder = tmp_path / str(number)
        for _ in range(5):
            command = [sys.executable, "-c", START, str(data), str(folder)]
            started = len(list(folder.rglob("*.h5"))), rng.randrange(3)
            victim = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 600
            while len(list(folder.rglob("*.h5"))) < sum(started) and victim.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            workers, kind = children_of(victim.pid), rng.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            send = os.killpg if rng.random() < 0.5 else os.kill
            if victim.poll() is None:
                send(victim.pid, kind)
                stopped += 1
            victim.wait(600)
            deadline = time.monotonic() + 60
            while any(Path(f"/proc/{pid}").exists() for pid in workers):
                assert time.monotonic() < deadline, f"workers outlive their run, stopped by {kind.name}"
                time.sleep(0.1)
        assert run(data, folder, "inline", 1)[1] == expected
        assert not run_folder.check(folder).problems
    assert stopped >= 8
