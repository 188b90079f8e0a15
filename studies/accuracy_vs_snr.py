"""Figure: task accuracy against SNR.

The sensor agent sees the image and a vague description of the task; the task agent has to answer the detailed question
from what reaches it over the link. Every scheme meets the same questions and, question by question, the same fades.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np

from studies import plots, sweep
from studies.archive import Results
from studies.config import Distinct, SnrAxis, content_hash
from studies.engines import Engine, Outcome
from studies.questions import Batch
from studies.schemes import (
    answer_text,
    caption,
    caption_error_free,
    deepjscc,
    deepjscc_small,
    jpeg_ldpc,
    jpeg_ldpc_fixed,
    machine_tokens,
    machine_tokens_adaptive,
    machine_tokens_uncompressed,
    quantized_tokens,
    question_only,
    raw_image,
    silent_link,
    token_indices,
    wrong_image,
)
from studies.schemes.digital.payload_link import Delivered
from studies.schemes.scheme import Scheme
from studies.workbench import StudyConfig

NAME = "accuracy-vs-snr"
SCHEMES = {
    "machine-tokens": machine_tokens.build,
    "machine-tokens-uncompressed": machine_tokens_uncompressed.build,
    "raw-image": raw_image.build,
    "question-only": question_only.build,
    "silent-link": silent_link.build,
    "wrong-image": wrong_image.build,
    "machine-tokens-adaptive": machine_tokens_adaptive.build,
    "caption": caption.build,
    "caption-error-free": caption_error_free.build,
    "answer-text": answer_text.build,
    "quantized-tokens": quantized_tokens.build,
    "token-indices": token_indices.build,
    "jpeg-ldpc": jpeg_ldpc.build,
    "jpeg-ldpc-fixed": jpeg_ldpc_fixed.build,
    "deepjscc": deepjscc.build,
    "deepjscc-small": deepjscc_small.build,
}
Default = Literal[
    "machine-tokens", "machine-tokens-uncompressed", "raw-image", "question-only", "silent-link", "wrong-image"
]
Digital = Literal[  # left out by default: they take minutes, most of them to decode
    "caption",
    "caption-error-free",
    "answer-text",
    "quantized-tokens",
    "token-indices",
    "jpeg-ldpc",
    "jpeg-ldpc-fixed",
]
Analog = Literal["deepjscc", "deepjscc-small"]  # left out as well: in each point there are new images to look at
SchemeName = Literal[Default, "machine-tokens-adaptive", Digital, Analog]


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-snr -s KEY=VALUE`, or a YAML file with the same keys."""

    schemes: Annotated[tuple[SchemeName, ...], Distinct] = get_args(Default)
    snr_db: SnrAxis = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


TINY = {"num_questions": 24, "batch_size": 12, "snr_db": [0.0, 20.0]}


def evaluate(
    scheme: Scheme, batches: Sequence[Batch], codes: np.ndarray | None, coordinates: Mapping[str, float]
) -> sweep.Evaluation:
    """Compute one point of the figure: every question once, question i over fade i, at one SNR."""
    from semantic.tasks import normalize_answer

    answers, lost, undetected, quality, error, power = [], [], [], [], 0.0, 0.0
    for batch in batches:
        sent = scheme.send(codes, batch)
        received = scheme.deliver(sent, coordinates.get("snr_db", np.inf), realisation=batch.numbers)
        answers += scheme.answer(batch, received)
        if isinstance(received, list):
            lost += [item is None for item in received]
            undetected += received.undetected if isinstance(received, Delivered) else [False] * len(received)
        quality += _image_quality(batch, received)
        if (pair := _codes(sent, received)) is not None:
            error += float(np.sum((pair[1] - pair[0]) ** 2, dtype=np.float64))
            power += float(np.sum(pair[0] ** 2, dtype=np.float64))
    expected = [question.answer for batch in batches for question in batch.questions]
    correct = [normalize_answer(a) == normalize_answer(e) for a, e in zip(answers, expected, strict=True)]
    return sweep.Evaluation(
        np.array(correct),
        answers,
        code_nmse=error / power if power else float("nan"),
        loss_rate=float(np.mean(lost)) if lost else float("nan"),
        undetected_rate=float(np.mean(undetected)) if undetected else float("nan"),
        psnr=float(np.mean([db for db, _ in quality])) if quality else float("nan"),
        ssim=float(np.mean([similarity for _, similarity in quality])) if quality else float("nan"),
    )


def _image_quality(batch: Batch, received: Any) -> list[tuple[float, float]]:
    """Return PSNR [dB] and SSIM of every image that arrived; none if what arrives are no images."""
    from semantic.deepjscc import to_tensor
    from semantic.image_quality import psnr, ssim

    items = received if isinstance(received, (list, np.ndarray)) else []
    arrived = [place for place, item in enumerate(items) if isinstance(item, np.ndarray) and item.dtype == np.uint8]
    if not arrived:
        return []
    originals = batch.images
    images, shown = to_tensor([originals[place] for place in arrived]), to_tensor([items[place] for place in arrived])
    return list(zip(psnr(images, shown).tolist(), ssim(images, shown).tolist(), strict=True))


def _codes(sent: np.ndarray | None, received: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the codes that were sent and arrived, and what arrived of them; None if either are no codes."""
    if sent is None or received is None or not np.issubdtype(sent.dtype, np.floating):
        return None
    if isinstance(received, (dict, np.ndarray)):  # parts of codes of several sizes; the images made of codes
        return None
    if not isinstance(received, list):
        return sent, received.numpy(force=True)
    arrived = [place for place, codes_hat in enumerate(received) if codes_hat is not None]
    return (sent[arrived], np.stack([received[place] for place in arrived])) if arrived else None


def plan(config: Config, out: Path | None = None) -> sweep.Sweep:
    """Lay out the points. Nothing is computed or written; `out` defaults to a folder named after the configuration."""
    folder = out or Path("runs") / f"{NAME}-{content_hash(config.plain())[:8]}"
    schemes = {name: SCHEMES[name] for name in config.schemes}
    return sweep.Sweep(NAME, config, schemes=schemes, axes={"snr_db": config.snr_db}, evaluate=evaluate, folder=folder)


def main(
    config: Config,
    *,
    out: Path | None = None,
    engine: Engine = "inline",
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
    on_start: Callable[[int], Any] = lambda num_jobs: None,
    on_outcome: Callable[[Outcome], Any] = lambda outcome: None,
) -> tuple[Results, list[Outcome]]:
    """Run the study, or what is left of it, and draw the figure.

    Parameters
    ----------
    config : Config
    out : the run folder
    engine, workers : where points are computed; they change no number
    shard : (i, N): compute only the i-th of N parts
    on_start, on_outcome : called with the number of jobs, and as each of them ends

    Returns
    -------
    Results
        Also in `results.h5` and `figures/` of the run folder.
    list of Outcome
        The jobs that failed. Their points are missing; running the study again repeats only these.
    """
    study = plan(config, out)
    results, failed = study.complete(
        engine=engine, workers=workers, shard=shard, on_start=on_start, on_outcome=on_outcome
    )
    plots.draw_accuracy(results, axis="snr_db", folder=study.folder / "figures", name=NAME)
    return results, failed
