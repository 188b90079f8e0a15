"""Jobs on the nodes of a Ray cluster: one that RAY_ADDRESS names, or a small one on this machine, ended with the run.

Ray places jobs and tells when a process or a node is lost. What makes numbers equal is checked here, before a process
runs its first job: it sees the run folder and the working folder, and has the same libraries, code and weights.
"""

import contextlib
import functools
import os
import pickle
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.config import ConfigError, shown
from studies.jobs import Attempt, Job, Outcome, StudyError
from studies.processes import THREAD_VARIABLES, attempt, num_cores, prepare_process
from studies.provenance import installation

MOST_TRIES = 4  # of a job whose process or node is lost
ANSWER_S = 120  # in which a node has to say that it is ready [s]
CONNECT_S = 10  # in which an address has to answer [s]
KEEP_S = 300  # after which the probe file is touched: after an hour other runs take it for left over [s]
UNBOUNDED = 2**20
# Variables that the libraries under us read; processes of a node inherit those of `ray start`, not of this run.
HANDED_ON = ("MKL_", "OMP_", "OPENBLAS_", "TF_", "TOKENIZERS_", "TOKENLINK_")
LOCAL = "local"
# Nothing is reported, servers listen on the loopback alone, and other users of the machine are kept out.
LOCAL_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's switch for the loopback, on Linux too
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # 15 otherwise: other programs of this machine would go first
}
LOCAL_STORE_BYTES = 80 * 2**20  # jobs hand over names of files; Ray takes no less


@dataclass(frozen=True)
class Place:
    """What a process needs to know, and needs to find, before its first job.

    Attributes
    ----------
    working_folder : str
        Relative paths of the configuration start there.
    search_path : tuple of str
        Where curves and studies of one's own may lie.
    num_threads, preload
        As in `run_jobs`.
    probe : str
        File in the run folder.
    secret : str
        Its content.
    installation : tuple of (str, str)
        Versions and hashes that have to be the same.
    """

    working_folder: str
    search_path: tuple[str, ...]
    num_threads: int
    preload: tuple[str, ...]
    probe: str
    secret: str
    installation: tuple[tuple[str, str], ...]


@contextlib.contextmanager
def cluster(workers: int, num_threads: int) -> Iterator[int]:
    """Connect to the cluster that RAY_ADDRESS names, or start one here, and leave or end it afterwards.

    Where this process is connected already, nothing is started and nothing is ended.

    Parameters
    ----------
    workers : int
        Jobs at a time; 0: as many as the cluster takes, or one per core of this machine, at most 8.
    num_threads : int
        CPUs that a job takes.

    Yields
    ------
    int
        Number of jobs that run at a time.

    Raises
    ------
    ConfigError
        If Ray is not installed, or there is no cluster, or no node of it can run a job.
    """
    with contextlib.ExitStack() as stack:
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            ray = stack.enter_context(_connected(os.environ.get("RAY_ADDRESS") or LOCAL, workers, num_threads))
        room = sum(int(node["Resources"].get("CPU", 0) // num_threads) for node in ray.nodes() if node["Alive"])
        if not room:
            raise ConfigError(
                f"no node of the Ray cluster has the CPUs that a job takes, num_threads={num_threads}; add one"
            )
        yield min(room, workers or room)


@contextlib.contextmanager
def _connected(address: str, workers: int, num_threads: int) -> Iterator[Any]:
    options: dict[str, Any] = {"address": address, "logging_level": "ERROR"}
    with contextlib.ExitStack() as stack:
        if address.startswith("ray://"):
            raise ConfigError(
                f"RAY_ADDRESS={shown(address)} is for clients of Ray; start the command on a node of the cluster, with "
                "RAY_ADDRESS=auto"
            )
        if address == LOCAL:  # before Ray is imported: it reads them once
            stack.enter_context(_environment({**LOCAL_VARIABLES, "RAY_AUTH_TOKEN": secrets.token_hex(32)}))
            options |= {
                "num_cpus": (workers or min(8, num_cores())) * num_threads,
                "include_dashboard": False,
                "object_store_memory": LOCAL_STORE_BYTES,
                "_temp_dir": stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="tokenlink-ray-", ignore_cleanup_errors=True)
                ),
            }
        ray = _import_ray()
        stack.callback(ray.shutdown)
        try:
            host, _, port = address.rpartition(":")
            if host and port.isdigit():
                socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()  # Ray tries for minutes
            ray.init(**options)
        except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ConfigError(f"no Ray cluster for RAY_ADDRESS={shown(address)}: {_first_line(error)}") from error
        yield ray


