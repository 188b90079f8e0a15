"""Bounds in the place of a link: over the fades of a run, what no code could do better.

Digital: the quantised codes of machine tokens, lost where every code must lose them, or as often as random codes are.
The soft bits are those of the digital link, and it is known how often payloads of each size are lost at this mean SNR.
Linear: machine tokens by the best linear code of their covariance, with the channel estimate of the analog link.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.carriers.analog import make_channel, observation
from studies.schemes.digital.payload_link import payload_link
from studies.schemes.digital.quantizer_file import KINDS, Tables, load_tables
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from bridge import TokenChannel
    from phy.link_adaptation import PayloadLink
    from semantic.code_moments import CodeMoments
    from studies.questions import Batch
    from studies.workbench import Workbench

BOUND_SEED = 38_214  # of what bounds draw
BATCH = 100  # fades at a time, as in a study: another size would be traced anew


@dataclass(frozen=True)
class Choice:
    """Size and modulation with the best expected accuracy at an SNR.

    Attributes
    ----------
    kind : str
        Quantiser.
    num_bytes, bits_per_symbol : int
    lost : [num_questions]
        Which payloads are lost.
    """

    kind: str
    num_bytes: int
    bits_per_symbol: int
    lost: np.ndarray


class CodingBound:
    """Each question's codes as a payload, lost by a rule for codes of its size.

    Parameters
    ----------
    link : PayloadLink
    tables : mapping
        Tables of each kind of quantiser.
    num_questions : int
    lose : callable
        ``lose(density, num_bits)`` returns how probably each word is lost, from its information density.
    """

    crosses_link = True

    def __init__(
        self,
        link: "PayloadLink",
        tables: Mapping[str, Tables],
        num_questions: int,
        lose: Callable[[np.ndarray, int], np.ndarray],
    ):
        self.link, self._tables, self._num_questions, self._lose = link, dict(tables), num_questions, lose
        self.choose = functools.cache(self._choose)
        self._quantizer = functools.cache(lambda kind, num_bytes: KINDS[kind](self._tables[kind], num_bytes))

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the quantisers' tables, and the rule."""
        digest = hashlib.sha256()
        for kind, tables in sorted(self._tables.items()):
            digest.update(kind.encode() + b"".join(tables[name].tobytes() for name in sorted(tables)))
        return {"quantizers": digest.hexdigest(), "rule": self._lose.__name__}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Quantise, and return the codes that are not lost."""
        assert codes is not None
        sent, choice = codes[batch.numbers], self.choose(snr_db)
        quantizer, lost = self._quantizer(choice.kind, choice.num_bytes), choice.lost[batch.numbers]
        payloads, arrived = quantizer.encode(sent), np.flatnonzero(~lost).tolist()
        decoded = {index: quantizer.decode(payloads[index]) for index in arrived}
        return Delivery(
            items=[decoded.get(index) for index in range(len(sent))],
            lost=lost,
            undetected=np.zeros(len(lost), bool),
            codes=[sent[index] for index in arrived],
            codes_hat=list(decoded.values()),
            payload=self._payload(choice, len(sent)),
        )

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of the budget."""
        return ledger_scalars(self.link.ledger())

    def _choose(self, snr_db: float) -> Choice:
        best, numbers = (-np.inf, Choice("", 0, 0, np.zeros(0))), np.arange(self._num_questions)
        for bits_per_symbol in self.link.modulations:
            density = self.link.density(bits_per_symbol, snr_db, len(numbers))
            for kind, tables in self._tables.items():
                reached, if_lost = np.maximum.accumulate(tables["accuracy"]), tables["accuracy_lost"].item()
                for num_bytes, accuracy in zip(tables["accuracy_bytes"].astype(int).tolist(), reached, strict=True):
                    loss = self._lose(density, 8 * num_bytes)
                    expected = accuracy + (if_lost - accuracy) * float(np.mean(loss))
                    if expected > best[0]:
                        best = expected, Choice(kind, num_bytes, bits_per_symbol, loss)
        drawn = np.array([np.random.default_rng((BOUND_SEED, int(number))).random() for number in numbers])
        return replace(best[1], lost=drawn < best[1].lost)  # each with its probability

    def _payload(self, choice: Choice, count: int) -> dict[str, np.ndarray]:
        coded_bits = choice.bits_per_symbol * self.link.num_symbols
        facts = {
            "payload_bytes": choice.num_bytes,
            "payload_bits": 8 * choice.num_bytes,
            "bits_per_symbol": choice.bits_per_symbol,
            "code_rate": 8 * choice.num_bytes / coded_bits,
        }
        return {name: np.full(count, float(value)) for name, value in facts.items()}


