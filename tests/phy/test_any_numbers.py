"""Whatever the options of a link, the noise and the codes: what comes out is finite, or one message names an option."""

import dataclasses
import re
import time
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from phy import AnalogLink, CodePrior, LinkConfig
from phy.recovery import RECOVERIES
from phy.recovery.linear import least_squares
from tests.mutants import SEED

SNR_DB = (-60.0, -30.0, -10.0, 0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
SIZES = (0.0, 1.0, 1e20)  # of the codes
SHAPES = ((1, 1), (2, 1), (1, 3), (2, 8), (3, 21))
SMALL = ((1, 1), (1, 4), (2, 1), (4, 8), (8, 2), (3, 5), (16, 16), (16, 1))
PRIORS = {
    "none": lambda codes: None,
    "fitted": CodePrior.fit,
    "dictionary": lambda codes: CodePrior.fit(codes, basis="dictionary"),
    "few": lambda codes: CodePrior.fit(codes[:3]),
    "constant": lambda codes: CodePrior.fit(np.ones_like(codes)),
    "huge": lambda codes: CodePrior.fit(1e15 * codes),
    "tiny": lambda codes: CodePrior.fit(1e-15 * codes),
}
CHANNELS = ("awgn", "rayleigh", "tdl-a", "tdl-d", "cdl-c", "cdl-d", "umi")
ESTIMATORS = ("perfect", "ls-nearest", "ls-linear", "lmmse", "lmmse-spatial", "lmmse-robust")


def cases(count, seed, antennas, fft_sizes):
    """Every value of every option equally often, in combinations that the seed decides."""
    rng = np.random.default_rng(seed)
    options = {
        "recovery": list(RECOVERIES),
        "estimator": ESTIMATORS,
        "channel": CHANNELS,
        "antennas": antennas,
        "fft_size": fft_sizes,
        "shape": SHAPES,
        "prior": list(PRIORS),
        "modulation": ("amplitude", "iq"),
        "pilots": ("kronecker",),
        "pilot_spacing": (1, 1, 1, 1, 2, 7),
        "precision": ("single", "single", "double"),
        "csi_delay": (0.0, 0.0, 1e-2),
        "noise_error_db": (0.0, 0.0, -60.0, 60.0),
        "adc_bits": (None, None, 1),
    }
    columns = [[values[i % len(values)] for i in rng.permutation(count)] for values in options.values()]
    rows = [dict(zip(options, row, strict=True)) for row in zip(*columns, strict=True)]
    for row in rows[::2]:  # half of the rows have room for their pilots
        if row["fft_size"] < row["antennas"][0] * row["pilot_spacing"]:
            row |= {"pilots": "none", "estimator": "perfect"}
    return rows


def transmit(case):
    """Send codes of every size at every SNR; return all that the link gives back."""
    options = dict(case)
    (num_tx_ant, num_rx_ant), shape, prior = (options.pop(name) for name in ("antennas", "shape", "prior"))
    link_config = LinkConfig(num_tx_ant=num_tx_ant, num_rx_ant=num_rx_ant, **options)
    rng = np.random.default_rng(0)
    known = PRIORS[prior](rng.standard_normal((200, *shape))) if RECOVERIES[case["recovery"]].takes_prior else None
    codes = np.repeat(SIZES, len(SNR_DB))[:, None, None] * rng.standard_normal((len(SIZES) * len(SNR_DB), *shape))
    return AnalogLink(link_config, prior=known)(
        codes.astype(np.float32), np.tile(SNR_DB, len(SIZES)), np.arange(len(codes))
    )


def sweep(count, seed, antennas, fft_sizes):
    """Transmit every case; return how many were sent and how many refused."""
    fields = [field.name for field in dataclasses.fields(LinkConfig)]
    counts, wrong = Counter(), []
    for case in cases(count, seed, antennas, fft_sizes):
        start = time.monotonic()
        try:
            out = transmit(case)
        except ValueError as error:
            counts["refused"] += 1
            if not any(re.search(rf"\b{name}\b", str(error)) for name in fields):
                wrong.append((case, str(error)))
            continue
        except Exception as error:
            wrong.append((case, f"{type(error).__name__}: {error!s:.200}"))
            continue
        finally:
            print(f"{time.monotonic() - start:.1f} s: {case}", flush=True)
        counts["sent"] += 1
        counts["transmissions"] += len(SIZES) * len(SNR_DB)
        for name, part in zip(out._fields, map(np.asarray, out), strict=True):
            finite = np.isfinite(part).reshape(len(SIZES), len(SNR_DB), -1).all(2)
            for size, at in zip(*np.nonzero(~finite), strict=True):
                wrong.append((case, f"{name} is not finite for codes of {SIZES[size]:g} at {SNR_DB[at]:g} dB"))
        if np.min(out.error_var) < 0:
            wrong.append((case, "a variance is negative"))
    print(dict(counts))
    assert not wrong, "\n".join(f"{case}: {problem}" for case, problem in wrong)
    return counts


def test_links_of_any_options_are_finite_or_refused():
    counts = sweep(9, 1, SMALL[:6], (1, 12, 64))
    assert counts["sent"] >= 4


@pytest.mark.thousands
def test_thousands_of_transmissions_of_any_options_are_finite_or_refused():
    """Large arrays and wide grids now and then: each takes a minute."""
    counts = sweep(120, 10 + SEED, (*5 * SMALL, (32, 64)), (*3 * (1, 2, 3, 12, 64, 64), 2048))
    assert counts["sent"] >= 40
    assert counts["refused"] >= 10


def test_a_variance_is_not_negative_where_the_noise_is_taken_for_a_million_times_as_large():
    link = AnalogLink(
        LinkConfig(
            channel="rayleigh",
            estimator="lmmse",
            recovery="complex-lmmse-unbiased",
            precision="double",
            csi_delay=0.01,
            noise_error_db=60.0,
        )
    )
    codes = np.random.default_rng(0).standard_normal((60, 1, 3)).astype(np.float32)
    assert np.min(link(codes, np.linspace(-60, 100, 60), np.arange(60)).error_var) > 0


@pytest.mark.parametrize("recovery", ["lmmse", "vamp"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_code_may_take_one_resource_element(recovery, estimator):
    """Its shape was not known to every box."""
    codes = np.random.default_rng(0).standard_normal((50, 1, 3)).astype(np.float32)
    config = LinkConfig(channel="tdl-a", fft_size=12, recovery=recovery, estimator=estimator)
    out = AnalogLink(config, prior=CodePrior.fit(codes))(codes, 20.0, np.arange(50))
    assert np.mean((out.codes_hat - codes) ** 2) < 0.2


@pytest.mark.parametrize("dtype", [tf.complex64, tf.complex128])
@pytest.mark.parametrize("real", [True, False])
def test_least_squares_without_a_channel_are_large_and_finite(dtype, real):
    """A converter of one bit may show nothing of a weak antenna."""
    a = tf.cast(tf.constant([0.0, 1e-20, 1.0])[:, None, None, None] * tf.eye(2)[:, :, None], dtype)
    x, inverse_gram = least_squares(a, tf.ones([3, 2, 1], dtype), real=real)
    assert np.isfinite(x).all()
    assert np.isfinite(inverse_gram).all()
    np.testing.assert_allclose(inverse_gram[:, 2], 1)
    assert np.min(inverse_gram[:, 0]) > 1e20
