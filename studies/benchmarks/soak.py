"""A long training through the link: whether its memory stays and its graphs are built once.

An autoencoder learns through cdl-c with the exact gradient. Every step meets new fades, every fourth batch is a smaller
one, as the last of an epoch is.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import numpy as np
import tensorflow as tf
import torch
from rich.table import Table
from torch import nn

from phy import AnalogLink, LinkConfig
from studies.config import ConfigError

STEPS = 1000  # of a round
WARM_STEPS = 10  # after which no graph may be built
MAX_GROWTH = 0.02  # of resident memory from the end of the first round to that of the last


def measure(
    *, rounds: int = 5, steps: int = STEPS, on_case: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """Train.

    Parameters
    ----------
    rounds : int
        Of `steps` steps each.
    steps : int
    on_case : callable
        Told the number of each round before it runs.

    Returns
    -------
    dict
        `resident_bytes` and `loss` (mean over its last tenth) after each round, `growth` of the memory from the first
        to the last, and the names of `late_graphs`, built after the first ten steps.

    Raises
    ------
    ConfigError
        For a single round, which cannot show growth.
    """
    if rounds < 2:
        raise ConfigError(f"memory grows from the end of the first round on: take two rounds or more, got {rounds}")
    torch.manual_seed(0)
    channel = TokenChannel(AnalogLink(LinkConfig(), cache_bytes=0), "exact")
    encoder, decoder = nn.Linear(16, 32), nn.Linear(32, 16)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    losses, memory, late_graphs = [], [], []
    for number in range(rounds * steps):
        if number % steps == 0:
            on_case(f"round {number // steps + 1} of {rounds}")
        x = torch.randn(5 if number % 4 == 3 else 16, 1, 16)
        with graphs_built() as graphs:
            codes_hat, _ = channel(encoder(x))
            loss = (decoder(codes_hat) - x).square().mean()
            loss.backward()
        late_graphs += graphs if number >= WARM_STEPS else []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (number + 1) % steps == 0:
            memory.append(resident_bytes())
    ends = [losses[(n + 1) * steps - steps // 10 : (n + 1) * steps] for n in range(rounds)]
    return {
        "steps": rounds * steps,
        "resident_bytes": memory,
        "growth": memory[-1] / memory[0] - 1,
        "late_graphs": late_graphs,
        "loss": [float(np.mean(end)) for end in ends],
    }


@contextmanager
def graphs_built() -> Iterator[list[str]]:
    """Names of the graphs that TensorFlow builds within the block: tracing a function anew builds one at least."""
    names, build = [], tf.__internal__.FuncGraph.__init__

    def note(self: Any, name: str, *args: Any, **kwargs: Any) -> None:
        names.append(name)
        build(self, name, *args, **kwargs)

    tf.__internal__.FuncGraph.__init__ = note
    try:
        yield names
    finally:
        tf.__internal__.FuncGraph.__init__ = build


def resident_bytes() -> int:
    """Memory of this process that is in use now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tables(report: dict[str, Any]) -> list[Table]:
    """One table."""
    table = Table(title=f"{report['steps']} training steps through cdl-c", title_justify="left", box=None)
    for column in ("after round", "resident memory in MB", "loss"):
        table.add_column(column, justify="right")
    for number, (held, loss) in enumerate(zip(report["resident_bytes"], report["loss"], strict=True), start=1):
        table.add_row(str(number), f"{held / 1e6:.1f}", f"{loss:.3f}")
    table.caption = (
        f"memory grew by {report['growth']:.2%} (at most {MAX_GROWTH:.0%}); {len(report['late_graphs'])} graphs were "
        f"built after the first {WARM_STEPS} steps (at most 0)"
    )
    return [table]


def shortfalls(report: dict[str, Any]) -> list[str]:
    """What misses its goal."""
    missed = []
    if report["growth"] > MAX_GROWTH:
        missed.append(f"resident memory grew by {report['growth']:.1%}, more than {MAX_GROWTH:.0%}")
    if report["late_graphs"]:
        missed.append(f"graphs were built after the first {WARM_STEPS} steps: {', '.join(report['late_graphs'][:5])}")
    return missed