class LinearBound:
    """Each question's codes with the error of the best linear code of their covariance.

    Parameters
    ----------
    channel : TokenChannel
    moments : CodeMoments
        Moments that the pair's decoder knows.
    num_tokens, width : int
    num_questions : int
    """

    crosses_link = True

    def __init__(
        self, channel: "TokenChannel", moments: "CodeMoments", num_tokens: int, width: int, num_questions: int
    ):
        self.channel, self.moments, self.num_tokens, self.width = channel, moments, num_tokens, width
        self._num_questions = num_questions
        self._mean = moments.mean.double().numpy()
        variances, self._basis = np.linalg.eigh(moments.dense().numpy())
        self._variances = variances.clip(min=0)
        ledger = channel.link.ledger(num_tokens=num_tokens, width=width)
        self._energy = num_tokens * width / channel.link.config.reals_per_re
        self._ledger = ledger_scalars(ledger)
        self.gains = functools.cache(self._gains)

    def determined_by(self) -> dict[str, Any]:
        """Return nothing: the moments belong to the agents."""
        return {}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Return codes as the best linear code lets them arrive."""
        from phy.linear_bound import known_shares

        assert codes is not None
        sent = codes[batch.numbers]
        known = known_shares(self._variances, self._energy, self.gains(snr_db)[batch.numbers])  # [batch, numbers]
        drawn = [np.random.default_rng((BOUND_SEED, int(n))).standard_normal(known.shape[1]) for n in batch.numbers]
        coefficients = (sent.reshape(len(sent), -1) - self._mean) @ self._basis
        estimated = known * coefficients + np.sqrt(known * (1 - known) * self._variances) * np.stack(drawn)
        codes_hat = (self._mean + estimated @ self._basis.T).reshape(sent.shape).astype(np.float32)
        unknown = ((1 - known) * self._variances) @ (self._basis**2).T
        error_var = unknown.reshape(sent.shape).astype(np.float32)
        items, item_var = observation(self.moments, codes_hat, error_var)
        return Delivery(items=items, item_var=item_var, codes=sent, codes_hat=codes_hat, error_var=error_var)

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of one question's codes."""
        return self._ledger

    def _gains(self, snr_db: float) -> np.ndarray:
        numbers, shape = np.arange(self._num_questions), {"num_tokens": self.num_tokens, "width": self.width}
        parts = [
            self.channel.link.gain(**shape, snr_db=snr_db, realisation=np.resize(part, BATCH))[: len(part)]
            for part in np.split(numbers, range(BATCH, len(numbers), BATCH))
        ]
        return np.concatenate(parts)


def any_code(workbench: "Workbench", weights: str) -> CodingBound:
    """Build the bound of all codes for quantised tokens."""
    from phy.coding_bounds import lost_by_any_code

    return _coding_bound(workbench, weights, "transform", lost_by_any_code)


def any_code_of_indices(workbench: "Workbench", weights: str) -> CodingBound:
    """Build the bound of all codes for indices of a codebook."""
    from phy.coding_bounds import lost_by_any_code

    return _coding_bound(workbench, weights, "vector", lost_by_any_code)


def random_code(workbench: "Workbench", weights: str) -> CodingBound:
    """Build the bound that random codes reach for quantised tokens."""
    from phy.coding_bounds import random_coding_loss

    return _coding_bound(workbench, weights, "transform", random_coding_loss)


def linear(workbench: "Workbench", weights: str) -> LinearBound:
    """Build the bound of linear codes.

    Raises
    ------
    ValueError
        If the pair's decoder knows no moments of codes.
    """
    agents = workbench.agents(weights)
    moments = agents.code.sent_moments
    if moments is None:
        raise ValueError(
            f"bound-linear: the decoder of {weights} knows no moments of codes; take a pair that `tokenlink train "
            "agents` made with a later version"
        )
    channel = make_channel(workbench.config.link)
    return LinearBound(channel, moments, agents.num_tokens, agents.width, len(workbench.questions))


def _coding_bound(
    workbench: "Workbench", weights: str, kind: str, lose: Callable[[np.ndarray, int], np.ndarray]
) -> CodingBound:
    tables = {kind: load_tables(workbench.weights(weights), kind, workbench.agents(weights))}
    return CodingBound(payload_link(workbench), tables, len(workbench.questions), lose)
