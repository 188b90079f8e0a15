import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studies import processes
from studies.engines import parse_shard, run_jobs, shard_of
from studies.jobs import Job
from studies.processes import THREAD_VARIABLES, cpu_quota, limit_threads, num_cores, prepare_process


def touch(task):
    """What the workers run: fail, die, or leave a file that names the threads they may use."""
    path, action = task
    if action == "fail":
        raise ValueError(f"cannot touch {Path(path).name}")
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(path).write_text(os.environ["OMP_NUM_THREADS"])


def jobs(folder, **actions):
    """A job per name; name_of_another as prefix means that it needs the other."""
    made = []
    for name, action in actions.items():
        needs = frozenset({name.rpartition("_")[0]} - {""})
        made.append(Job(name, name, (str(folder / name), action), needs))
    return made


@pytest.fixture(autouse=True)
def _keep_environment(monkeypatch):
    for variable in (*THREAD_VARIABLES, "TF_CPP_MIN_LOG_LEVEL", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))


@pytest.mark.parametrize(("engine", "workers"), [("inline", 1), ("process", 1), ("process", 2)])
def test_a_failure_costs_itself_and_what_needs_it(tmp_path, engine, workers):
    work = jobs(tmp_path, a="ok", b="fail", a_x="ok", b_x="ok", b_x_y="ok", c="ok")
    outcomes = {
        outcome.job.id: outcome for outcome in run_jobs(work, touch, engine=engine, workers=workers, num_threads=3)
    }
    assert set(outcomes) == {job.id for job in work}
    assert {name for name, outcome in outcomes.items() if outcome.error} == {"b", "b_x", "b_x_y"}
    assert outcomes["b"].error == "ValueError: cannot touch b"
    assert "def" not in outcomes["b"].error
    assert "touch" in outcomes["b"].details
    assert outcomes["b_x_y"].error.startswith("not started")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a_x", "c"]
    assert (tmp_path / "a").read_text() == "3"


def test_a_killed_worker_costs_one_job(tmp_path):
    work = jobs(tmp_path, a="ok", b="die", c="ok", d="ok", e="ok")
    outcomes = list(run_jobs(work, touch, engine="process", workers=2, num_threads=1))
    assert [outcome.job.id for outcome in outcomes if outcome.error] == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d", "e"]


def test_jobs_run_after_what_they_need(tmp_path):
    work = jobs(tmp_path, a="ok", b="ok", a_x="ok", b_x="ok", a_x_y="ok")
    order = [outcome.job.id for outcome in run_jobs(work, touch, engine="process", workers=2, num_threads=1)]
    for job in work:
        assert all(order.index(needed) < order.index(job.id) for needed in job.needs)


def test_a_need_that_nothing_meets_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'a_x' needs"):
        list(run_jobs(jobs(tmp_path, a_x="ok", a="ok"), touch, engine="inline", workers=1, num_threads=1))


@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_shards_part_the_points_and_bring_what_they_need(tmp_path, total):
    work = jobs(tmp_path, a="ok", b="ok", a_1="ok", a_2="ok", a_3="ok", b_1="ok", c="ok")
    shards = [shard_of(work, (number + 1, total)) for number in range(total)]
    leaves = [job.id for shard in shards for job in shard if job.id not in ("a", "b")]
    assert sorted(leaves) == ["a_1", "a_2", "a_3", "b_1", "c"]
    for shard in shards:
        ids = {job.id for job in shard}
        assert all(job.needs <= ids for job in shard)
        assert {"a", "b"} & ids == {needed for job in shard for needed in job.needs}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", ""])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="write i/N"):
        parse_shard(text)


def test_threads_are_limited_for_libraries_that_are_loaded_already(monkeypatch):
    import torch

    before = torch.get_num_threads()
    try:
        limit_threads(1)
        assert torch.get_num_threads() == 1
        assert all(os.environ[variable] == "1" for variable in THREAD_VARIABLES)
    finally:
        torch.set_num_threads(before)


def test_threads_are_limited_before_anything_is_imported(tmp_path, monkeypatch):
    (tmp_path / "counts_threads.py").write_text("import os\nTHREADS = os.environ['OMP_NUM_THREADS']")
    monkeypatch.syspath_prepend(tmp_path)
    prepare_process(3, ["counts_threads"])
    assert sys.modules.pop("counts_threads").THREADS == "3"


# --- cores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"": "max 100000"}, None),
        ({"a/b": "150000 100000"}, 1.5),
        ({"a": "200000 100000", "a/b": "max 100000"}, 2),
        ({"a": "50000 100000", "a/b": "300000 100000", "": "odd"}, 0.5),
    ],
)
def test_the_quota_of_a_container_is_the_least_of_its_groups(tmp_path, limits, expected):
    (tmp_path / "cgroup").write_text("4:memory:/elsewhere\n0::/a/b\n")
    for group, text in limits.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(text + "\n")
    assert cpu_quota(tmp_path / "cgroup", tmp_path) == (expected or processes.NO_QUOTA)
    assert cpu_quota(tmp_path / "none", tmp_path) == processes.NO_QUOTA


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 1), (2.0, 2), (float(processes.NO_QUOTA), 3)])
def test_cores_are_those_that_the_process_is_bound_to_within_its_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 5}, raising=False)
    monkeypatch.setattr(processes, "cpu_quota", lambda: quota)
    assert num_cores() == expected


# --- workers end with their parent ---------------------------------------------------------------------------------

PARENT = """
import subprocess, sys
child = [sys.executable, "-c", sys.argv[1], *sys.argv[2:]]
print(subprocess.Popen(child).pid, flush=True)
sys.stdin.read()
"""
CHILD = """
import os, pathlib, sys, time
from studies.processes import prepare_worker
if len(sys.argv) > 2:
    os.getppid = lambda: int(sys.argv[2])  # the parent was gone before it could be watched
prepare_worker({parent}, 1)
pathlib.Path(sys.argv[1]).touch()
time.sleep(100)
"""


def ended(pid, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # nobody has asked for its status
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="prctl and /proc are Linux'")
@pytest.mark.parametrize("early", [False, True])
def test_a_worker_ends_when_its_parent_is_killed(tmp_path, early):
    ready, root = tmp_path / "ready", Path(__file__).resolve().parents[2]
    child = CHILD.format(parent="os.getppid()" if not early else "-1")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, child, str(ready), *(["1"] * early)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    if not early:
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert ready.exists()
        parent.kill()
        parent.wait()
    assert ended(pid)
    assert ready.exists() != early
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()


def test_where_there_is_no_prctl_a_worker_starts_all_the_same(monkeypatch):
    monkeypatch.setattr(processes.ctypes, "CDLL", lambda name: object())
    processes.prepare_worker(-1, 1)
