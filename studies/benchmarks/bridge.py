"""The bridge: what it costs, and what its two gradients have in common.

All times are processor time on one thread. The training step is that of the shipped pair, `batch` scenes of the shipped
split, through its channel and, for comparison, with white noise from PyTorch instead of a channel.
"""

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bridge import TokenChannel, to_tf  # first: TensorFlow before PyTorch

# isort: split
import numpy as np
import tensorflow as tf
import torch
from rich.table import Table
from torch import nn

from phy import AnalogLink, CodePrior, LinkConfig, LinkOutput
from phy.channel import CACHE_BYTES
from phy.fading import BLOCK
from semantic import AgentLink
from semantic.adapters import lora_parameters
from semantic.agent_training import NUM_FADES, answer_from_tokens
from semantic.data import shipped_split
from semantic.data.packing import encode_question, pack
from studies.benchmarks.clock import take_turns
from studies.provenance import ROOT, package_versions

SNR_DB = 10.0
RECOVERIES = ("ls", "complex-ls", "lmmse", "lmmse-unbiased", "omp", "fista", "vamp")
ESTIMATORS = ("perfect", "ls-linear", "lmmse", "lmmse-spatial")  # the last is the default link's
SNRS_DB = (-10.0, 0.0, 10.0, 20.0)
MODULES = ("phy", "semantic", "bridge", "studies.cli")
EXTRA_SHARE, EXTRA_S = 0.02, 200e-6  # what crossing may cost on top of the link
MAX_STEP_RATIO = 1.10  # a training step through the channel over one with white noise


