"""Evaluating one point of a study: every question once, question i over fade i, at one SNR."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studies.schemes.scheme import PAYLOAD

if TYPE_CHECKING:
    from studies.questions import Batch
    from studies.schemes.scheme import Delivery, Scheme


@dataclass(frozen=True)
class Evaluation:
    """One point: outcome and answer per question, and means over the questions.

    Attributes
    ----------
    correct : bool [num_questions]
    answers : list of str
    confidence : float32 [num_questions]
        How sure the answering model is of each; NaN where it does not say.
    code_nmse : float
        E|codes_hat - codes|^2 / E|codes|^2 of the numbers that arrived; NaN where none do.
    code_nmse_declared : float
        The same as the link declares it, from its error variance.
    loss_rate, undetected_rate : float
        Shares of payloads; NaN where no loss can be declared.
    psnr, ssim : float
        Means over the images that crossed the link; NaN where none did.
    payload : dict
        Mean sizes and rates of payloads, by the names of `PAYLOAD`; NaN where there are none.
    num_transmissions : float
        Mean number of transmissions of a question; NaN where nothing crosses the link.
    peaks : float32 [num_questions]
        Peak power of each question's waveform over the ensemble's mean; NaN without a waveform.
    peak_db : float
        What one of them in a hundred exceeds [dB].
    """

    correct: np.ndarray
    answers: list[str]
    confidence: np.ndarray
    code_nmse: float
    code_nmse_declared: float
    loss_rate: float
    undetected_rate: float
    psnr: float
    ssim: float
    payload: dict[str, float]
    num_transmissions: float
    peaks: np.ndarray
    peak_db: float


def evaluate(scheme: "Scheme", batches: Sequence["Batch"], codes: np.ndarray | None, snr_db: float) -> Evaluation:
    """Evaluate a scheme at an SNR; `codes` are those of all questions, None for a scheme without encoder."""
    from semantic.tasks import normalize_answer

    answers: list[str] = []
    error = declared = power = declared_power = 0.0
    lost: list[np.ndarray] = []
    undetected: list[np.ndarray] = []
    quality: list[tuple[float, float]] = []
    payloads: list[Mapping[str, np.ndarray]] = []
    transmissions: list[np.ndarray] = []
    peaks: list[np.ndarray] = []
    for batch in batches:
        written, delivery = scheme.answer(codes, batch, snr_db)
        answers += written
        if delivery.lost is not None and delivery.undetected is not None:
            lost.append(delivery.lost)
            undetected.append(delivery.undetected)
        if delivery.payload is not None:
            payloads.append(delivery.payload)
        if scheme.crosses_link:
            once = np.ones(len(written), np.int64)
            transmissions.append(once if delivery.num_transmissions is None else delivery.num_transmissions)
        if delivery.peaks is not None:
            peaks.append(delivery.peaks)
        if scheme.crosses_link:
            quality += image_quality(batch, delivery)
        if delivery.codes is not None and delivery.codes_hat is not None:
            error += energy([hat - sent for hat, sent in zip(delivery.codes_hat, delivery.codes, strict=True)])
            power += energy(delivery.codes)
            if delivery.error_var is not None:
                declared += float(sum(np.sum(variance, dtype=np.float64) for variance in delivery.error_var))
                declared_power += energy(delivery.codes)
    expected = [question.answer for batch in batches for question in batch.questions]
    correct = [normalize_answer(a) == normalize_answer(e) for a, e in zip(answers, expected, strict=True)]
    return Evaluation(
        np.array(correct),
        answers,
        np.array([getattr(answer, "confidence", np.nan) for answer in answers], np.float32),
        code_nmse=error / power if power else float("nan"),
        code_nmse_declared=declared / declared_power if declared_power else float("nan"),
        loss_rate=float(np.mean(np.concatenate(lost))) if lost else float("nan"),
        undetected_rate=float(np.mean(np.concatenate(undetected))) if undetected else float("nan"),
        psnr=float(np.mean([db for db, _ in quality])) if quality else float("nan"),
        ssim=float(np.mean([similarity for _, similarity in quality])) if quality else float("nan"),
        payload={
            name: float(np.mean(np.concatenate([part[name] for part in payloads]))) if payloads else float("nan")
            for name in PAYLOAD
        },
        num_transmissions=float(np.mean(np.concatenate(transmissions))) if transmissions else float("nan"),
        peaks=np.concatenate(peaks).astype(np.float32) if peaks else np.full(len(answers), np.nan, np.float32),
        peak_db=float(10 * np.log10(np.quantile(np.concatenate(peaks), 0.99))) if peaks else float("nan"),
    )


def energy(arrays: Sequence[np.ndarray] | np.ndarray) -> float:
    """Return the sum of squares of all numbers of some arrays, in double precision."""
    if not len(arrays):
        return 0.0
    numbers = np.concatenate([np.ravel(array) for array in arrays]).astype(
        np.float64
    )  # squares of 1e20 are none in single
    return float(np.sum(numbers**2))


def image_quality(batch: "Batch", delivery: "Delivery") -> list[tuple[float, float]]:
    """Return PSNR [dB] and SSIM of every image that arrived; none if the items are no images."""
    from semantic.deepjscc import to_tensor
    from semantic.image_quality import psnr, ssim

    arrived = [i for i, item in enumerate(delivery.items) if isinstance(item, np.ndarray) and item.dtype == np.uint8]
    if not arrived:
        return []
    originals, quality = batch.images, dict[int, tuple[float, float]]()
    for shape in {originals[i].shape for i in arrived}:  # images of one size at a time
        chosen = [i for i in arrived if originals[i].shape == shape]
        images, shown = to_tensor([originals[i] for i in chosen]), to_tensor([delivery.items[i] for i in chosen])
        quality |= zip(
            chosen, zip(psnr(images, shown).tolist(), ssim(images, shown).tolist(), strict=True), strict=True
        )
    return [quality[i] for i in arrived]
