"""Latency: where the time of a question goes, from the image to the answer, on this machine.

The chain is that of machine tokens over the default link. The receiver's part is the channel estimate and the recovery,
one matrix product for each resource element, compiled; what the simulation alone needs, drawing fades and adding noise,
is left out. Beside the recovery stands what a digital receiver does in its place: decoding the polar code of a
codebook's indices, and the LDPC code of quantised tokens and of an image, from soft bits of good quality. The task
agent's prefill, all positions at once up to the first word of the answer, stands apart from the words behind it.

`bench-latency.h5` holds the figures as arrays over their names, `bench-latency.png` and `.pdf` draw the shares.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bridge  # noqa: F401 -- first: it fixes the order in which the two frameworks are loaded

# isort: split
import numpy as np
import tensorflow as tf
import torch
from rich.table import Table

from phy import AnalogLink, LinkConfig
from phy.graphs import graph
from phy.noise import snr_db_to_no
from phy.transport_block import TransportCoder, TransportFormat
from semantic import AgentLink, TaskAgent
from semantic.data import shipped_split
from studies.benchmarks import latency_figure
from studies.benchmarks.clock import take_turns
from studies.provenance import package_versions
from studies.questions import batches, choose_questions

SNR_DB = 10.0
BATCHES = (1, 100)  # questions at a time
SENSOR, ENCODE, AIR, ESTIMATE, RECOVER, DECODE, PREFILL, WORDS = CHAIN = (
    *("sensor agent", "JTCC encoder", "air", "channel estimate", "recovery"),
    *("JTCC decoder", "task agent: prefill", "task agent: further words"),
)
LLR_MEAN = 8.0  # of the soft bits: their variance is twice that
PAYLOADS = {  # name: bytes, bits of a QAM symbol, coded bits that fill 80 or 1 536 elements of four antennas
    "polar code, 5 bytes": (5, 2, 640),
    "LDPC, 80 bytes": (80, 4, 1280),
    "LDPC, 1 920 bytes": (1920, 4, 24576),
}


def measure(*, rounds: int = 5, on_case: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Time every stage, alone and in batches.

    Parameters
    ----------
    rounds : int
        Measurements of which the median is taken.
    on_case : callable
        Told the number of questions at a time before it is measured.

    Returns
    -------
    dict
        For each number of questions at a time: `chain` and `decoding`, seconds a question of each stage and of each
        digital decoder; `air` is the time on the channel, which no processor changes.
    """
    torch.set_num_threads(1)
    agents, split = AgentLink.from_pretrained("clevr-mini"), shipped_split()
    chosen = choose_questions(split.questions, BATCHES[-1], 0)
    report: dict[str, Any] = {"versions": package_versions()}
    for size in BATCHES:
        on_case(f"{size} at a time")
        batch = next(iter(batches(split, chosen, size)))
        report[str(size)] = {
            "chain": _chain(agents, batch.images, batch.texts, rounds),
            "decoding": _decoding(size, rounds),
        }
    return report


