"""A study in spawned workers, on a real data set's files: the same numbers, whatever happens to the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies import run_folder
from studies.accuracy_vs_snr import STUDY, Config
from studies.curves import Curve
from studies.engines import THREAD_VARIABLES
from studies.schemes.carriers.analog import Codes
from studies.schemes.carriers.lossless import everything
from studies.schemes.encoders.tokens import Tokens
from studies.schemes.readers.pictures import Pictures
from studies.schemes.readers.prefix import Prefix
from tests.studies.fakes import FakeAgents, FakeChannel

ROOT = Path(__file__).resolve().parents[2]
SNR_DB = (-20.0, -10.0, 0.0, 10.0, 20.0)


class SlowChannel(FakeChannel):
    def receive(self, codes, snr_db, realisation):
        time.sleep(0.1)
        return super().receive(codes, snr_db, realisation)


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


def sweep(data, folder):
    schemes = [f"{__name__}:{name}" for name in ("SLOW", "BOUND")]
    config = Config(num_questions=24, batch_size=8, snr_db=SNR_DB, data={"folder": str(data)}, schemes=schemes)
    return STUDY.plan(config, folder)


def run(data, folder, engine, workers):
    """Run all of it, or what is left, and return how many jobs there were and the bytes of the results."""
    study = sweep(data, folder)
    study.claim_folder()
    jobs = study.pending()
    failed = study.run(jobs, engine=engine, workers=workers, on_outcome=lambda outcome: None)
    assert not failed, failed
    run_folder.collect(folder)
    return len(jobs), (folder / "results.h5").read_bytes()


@pytest.fixture
def data(tmp_path):
    """A split in CLEVR's layout: image i is a grey of level i, and the question asks for the level."""
    folder = tmp_path / "data"
    (folder / "images" / "test").mkdir(parents=True)
    (folder / "questions").mkdir()
    program = [{"function": "scene", "inputs": [], "value_inputs": []}, {"function": "count", "inputs": [0]}]
    questions = []
    for i in range(8):
        name = f"{i}.png"
        Image.fromarray(np.full((4, 4, 3), i, dtype=np.uint8)).save(folder / "images" / "test" / name)
        record = {"image_index": i, "image_filename": name, "answer": str(i), "program": program}
        questions += [{**record, "question": f"which level is it? ({k})"} for k in range(4)]
    (folder / "questions" / "CLEVR_test_questions.json").write_text(json.dumps({"questions": questions}))
    return folder


@pytest.fixture(autouse=True)
def _keep_environment(monkeypatch):
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")


def test_workers_change_no_number(data, tmp_path):
    num_jobs, expected = run(data, tmp_path / "inline", "inline", 1)
    assert num_jobs == 3 + len(SNR_DB) + 1
    assert run(data, tmp_path / "processes", "process", 2) == (num_jobs, expected)


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
    code = (
        "import sys; from pathlib import Path; from tests.studies.test_processes import run\n"
        "if __name__ == '__main__': run(Path(sys.argv[1]), Path(sys.argv[2]), 'process', 2)"
    )
    victim = subprocess.Popen([sys.executable, "-c", code, str(data), str(folder)], cwd=ROOT)
    deadline = time.monotonic() + 300
    while len(list((folder / "points").glob("*.h5"))) < 2 and time.monotonic() < deadline:
        assert victim.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    workers = children_of(victim.pid)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(workers) >= 2
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    alive = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive, "workers outlive the run that started them"
    done = len(list((folder / "points").glob("*.h5"))) + len(list((folder / "codes").glob("*.h5")))
    assert run(data, folder, "process", 2) == (3 + len(SNR_DB) + 1 - done, expected)
