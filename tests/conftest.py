"""What every test gets: all frameworks seeded, whichever are loaded."""

import random
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seed_every_framework():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 -- libraries under us still draw from the global state
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(0)