@torch.no_grad()
def _chain(agents: AgentLink, images: list[np.ndarray], questions: list[str], rounds: int) -> dict[str, float]:
    """Return seconds a question of each stage of the analog chain."""
    link, descriptions = AnalogLink(LinkConfig()), agents.describe(questions)
    tokens = agents.sensor.tokens(images, descriptions)
    codes = agents.code.encode(tokens)
    sizes = {"num_tokens": agents.num_tokens, "width": agents.width}
    transmission, sent = link.transmission(**sizes), tf.constant(codes.numpy(force=True))
    numbers = np.arange(len(questions))
    fades = tf.nest.map_structure(tf.convert_to_tensor, link.channel.fades(numbers, transmission.grid.resources))
    no = snr_db_to_no(np.full(len(questions), SNR_DB, np.float32), tf.float32)[:, None]
    y = transmission.send(transmission.map_tokens(sent), fades, no)
    estimate = graph(lambda fades, no: transmission.estimate(fades, no))
    recover = graph(lambda *received: transmission.recover(*transmission.whiten(*received), received[-1]))
    h_hat, err_var = estimate(fades, no)
    received = link(sent, SNR_DB, numbers)
    codes_hat, error_var = (torch.from_numpy(part.numpy()) for part in (received.codes_hat, received.error_var))
    tokens_hat = agents.code.decode(codes_hat, error_var)
    of_one_word = TaskAgent(agents.task_agent.model, agents.task_agent.tokenizer, max_new_tokens=1)
    taken = take_turns(
        {
            SENSOR: lambda: agents.sensor.tokens(images, descriptions),
            ENCODE: lambda: agents.code.encode(tokens),
            ESTIMATE: lambda: estimate(fades, no),
            RECOVER: lambda: recover(y, h_hat, err_var, no),
            DECODE: lambda: agents.code.decode(codes_hat, error_var),
            PREFILL: lambda: of_one_word.answer(questions, prefix=tokens_hat),
            WORDS: lambda: agents.task_agent.answer(questions, prefix=tokens_hat),
        },
        rounds=rounds,
    )
    taken[WORDS] = max(0.0, taken[WORDS] - taken[PREFILL])
    seconds = {name: taken[name] / len(questions) for name in taken} | {AIR: link.ledger(**sizes).active_s}
    return {name: seconds[name] for name in CHAIN}


def _decoding(num_payloads: int, rounds: int) -> dict[str, float]:
    """Return seconds a payload of each digital decoder, from log-likelihood ratios of a Gaussian channel."""
    rng, rivals = np.random.default_rng(0), {}
    for name, (num_bytes, bits_per_symbol, coded_bits) in PAYLOADS.items():
        options = {"bits_per_symbol": bits_per_symbol, "coded_bits": coded_bits, "length_header": False}
        coder = TransportCoder(
            TransportFormat.of(num_bytes, **options), bits_per_symbol=bits_per_symbol, num_iterations=20
        )
        bits = coder.encode([rng.bytes(num_bytes) for _ in range(num_payloads)]).numpy()
        llr = LLR_MEAN * (2 * bits - 1) + np.sqrt(2 * LLR_MEAN) * rng.standard_normal(bits.shape)
        rivals[name] = partial(coder.decode, tf.constant(llr, tf.float32))
    return {name: seconds / num_payloads for name, seconds in take_turns(rivals, rounds=rounds).items()}


def tables(report: dict[str, Any]) -> list[Table]:
    """Return the chain with each stage's share, and the decoders beside the recovery."""
    shown = []
    for size in map(str, BATCHES):
        chain, decoding = report[size]["chain"], report[size]["decoding"]
        total = sum(chain.values())
        table = Table(title=f"Time of a question, {size} at a time", title_justify="left", box=None)
        for column in ("stage", "ms", "share"):
            table.add_column(column, justify="right" if column != "stage" else "left")
        for name in CHAIN:
            table.add_row(name, f"{1e3 * chain[name]:.3f}", f"{100 * chain[name] / total:.1f} %")
        table.add_row("all", f"{1e3 * total:.2f}", "")
        for name, seconds in decoding.items():
            table.add_row(f"in place of the recovery: {name}", f"{1e3 * seconds:.3f}", f"{_ratio(seconds, chain)} x")
        shown.append(table)
    return shown


def _ratio(seconds: float, chain: dict[str, float]) -> str:
    return f"{seconds / chain[RECOVER]:.3g}"


def draw(report: dict[str, Any], *, folder: Path, name: str) -> list[Path]:
    """Write the archive and the figure, and return their paths."""
    return latency_figure.write(_figures(report), folder=folder, name=name)


def _figures(report: dict[str, Any]) -> latency_figure.Figures:
    of = [report[str(size)] for size in BATCHES]
    return latency_figure.Figures(
        sizes=np.array(BATCHES),
        stages=CHAIN,
        seconds=np.array([[part["chain"][stage] for stage in CHAIN] for part in of]),
        decoders=tuple(PAYLOADS),
        decoding=np.array([[part["decoding"][decoder] for decoder in PAYLOADS] for part in of]),
        replaced=RECOVER,
        attributes={f"version_{package}": version for package, version in report["versions"].items()},
    )


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return nothing: these are facts of a machine, and no goal is set."""
    return []
