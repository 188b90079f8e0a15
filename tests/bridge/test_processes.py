"""The bridge in other processes: spawned workers, distributed ranks, fresh interpreters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from phy import AnalogLink, LinkConfig

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"channel": "rayleigh", "num_tx_ant": 2, "num_rx_ant": 2, "estimator": "perfect"}


class Received(Dataset):
    """Codes as a receiver gets them, made by the workers of a DataLoader."""

    def __init__(self, channel):
        self.channel = channel

    def __len__(self):
        return 4

    def __getitem__(self, index):
        codes_hat, _ = self.channel(torch.ones(1, 2, 8), 10.0, [index])
        return codes_hat[0]


class Pair(nn.Module):
    """The smallest model with a channel inside."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(8, 8)
        self.channel = TokenChannel(AnalogLink(LinkConfig(**FACTS)))

    def forward(self, x, numbers):
        return self.channel(self.encode(x), 10.0, numbers)[0]


def gradient(model, numbers):
    model(torch.ones(len(numbers), 2, 8), numbers).square().mean().backward()
    return next(model.parameters()).grad


def train_a_rank(rank, folder):
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    torch.save(gradient(DistributedDataParallel(Pair()), [2 * rank, 2 * rank + 1]), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_workers_that_are_spawned_meet_the_same_channel():
    dataset = Received(TokenChannel(AnalogLink(LinkConfig(**FACTS))))
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="spawn")
    received = torch.cat(list(loader))
    assert torch.equal(received, torch.stack([dataset[index] for index in range(4)]))


@pytest.mark.slow
def test_distributed_ranks_average_the_gradients_through_their_channels(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(train_a_rank, (tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.manual_seed(0)
    assert torch.equal(*ranks)
    torch.testing.assert_close(ranks[0], gradient(Pair(), [0, 1, 2, 3]))


@pytest.mark.slow
def test_a_compiled_model_leaves_the_channel_as_it_is():
    model, x = Pair(), torch.ones(2, 2, 8)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(x, [0, 1]), model(x, [0, 1]))
    gradients = []
    for each in (model, compiled):
        model.zero_grad()
        gradients.append(gradient(each, [0, 1]).clone())
    assert torch.equal(*gradients)


def test_importing_bridge_prints_nothing():
    done = subprocess.run([sys.executable, "-c", "import bridge"], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


FRESH = """
import tensorflow as tf
from tensorflow.python.eager import context
tf.config.list_physical_devices = lambda kind: [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
calls = []
def grow(gpu, enable):
    {body}
tf.config.experimental.set_memory_growth = grow
import bridge, sys, torch
print(*calls)
print(*[name for name in sys.modules if name in ("tensorflow", "torch")])
print("threads", torch.get_num_threads())
"""


def fresh(body, **environment):
    """Import bridge in a fresh process where TensorFlow sees a GPU; what it prints, and what it complains about."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH.format(body=body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n"), done.stderr


@pytest.mark.slow
def test_gpu_memory_is_settled_before_tensorflow_runs_and_threads_are_those_of_the_environment():
    lines, _ = fresh("calls.extend([gpu.name, enable, context.context()._initialized])", OMP_NUM_THREADS="1")
    assert lines[:2] == ["/physical_device:GPU:0 True False", "tensorflow torch"]
    assert lines[2].split()[1] == "1"


@pytest.mark.slow
def test_where_gpu_memory_cannot_be_settled_any_more_a_warning_says_so():
    _, complaints = fresh("raise RuntimeError('too late')")
    assert "may have taken all memory of /physical_device:GPU:0; import phy or bridge first" in complaints
