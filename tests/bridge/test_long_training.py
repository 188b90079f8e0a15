import pytest

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import torch

from phy import AnalogLink, LinkConfig
from studies.benchmarks import soak
from studies.config import ConfigError


@pytest.mark.slow
def test_a_long_training_builds_its_graphs_once_and_keeps_its_memory():
    report = soak.measure(rounds=4, steps=50)
    assert not report["late_graphs"]
    assert report["growth"] < 0.05  # of 150 steps, in which the allocator still settles; `tokenlink bench soak`: 0.02
    assert report["loss"][-1] < report["loss"][0]


def test_what_misses_its_goal_is_named():
    fine = {"growth": 0.01, "late_graphs": []}
    assert not soak.shortfalls(fine)
    (growth,) = soak.shortfalls({**fine, "growth": 0.03})
    assert growth == "resident memory grew by 3.0%, more than 2%"
    (graphs,) = soak.shortfalls({**fine, "late_graphs": ["inference_call"]})
    assert "graphs were built after the first 10 steps: inference_call" in graphs


def test_graphs_are_counted_where_they_are_built():
    channel = TokenChannel(AnalogLink(LinkConfig(channel="rayleigh", num_tx_ant=1, num_rx_ant=1)))
    with soak.graphs_built() as first:
        channel(torch.zeros(2, 1, 4))
    with soak.graphs_built() as second:
        channel(torch.zeros(3, 1, 4))
    assert first
    assert not second


def test_a_single_round_cannot_show_growth():
    with pytest.raises(ConfigError, match="take two rounds or more, got 1"):
        soak.measure(rounds=1)