class Nodes:
    """Processes on the nodes of a cluster, each job a Ray task that takes as many CPUs as it has threads.

    Parameters
    ----------
    execute : callable
        Importable function of a job's `task`.
    workers : int
        Jobs at a time; 0: as many as the cluster takes.
    num_threads, preload, folder
        As in `run_jobs`.

    Raises
    ------
    StudyError
        If a node does not see the folder, or has other libraries, code or weights.
    """

    def __init__(
        self, execute: Callable[[Any], None], workers: int, num_threads: int, preload: Sequence[str], folder: Path
    ):
        self._stack = contextlib.ExitStack()
        self._running: dict[Any, tuple[Job, float]] = {}  # by Ray's reference
        self._execute, self._workers, self._tries = execute, workers or UNBOUNDED, dict[str, int]()
        try:
            self._stack.enter_context(cluster(workers, num_threads))
            self._ray = _import_ray()
            self._place = self._stack.enter_context(_probed(folder, num_threads, preload))
            variables = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
            variables |= dict.fromkeys(THREAD_VARIABLES, str(num_threads))
            self._options = {"max_retries": 0, "runtime_env": {"env_vars": variables}}
            self._run = self._ray.remote(run_there).options(num_cpus=num_threads, **self._options)
            self._ask_nodes(num_threads)
        except BaseException:
            self.stop()
            raise

    def _ask_nodes(self, num_threads: int) -> None:
        """Ask every node that can run a job whether it is ready."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray, asked = self._ray, {}
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) >= num_threads:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ask = ray.remote(problem_there).options(num_cpus=0, scheduling_strategy=there, **self._options)
                asked[ask.remote(self._place)] = node
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
        for reference in (*answered, *silent):
            node = asked[reference]
            try:
                problem = ray.get(reference, timeout=0)
            except ray.exceptions.RayError as error:
                if node["NodeID"] in {other["NodeID"] for other in ray.nodes() if not other["Alive"]}:
                    continue  # lost in the meantime
                problem = "does not answer" if reference in silent else f"cannot start: {_last_line(error)}"
            if problem:
                raise StudyError(f"Ray node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {problem}")

    @property
    def num_free(self) -> int:
        """Number of jobs that it takes now."""
        return self._workers - len(self._running)

    def start(self, job: Job) -> None:
        """Hand a job to Ray."""
        reference = self._run.remote(self._place, pickle.dumps((self._execute, job.task)))
        self._tries[job.id] = self._tries.get(job.id, 0) + 1
        self._running[reference] = job, time.monotonic()

    def ended(self) -> list[Outcome]:
        """Wait until a job has ended, and return those that have; jobs whose process or node is lost start again."""
        outcomes: list[Outcome] = []
        while self._running and not outcomes:
            finished, _ = self._ray.wait(list(self._running), timeout=KEEP_S)
            os.utime(self._place.probe)
            outcomes += [outcome for reference in finished if (outcome := self._outcome(reference))]
        return outcomes

    def _outcome(self, reference: Any) -> Outcome | None:
        job, started = self._running.pop(reference)
        try:
            return Outcome(job, *self._ray.get(reference))
        except self._ray.exceptions.RayError as error:  # of Ray: those of jobs come as results
            if self._tries[job.id] < MOST_TRIES:
                self.start(job)
                return None
            lost = f"{type(error).__name__}: {_first_line(error)} ({MOST_TRIES} times)"
            return Outcome(job, time.monotonic() - started, lost, str(error))

    def stop(self) -> None:
        """End what is running, and what was started for this run."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._stack.close()


# --- on the nodes --------------------------------------------------------------------------------------------------


def run_there(place: Place, payload: bytes) -> Attempt:
    """Run a job in this process of a node."""
    if lacking := attempt(_arrive, place).error:
        return Attempt(0.0, lacking)
    return attempt(_execute, payload)


def problem_there(place: Place) -> str:
    """Say what this process lacks; an empty string if nothing."""
    try:
        os.chdir(place.working_folder)
        if Path(place.probe).read_text() != place.secret:
            raise FileNotFoundError(place.probe)
    except OSError:
        folder = Path(place.probe).parent
        return (
            f"does not see {folder}, or not {place.working_folder}: with --engine ray, run folder and working folder "
            "lie on a file system that all nodes share"
        )
    here = installation()
    for name, expected in place.installation:
        if here[name] != expected:
            return f"has {name} {here[name]}, where the run was started it is {expected}; install the same everywhere"
    return ""


@functools.cache
def _arrive(place: Place) -> None:
    """Prepare this process for its first job."""
    if problem := problem_there(place):
        raise RuntimeError(f"a Ray node {problem}")
    sys.path += [path for path in place.search_path if path not in sys.path]
    prepare_process(place.num_threads, place.preload)


def _execute(payload: bytes) -> None:
    execute, task = pickle.loads(payload)  # only now: what it imports may load the frameworks
    execute(task)


# --- here ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _probed(folder: Path, num_threads: int, preload: Sequence[str]) -> Iterator[Place]:
    """Leave a file of a random name in the run folder, for nodes to find."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".ray.{secrets.token_hex(8)}.tmp"
    secret = secrets.token_hex(16)
    try:
        probe.write_text(secret)
        path = tuple(os.path.abspath(entry) for entry in sys.path)
        yield Place(os.getcwd(), path, num_threads, tuple(preload), str(probe), secret, tuple(installation().items()))
    finally:
        probe.unlink(missing_ok=True)


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            "--engine ray needs Ray, which comes with the extra 'ray' of this package: "
            "pip install -c constraints.txt -e '.[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2]
