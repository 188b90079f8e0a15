"""Sparse recovery against PyLops on the same problems, and what each recovery makes of the codes of the shipped agents.

PyLops solves one example after the other, ours a batch; both get the matrices, the number of terms or steps, and the
penalty. The second part sends codes of the shipped agents over antenna-starved links.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from pylops import MatrixMult
from pylops.optimization.sparsity import fista as pylops_fista
from pylops.optimization.sparsity import omp as pylops_omp
from rich.table import Table

from phy import AnalogLink, CodePrior, LinkConfig
from phy.recovery.prior import best_terms_error, gini
from phy.recovery.sparse import BlockOperator, fista, omp
from semantic import AgentLink
from semantic.data import shipped_split
from studies.benchmarks.clock import take_turns
from studies.questions import batches, choose_questions

BATCH, NUM_RES, NUM_TX_ANT, NUM_RX_ANT, NUM_TERMS = 64, 40, 8, 3, 20
ITERATIONS, PENALTY = 200, 0.05
GOAL, MAX_DIFFERENCE = 20, 1e-3
SNR_DB, ANTENNAS = 20.0, ((8, 2), (8, 3))
RECOVERIES = ("ls", "lmmse", "omp", "fista", "vamp")
PRIORS = ("no prior", "learned")
TIE_DB = 0.01
STARVED: dict[str, Any] = {"channel": "cdl-c", "estimator": "perfect", "modulation": "amplitude"}


class Problems:
    """Sparse coefficients in an orthonormal basis, seen by resource elements that have fewer antennas than numbers.

    Attributes
    ----------
    blocks : np.ndarray, [BATCH, NUM_RES, 2 * NUM_RX_ANT, NUM_TX_ANT]
    basis : np.ndarray, [size, size], orthonormal
    matrices : np.ndarray, [BATCH, rows, size]
        The blocks times the basis.
    y : np.ndarray, [BATCH, rows]
    """

    def __init__(self, seed: int = 0):
        rng, size = np.random.default_rng(seed), NUM_RES * NUM_TX_ANT
        self.blocks = rng.standard_normal((BATCH, NUM_RES, 2 * NUM_RX_ANT, NUM_TX_ANT)).astype(np.float32)
        self.blocks /= np.sqrt(2 * NUM_RX_ANT * NUM_RES)
        self.basis = np.linalg.qr(rng.standard_normal((size, size)))[0].astype(np.float32)
        rows = self.basis.reshape(NUM_RES, NUM_TX_ANT, size)
        self.matrices = (self.blocks @ rows).reshape(BATCH, -1, size)
        self.z = np.zeros((BATCH, size), np.float32)
        for example in self.z:
            chosen = rng.choice(size, NUM_TERMS, replace=False)
            example[chosen] = rng.choice([-1, 1], NUM_TERMS) * rng.uniform(1, 2, NUM_TERMS)
        clean = np.einsum("brs,bs->br", self.matrices, self.z)
        noise = rng.standard_normal(clean.shape) * np.sqrt(np.mean(clean**2)) * 10 ** (-30 / 20)
        self.y = (clean + noise).astype(np.float32)


def against_pylops(*, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Time of both for a batch of problems, and whether they find the same.

    Returns
    -------
    dict
        For omp and fista: seconds `tokenlink_s` and `pylops_s`, their `ratio`, the share `same_support` of examples in
        which both have the same coefficients, and the largest difference of these over the largest coefficient.
    """
    problems = Problems()
    operators = [MatrixMult(matrix) for matrix in problems.matrices]
    step = np.float32(1 / max(np.linalg.norm(matrix, 2) ** 2 for matrix in problems.matrices))
    norms = np.linalg.norm(problems.matrices, axis=1)
    unit = [MatrixMult(matrix / norm) for matrix, norm in zip(problems.matrices, norms, strict=True)]

    def theirs_omp():
        result = [
            pylops_omp(operator, y, niter_outer=NUM_TERMS, niter_inner=NUM_TERMS, sigma=0.0)[0]
            for operator, y in zip(unit, problems.y, strict=True)
        ]
        return np.array(result) / norms

    def theirs_fista():
        result = [
            pylops_fista(operator, y, niter=ITERATIONS, alpha=float(step), eps=2 * PENALTY, tol=0.0)[0]
            for operator, y in zip(operators, problems.y, strict=True)
        ]
        return np.array(result)

    ours = _our_solvers(problems, step)
    result = {}
    for name, theirs in (("omp", theirs_omp), ("fista", theirs_fista)):
        seconds = take_turns({"tokenlink": ours[name], "pylops": theirs}, rounds=rounds)
        mine, reference = np.asarray(ours[name]()), theirs()
        supports = [np.abs(z) > 1e-3 * np.abs(reference).max() for z in (mine, reference)]
        result[name] = {
            "tokenlink_s": seconds["tokenlink"],
            "pylops_s": seconds["pylops"],
            "ratio": seconds["pylops"] / seconds["tokenlink"],
            "same_support": float(np.mean(np.all(supports[0] == supports[1], axis=1))),
            "difference": float(np.abs(mine - reference).max() / np.abs(reference).max()),
        }
    return result


def _our_solvers(problems, step):
    """Both, with all that they precompute counted."""
    given = tuple(map(tf.constant, (problems.blocks, problems.basis, problems.y)))

    def solve_omp(blocks, basis, y):
        return omp(BlockOperator(blocks, basis), y, max_terms=NUM_TERMS)[0]

    def solve_fista(blocks, basis, y):
        return fista(BlockOperator(blocks, basis), y, penalty=PENALTY, step=step, iterations=ITERATIONS)

    compiled = {"omp": tf.function(solve_omp, autograph=False), "fista": tf.function(solve_fista, autograph=False)}
    return {name: functools.partial(solve, *given) for name, solve in compiled.items()}


