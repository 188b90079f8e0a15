"""What every test gets: all frameworks seeded, whichever are loaded; one thread for each of several test processes."""

import os
import random
import sys
import uuid

import numpy as np
import pytest

from studies.processes import limit_threads

if "PYTEST_XDIST_WORKER" in os.environ:
    limit_threads(1)  # before either framework is loaded: the workers fill the cores

_STATUS = pytest.StashKey[int]()


def pytest_collection_modifyitems(items):
    """Start with files that have slow tests: one that came last would keep one process busy while others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory, monkeypatch):
    """Keep what studies cache out of the user's home, and out of other tests."""
    monkeypatch.setenv("TOKENLINK_CACHE", str(tmp_path_factory.getbasetemp() / f"tokenlink-cache-{uuid.uuid4().hex}"))


@pytest.fixture(autouse=True)
def _seed_every_framework():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 -- libraries under us still draw from the global state
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(0)


def pytest_unconfigure(config):
    """Leave without the libraries' own farewell, with pytest's exit status.

    With TensorFlow, PyTorch and Mitsuba in one process, which only the tests have, the interpreter's shutdown aborts
    ("free(): invalid pointer") after everything has passed and been reported.
    """
    status = config.stash.get(_STATUS, None)
    if status is not None and "mitsuba" in sys.modules and "tensorflow" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


def pytest_sessionfinish(session, exitstatus):
    """Keep the exit status for `pytest_unconfigure`."""
    session.config.stash[_STATUS] = exitstatus
