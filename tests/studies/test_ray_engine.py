"""Jobs on a real Ray of two nodes on this machine: the same files, whatever is killed."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from studies import ray_engine
from studies.config import ConfigError
from studies.engines import run_jobs
from studies.jobs import Job, StudyError
from studies.processes import THREAD_VARIABLES
from studies.provenance import installation

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 240  # of anything that takes seconds on a machine with nothing else to do


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return value


def work(task):
    """What the nodes run: leave a file, of content that is the same on every node, once the test says so."""
    folder, name, action = Path(task[0]), *task[1:]
    if action == "fail":
        raise ValueError(f"no {name}")
    if action == "die" or (action == "die once" and not (folder / f"{name}.died").exists()):
        (folder / f"{name}.died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "wait":
        from ray import get_runtime_context

        marker = folder / f"{name}.{get_runtime_context().get_node_id()}"
        marker.with_name(f"new-{marker.name}").write_text(str(os.getpid()))
        marker.with_name(f"new-{marker.name}").rename(marker)
        wait_for((folder / "go").exists)
    threads = [os.environ[variable] for variable in THREAD_VARIABLES]
    (folder / name).write_text(f"{name} {threads} {os.getcwd()}")


def jobs(folder, **actions):
    """A job per name; the name of another as prefix means that it needs the other."""
    folder.mkdir(exist_ok=True)
    return [
        Job(name, name, (str(folder), name, action), frozenset({name.rpartition("_")[0]} - {""}))
        for name, action in actions.items()
    ]


def run(work_to_do, folder, engine="ray"):
    outcomes = run_jobs(work_to_do, work, engine=engine, workers=0, num_threads=1, folder=folder)
    return {outcome.job.id: outcome for outcome in outcomes}


def files(folder, names):
    return {name: (folder / name).read_text() for name in names}


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two nodes with a CPU each, on the loopback, which RAY_ADDRESS names."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets of Ray lie in it: paths of pytest are too long
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_engine.LOCAL_VARIABLES.items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_TMPDIR", folder)
        from ray.cluster_utils import Cluster

        quick = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": quick})
        cluster.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_failure_or_a_dying_process_costs_its_own_job_and_what_needs_it(two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "MOST_TRIES", 2)
    work_to_do = jobs(tmp_path, a="ok", b="fail", c="die", d="die once", a_x="ok", b_x="ok", b_x_y="ok", d_x="ok")
    outcomes = run(work_to_do, tmp_path)
    assert {name for name, outcome in outcomes.items() if outcome.error} == {"b", "c", "b_x", "b_x_y"}
    assert outcomes["b"].error == "ValueError: no b"
    assert "in work" in outcomes["b"].details
    assert outcomes["b_x_y"].error.startswith("not started")
    assert outcomes["c"].error.startswith("WorkerCrashedError: ")
    assert outcomes["c"].error.endswith("(2 times)")
    assert "\n" not in outcomes["c"].error
    threads = ["1"] * len(THREAD_VARIABLES)
    done = ("a", "d", "a_x", "d_x")
    assert files(tmp_path, done) == {name: f"{name} {threads} {os.getcwd()}" for name in done}
    assert not list(tmp_path.glob(".*"))  # the file that nodes looked for is gone


def test_a_lost_node_costs_no_job_and_changes_no_byte(two_nodes, tmp_path):
    node = two_nodes.add_node(num_cpus=1)
    names = dict.fromkeys("abcdefgh", "wait")
    lost, folder = [], tmp_path / "ray"

    def kill_in_mid_run():
        marker = wait_for(lambda: list(folder.glob(f"?.{node.node_id}")))[0]
        lost.append(marker.name[0])
        process = Path("/proc") / marker.read_text() / "stat"
        two_nodes.remove_node(node, allow_graceful=False)
        wait_for(lambda: not process.exists() or " Z " in process.read_text())  # it may not end its job any more
        (folder / "go").touch()

    work_to_do = jobs(folder, **names)
    killer = threading.Thread(target=kill_in_mid_run)
    killer.start()
    outcomes = run(work_to_do, folder)
    killer.join()
    assert not [outcome for outcome in outcomes.values() if outcome.error]
    assert len(list(folder.glob(f"{lost[0]}.*"))) == 2  # it ran again, on another node
    inline = jobs(tmp_path / "inline", **dict.fromkeys(names, "ok"))
    run(inline, tmp_path / "inline", "inline")
    assert files(folder, names) == files(tmp_path / "inline", names)


def test_a_node_that_does_not_see_the_run_folder_is_named_in_one_line(two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(
        ray_engine.Path, "write_text", lambda path, text: path.touch()
    )  # what nodes look for is not there
    with pytest.raises(StudyError, match=rf"^Ray node \S+ \(127\.0\.0\.1\) does not see {tmp_path}, [^\n]*share$"):
        run(jobs(tmp_path, a="ok"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_node_that_cannot_take_a_job_is_not_waited_for(two_nodes, tmp_path):
    with pytest.raises(ConfigError, match="CPUs that a job takes, num_threads=64; add one"):
        list(run_jobs(jobs(tmp_path, a="ok"), work, engine="ray", workers=0, num_threads=64, folder=tmp_path))


# --- before a process runs its first job -----------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    (tmp_path / "probe").write_text("secret")
    return ray_engine.Place(os.getcwd(), (), 1, (), str(tmp_path / "probe"), "secret", tuple(installation().items()))


def test_a_process_says_what_it_lacks(place, tmp_path):
    assert ray_engine.problem_there(place) == ""
    for changed in ({"secret": "other"}, {"probe": "/nowhere/probe"}, {"working_folder": "/nowhere"}):
        assert "all nodes share" in ray_engine.problem_there(replace(place, **changed))
    other = (("Python", installation()["Python"]), ("numpy", "1.0"))
    said = ray_engine.problem_there(replace(place, installation=other))
    assert said.startswith(f"has numpy {installation()['numpy']}, where the run was started it is 1.0")
    said = ray_engine.run_there(replace(place, secret="other"), b"not looked at").error
    assert said.startswith("RuntimeError: a Ray node does not see")


# --- connecting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "no-such-host.invalid:1", "127.0.0.1", "local"])
def test_without_a_cluster_or_without_ray_one_line_says_so(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    if address == "local":
        monkeypatch.setitem(sys.modules, "ray", None)
    expected = "extra 'ray' of this package" if address == "local" else "RAY_ADDRESS='"
    with pytest.raises(ConfigError, match=expected) as caught, ray_engine.cluster(1, 1):
        pass
    assert "\n" not in str(caught.value)


ALONE = """
import signal, sys; from pathlib import Path; from tests.studies.test_ray_engine import jobs, run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background lets its children ignore it
folder = Path(sys.argv[1])
run(jobs(folder, a="ok", a_x="wait", a_x_y="ok"), folder)
"""


def listening(pids):
    """Addresses on which processes listen, as /proc writes them."""
    inodes = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except OSError:  # closed in the meantime
                continue
    rows = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def descendants(pid):
    from tests.studies.test_processes import (
        children_of,
    )  # here: processes of the nodes import this file, and no framework

    children = children_of(pid)
    return [*children, *(other for child in children for other in descendants(child))]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes and sockets through /proc")
def test_a_ray_of_its_own_listens_on_the_loopback_alone_and_ends_with_the_run(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": "/tmp"}
    (tmp_path / "home").mkdir()
    folder = tmp_path / "run"
    command = [sys.executable, "-c", ALONE, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: process.poll() is not None or list(folder.glob("a_x.*")))
        assert process.poll() is None, process.stderr.read()
        mine = [process.pid, *descendants(process.pid)]
        found = listening(mine)
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        assert found, "nothing listens: this looked in the wrong place"
        assert found <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
        wait_for(lambda: not [pid for pid in mine if Path(f"/proc/{pid}").exists()])
        assert process.returncode != 0
        assert "KeyboardInterrupt" in process.stderr.read()
        assert (folder / "a").exists()
        assert not (folder / "a_x").exists()
        assert not list(folder.glob(".*"))
        assert not list((tmp_path / "home").iterdir())
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.slow
def test_a_study_on_ray_has_the_bits_of_one_that_runs_inline(tmp_path):
    command = [sys.executable, "-m", "studies.cli", "run", "accuracy-vs-snr", "--tiny"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for engine in ("inline", "ray"):
        options = ["--engine", engine, "--workers", "2", "--out", str(tmp_path / engine)]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "ray" / "results.h5").read_bytes() == (tmp_path / "inline" / "results.h5").read_bytes()
    command = [sys.executable, "-m", "studies.cli", "compare", str(tmp_path / "inline"), str(tmp_path / "ray")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything is equal" in done.stdout