def on_codes(*, num_questions: int = 2000) -> dict[str, Any]:
    """NMSE of every recovery on codes of the shipped agents, with and without a prior.

    The prior learns from other images than those sent. Without one, the linear estimate knows their power and the
    sparse ones look in the codes' own coordinates.

    Returns
    -------
    dict
        `nmse`: by antennas, `PRIORS` and recovery, a number or why it is refused. `gini` and
        `best_tenth_error`: how sparse the codes are in the basis, by index and by the share of energy outside the
        largest tenth of the coefficients.
    """
    codes, images = _codes(num_questions)
    training = images < np.median(images)
    prior, sent = CodePrior.fit(codes[training]), codes[~training]
    coefficients = (sent - prior.mean).reshape(len(sent), -1) @ prior.basis
    known = dict(zip(PRIORS, (None, prior), strict=True))
    nmse = {
        f"{tx}x{rx}": {
            name: {kind: _nmse(kind, tx, rx, what, sent) for kind in RECOVERIES} for name, what in known.items()
        }
        for tx, rx in ANTENNAS
    }
    return {
        "num_training": int(training.sum()),
        "num_sent": len(sent),
        "nmse": nmse,
        "gini": gini(coefficients),
        "best_tenth_error": best_terms_error(coefficients, coefficients.shape[1] // 10),
    }


def _codes(num_questions):
    agents, split = AgentLink.from_pretrained("clevr-mini"), shipped_split()
    chosen = choose_questions(split.questions, num_questions, 0)
    with torch.inference_mode():
        codes = [agents.encode(batch.images, batch.texts).float().numpy() for batch in batches(split, chosen, 100)]
    return np.concatenate(codes), np.array([split.questions[index].image_index for index in chosen])


def _nmse(kind, num_tx_ant, num_rx_ant, prior, codes):
    try:
        config = LinkConfig(recovery=kind, num_tx_ant=num_tx_ant, num_rx_ant=num_rx_ant, **STARVED)
        link = AnalogLink(config, prior=prior)
    except ValueError as refusal:
        return str(refusal).partition(".")[0]
    error = energy = 0.0
    for start in range(0, len(codes), BATCH):
        some = codes[start : start + BATCH]
        codes_hat = link(some, SNR_DB, np.arange(start, start + len(some))).codes_hat.numpy()
        error += float(np.sum((codes_hat - some) ** 2))
        energy += float(np.sum(some**2))
    return error / energy


def measure(*, rounds: int = 3, on_case: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Run both parts; ready for JSON."""
    on_case("PyLops")
    report = {"pylops": against_pylops(rounds=rounds)}
    on_case("codes of the shipped agents")
    return report | {"codes": on_codes()}


def tables(report: dict[str, Any]) -> list[Table]:
    """One table for each part."""
    rows, size = 2 * NUM_RX_ANT * NUM_RES, NUM_TX_ANT * NUM_RES
    title = f"{BATCH} problems of {rows} observations and {size} unknowns: processor time"
    race = Table(title=title, title_justify="left", box=None)
    for column in ("", "TokenLink in ms", "PyLops in ms", "ratio", "goal", "same support", "difference"):
        race.add_column(column, justify="left" if not column else "right")
    for name, result in report["pylops"].items():
        times = (f"{1e3 * result[side]:.1f}" for side in ("tokenlink_s", "pylops_s"))
        difference = f"{result['difference']:.1e}"
        race.add_row(name, *times, f"{result['ratio']:.1f}", str(GOAL), f"{result['same_support']:.0%}", difference)
    codes = report["codes"]
    title = (
        f"NMSE in dB of {codes['num_sent']} codes at {SNR_DB:g} dB over {STARVED['channel']}, estimator "
        f"{STARVED['estimator']}, modulation {STARVED['modulation']}; prior learned from {codes['num_training']} codes "
        "of other images"
    )
    nmse = Table(title=title, title_justify="left", box=None)
    for column in ("antennas", "prior", *RECOVERIES, "best"):
        nmse.add_column(column, justify="left" if column in ("antennas", "prior") else "right")
    for antennas, by_prior in codes["nmse"].items():
        for prior, by_kind in by_prior.items():
            numbers = {kind: value for kind, value in by_kind.items() if not isinstance(value, str)}
            cells = [f"{10 * np.log10(numbers[kind]):.2f}" if kind in numbers else "refused" for kind in RECOVERIES]
            least = min(numbers.values())
            best = [kind for kind, value in numbers.items() if 10 * np.log10(value / least) < TIE_DB]
            nmse.add_row(antennas, prior, *cells, ", ".join(best))
    nmse.caption = (
        f"Gini index {codes['gini']:.2f} in the basis of the prior; the largest tenth of the coefficients leaves out "
        f"{codes['best_tenth_error']:.0%} of the energy."
    )
    return [race, nmse]


def shortfalls(report: dict[str, Any]) -> list[str]:
    """What misses its goal."""
    return [
        line
        for name, result in report["pylops"].items()
        for line, missed in (
            (f"{name}: {result['ratio']:.1f} times the throughput, not {GOAL}", result["ratio"] < GOAL),
            (f"{name}: same support in {result['same_support']:.0%} of the examples", result["same_support"] < 1),
            (f"{name}: coefficients differ by {result['difference']:.1e}", not result["difference"] <= MAX_DIFFERENCE),
        )
        if missed
    ]