def measure(*, rounds: int = 5, on_case: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Run every part.

    Parameters
    ----------
    rounds : int
        Of which the medians are taken.
    on_case : callable
        Told the name of each part before it runs.

    Returns
    -------
    dict
        By part, ready for JSON.
    """
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Any]] = {
        "imports": import_times,
        "crossing": lambda: crossing(20 * rounds),
        "training step": lambda: training_step(rounds),
        "cosines": cosines,
    }
    report: dict[str, Any] = {"versions": package_versions()}
    for name, part in parts.items():
        on_case(name)
        report[name] = part()
    return report


def import_times() -> dict[str, float]:
    """Processor time [s] of importing a package in a fresh process."""
    code = "import {0}, time; print(time.process_time())"
    times = {}
    for module in MODULES:
        command = [sys.executable, "-c", code.format(module)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        times[module] = float(done.stdout)
    return times


class AtOnce(AnalogLink):
    """Answers at once, with ones: what takes time is the bridge."""

    answer = LinkOutput(*[tf.ones([32, 5, 64])] * 2)

    def __call__(self, codes, snr_db=10.0, realisation=None) -> LinkOutput:
        """Answer."""
        return self.answer


def crossing(rounds: int, batch: int = 32) -> dict[str, float]:
    """Time [s] of calling the link with TensorFlow's tensors and through `TokenChannel`, with and without gradient.

    `bridge alone` is a channel whose link answers at once: in turns with the link's own work, the processor has
    forgotten the bridge each time, which costs several times as much.
    """
    link, numbers = AnalogLink(LinkConfig()), np.arange(batch)
    channel, exact = TokenChannel(link), TokenChannel(link, "exact")
    codes = torch.randn(batch, 5, 64)
    wanting, grad = codes.clone().requires_grad_(), torch.ones_like(codes)
    theirs: Any = to_tf(codes)
    their_grad: Any = to_tf(grad)

    def taped() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(theirs)
            codes_hat = link(theirs, SNR_DB, numbers).codes_hat
        return tape.gradient(codes_hat, theirs, their_grad)

    alone = TokenChannel(AtOnce(LinkConfig()))
    contests: list[dict[str, Callable[[], Any]]] = [  # each for itself: after a tape the next rival finds a cold cache
        {
            "link": lambda: link(theirs, SNR_DB, numbers),
            "channel": lambda: channel(codes, SNR_DB, numbers),
        },
        {
            "link and tape": taped,
            "link and pull_back": lambda: link.vjp(theirs, SNR_DB, numbers)[1](their_grad),
            "channel and backward": lambda: exact(wanting, SNR_DB, numbers)[0].backward(grad),
        },
        {"bridge alone": lambda: alone(codes, SNR_DB, numbers)},
    ]
    return {name: taken for rivals in contests for name, taken in take_turns(rivals, rounds=rounds).items()}


class TrainingStep:
    """One step of the shipped pair's training, on a batch made once.

    Parameters
    ----------
    batch : int
    """

    def __init__(self, batch: int = 24):
        torch.manual_seed(0)
        self.agents, dataset = AgentLink.from_pretrained("clevr-mini"), shipped_split()
        sensor, tokenizer = self.agents.sensor, self.agents.sensor.processor.tokenizer
        groups: dict[tuple[int, str], list[Any]] = {}
        descriptions = self.agents.describe([question.question for question in dataset.questions])
        for question, description in zip(dataset.questions, descriptions, strict=True):
            groups.setdefault((question.image_index, description), []).append(question)
        chosen = list(groups)[:: len(groups) // batch][:batch]
        self._image_tokens = torch.stack(sensor.image_tokens([dataset.image(index) for index, _ in chosen]))
        self._prompts = sensor.tokenize([description for _, description in chosen], self._image_tokens.shape[1])
        rows = [[encode_question(tokenizer, q.question, q.answer) for q in groups[key]] for key in chosen]
        self._packed = pack(rows, 60)
        self.trained = [*lora_parameters(sensor.model), sensor.slots, *self.agents.code.parameters()]
        self._optimizer = torch.optim.AdamW(self.trained, lr=1e-5, fused=True)
        self._snr_db = torch.empty(batch).uniform_(-10, 20)

    def __call__(
        self, channel: Callable[..., tuple[torch.Tensor, torch.Tensor]], realisation: torch.Tensor | None
    ) -> float:
        """Loss of a step through `channel`."""
        self.agents.train()
        tokens = self.agents.sensor.express(self._image_tokens, *self._prompts)
        codes_hat, error_var = channel(self.agents.code.encode(tokens), snr_db=self._snr_db, realisation=realisation)
        tokens_hat = self.agents.code.decode(codes_hat, error_var)
        loss, _ = answer_from_tokens(self.agents.task_agent, tokens_hat, self._packed)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.item()


def white_noise(
    codes: torch.Tensor, snr_db: torch.Tensor, realisation: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stand in for a channel: noise and nothing else."""
    variance = 10 ** (-snr_db[:, None, None] / 10)
    return codes + variance.sqrt() * torch.randn_like(codes), variance.expand_as(codes)


def training_step(rounds: int, batch: int = 24) -> dict[str, float]:
    """Time [s] of a training step by what the codes meet.

    Training draws from a set of fades, so that a step meets fades that are in the link's memory or has to make them,
    a block at a time. `cached_share` is the share that memory holds of the set, `as in training` the mean for it.
    """
    step, link = TrainingStep(batch), AnalogLink(LinkConfig())
    channel, numbers, block = TokenChannel(link), torch.arange(batch), iter(range(1, 10**6))
    times = take_turns(
        {
            "white noise": lambda: step(white_noise, None),
            "fades met before": lambda: step(channel, numbers),
            "new fades": lambda: step(channel, numbers + BLOCK * next(block)),
        },
        rounds=rounds,
    )
    grid = link.transmission(num_tokens=step.agents.num_tokens, width=step.agents.width).grid.resources
    block_bytes = sum(np.asarray(part).nbytes for part in tf.nest.flatten(link.channel.fades(np.arange(BLOCK), grid)))
    times["cached_share"] = min(1.0, CACHE_BYTES / (NUM_FADES / BLOCK * block_bytes))
    extra = times["new fades"] - times["fades met before"]
    blocks_per_batch = 1 + (batch - 1) / BLOCK
    times["as in training"] = times["fades met before"] + (1 - times["cached_share"]) * blocks_per_batch * extra
    return times


def cosines(batch: int = 32, num_tokens: int = 2, width: int = 24) -> list[dict[str, Any]]:
    """Cosine between the straight-through and the exact gradient of codes, mean over examples.

    The gradient of the recovered codes is white Gaussian, which favours no direction; straight-through hands it on as
    it is, so that each row needs one exact pass. Codes are sparse in a basis of their own, as the sparse recoveries
    expect, with unit power; recovery from a prior meets the prior that was fitted to such codes.
    """
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((num_tokens * width,) * 2))[0]

    def draw(count: int) -> np.ndarray:
        active = rng.random((count, len(basis))) < 0.15
        sparse = active * rng.standard_normal((count, len(basis))) / 0.15**0.5
        return (sparse @ basis.T).reshape(count, num_tokens, width)

    prior, numbers = CodePrior.fit(draw(2000)), np.arange(batch)
    codes = torch.from_numpy(draw(batch)).float()
    grad = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    found = []
    tf.config.run_functions_eagerly(
        True
    )  # building the graphs of so many gradients takes longer than all that is computed
    try:
        for recovery, estimator in itertools.product(RECOVERIES, ESTIMATORS):
            config = LinkConfig(recovery=recovery, estimator=estimator)
            known = prior if recovery in ("lmmse", "omp", "fista", "vamp") else None
            channel = TokenChannel(AnalogLink(config, prior=known), "exact")
            for snr_db in SNRS_DB:
                leaf = codes.clone().requires_grad_()
                channel(leaf, snr_db, numbers)[0].backward(grad)
                assert leaf.grad is not None
                each = nn.functional.cosine_similarity(leaf.grad.flatten(1), grad.flatten(1))
                row = {"recovery": recovery, "prior": known is not None, "estimator": estimator, "snr_db": snr_db}
                found.append({**row, "cosine": each.mean().item(), "least": each.min().item()})
    finally:
        tf.config.run_functions_eagerly(False)
    return found


