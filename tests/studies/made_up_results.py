"""Results that nobody computed, of any schemes along any axes: what figures are drawn from."""

import json

import numpy as np

from studies.archive import Results
from studies.statistics import wilson_interval

SNR_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
SIXTEEN = (
    *("machine-tokens", "machine-tokens-uncompressed", "machine-tokens-arq-2", "bound-linear"),
    *("quantized-tokens", "token-indices", "quantized-tokens-harq", "token-indices-harq", "bound-digital"),
    *("caption", "caption-harq", "caption-error-free", "jpeg-ldpc", "avif-ldpc", "deepjscc", "deepjscc-small"),
    *("wrong-image", "raw-image", "question-only", "silent-link"),
)
LINK = {"channel": "cdl-c", "num_tx_ant": 4, "num_rx_ant": 8, "estimator": "lmmse", "recovery": "vamp"}


def made_up(schemes, axes, *, num_questions=2000, seed=0, **attributes):
    """Results of some schemes: accuracies that rise along numbers, each scheme with a height of its own."""
    rng = np.random.default_rng(seed)
    shape = tuple(map(len, axes.values()))
    rising = sum(np.ix_(*(np.linspace(0, 0.2, size) for size in shape)))
    heights = 0.45 + 0.35 * rng.random(len(schemes)).reshape(-1, *[1] * len(shape))
    num_correct = rng.binomial(num_questions, np.clip(heights + rising, 0, 1))
    low, high = wilson_interval(num_correct, np.full(num_correct.shape, num_questions))
    correct = rng.random((*num_correct.shape, 20)) < 0.7
    over = ("scheme", *axes)
    scalars = {"accuracy": num_correct / num_questions, "accuracy_low": low, "accuracy_high": high}
    scalars |= {name: np.full(num_correct.shape, 1.0) for name in ("code_nmse", "data_res")}
    coordinates = {name: np.array(values) for name, values in axes.items()}
    return Results(
        {"scheme": np.array(schemes), **coordinates, "question": np.arange(num_questions)},
        {**scalars, "correct": correct.astype(np.uint8), "confidence": rng.random(correct.shape, np.float32)},
        {"config_json": json.dumps({"link": LINK}), "num_missing_points": 0, **attributes},
        dict.fromkeys(scalars, over) | {"correct": (*over, "question")},
    )


THREE = ("machine-tokens", "raw-image", "question-only")
SHAPES = {  # of every kind of figure
    "default": ((*THREE, "machine-tokens-uncompressed", "silent-link", "wrong-image"), {"snr_db": SNR_DB}),
    "two SNRs": (THREE, {"snr_db": (0.0, 20.0)}),
    "one SNR": (THREE, {"snr_db": (0.0,)}),
    "many curves": (SIXTEEN, {"snr_db": SNR_DB}),
    "five hundred SNRs": (THREE, {"snr_db": tuple(np.linspace(-10, 30, 500))}),
    "widths": (THREE, {"width": (8, 16, 32, 64, 128), "snr_db": (-5.0, 15.0)}),
    "seeds": (THREE, {"seed": (0, 1, 2), "snr_db": SNR_DB}),
    "many SNRs of tokens": ((*THREE, "caption"), {"num_tokens": (1, 2, 3, 5, 8), "snr_db": SNR_DB}),
    "antennas": ((*THREE, "caption", "token-indices"), {"antennas": ("1x1", "8x16", "16x32"), "snr_db": (0.0,)}),
    "many antennas": (THREE, {"antennas": tuple(f"{n}x{2 * n}" for n in range(8, 24)), "snr_db": (0.0,)}),
    "many curves of antennas": (SIXTEEN, {"antennas": ("2x2", "4x8"), "snr_db": (-5.0, 15.0)}),
    "a long name": ((*THREE, "a-name-" + 12 * "that-is-long-"), {"snr_db": SNR_DB}),
}