def tables(report: dict[str, Any]) -> list[Table]:
    """One table for each part."""
    imports = _table("Processor time of imports in a fresh process, in s", "module", "time")
    for module, seconds in report["imports"].items():
        imports.add_row(module, f"{seconds:.1f}")

    crossing = _table("Batch 32 over the link: processor time in ms", "", "TensorFlow", "bridge", "more", "at most")
    for name, ours, theirs, allowed in _pairs(report):
        cells = [theirs, ours, ours - theirs, allowed]
        crossing.add_row(name, *(f"{1e3 * cell:.2f}" for cell in cells))
    crossing.add_row("bridge alone", "", f"{1e3 * report['crossing']['bridge alone']:.3f}")

    times = report["training step"]
    title = f"Training step: processor time in ms; memory holds {times['cached_share']:.0%} of training's fades"
    step = _table(title, "the codes meet", "time", "ratio", "at most")
    for name in ("white noise", "fades met before", "new fades", "as in training"):
        goal = f"{MAX_STEP_RATIO:.2f}" if name == "as in training" else ""
        step.add_row(name, f"{1e3 * times[name]:.0f}", f"{times[name] / times['white noise']:.3f}", goal)

    title = "Cosine of straight-through and exact gradient, mean (least) over 32 examples, cdl-c, 4x8"
    cosine = _table(title, "recovery", "estimator", *(f"{snr_db:g} dB" for snr_db in SNRS_DB))
    rows: dict[tuple[str, str], list[str]] = {}
    for row in report["cosines"]:
        recovery = row["recovery"] + (" with prior" if row["prior"] else "")
        rows.setdefault((recovery, row["estimator"]), []).append(f"{row['cosine']:.3f} ({row['least']:.2f})")
    for key, cells in rows.items():
        cosine.add_row(*key, *cells)

    return [imports, crossing, step, cosine]


def shortfalls(report: dict[str, Any]) -> list[str]:
    """What misses its goal."""
    times = report["training step"]
    ratio = times["as in training"] / times["white noise"]
    found = [
        f"{name}: the bridge adds {1e6 * (ours - theirs):.0f} µs to {1e6 * theirs:.0f} µs"
        for name, ours, theirs, allowed in _pairs(report)
        if ours - theirs > allowed
    ]
    if ratio > MAX_STEP_RATIO:
        found.append(f"a training step through the channel takes {ratio:.2f} times as long as with white noise")
    for row in report["cosines"]:
        if row["recovery"] in ("ls", "complex-ls") and row["estimator"] == "perfect" and row["least"] < 0.999:
            found.append(
                f"{row['recovery']}, channel known, {row['snr_db']:g} dB: gradients differ, {row['least']:.4f}"
            )
    return found


def _pairs(report: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """(name, bridge's time, link's time, by how much they may differ)."""
    times = report["crossing"]
    rows = [
        ("forward", times["channel"], times["link"]),
        ("forward and backward, link under a tape", times["channel and backward"], times["link and tape"]),
        ("forward and backward, link.vjp", times["channel and backward"], times["link and pull_back"]),
    ]
    return [(name, ours, theirs, EXTRA_SHARE * theirs + EXTRA_S) for name, ours, theirs in rows]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column != "estimator" else "left")
    return table
