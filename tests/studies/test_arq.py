"""Retransmission: who asks again, how what arrived is combined, and what it costs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from studies import accuracy_vs_snr
from studies.schemes.carriers import arq
from studies.schemes.scheme import GRID
from tests.studies.fakes import FakeChannel

NUM, TOKENS, WIDTH = 230, 2, 3


class Uneven(FakeChannel):
    """Noise whose variance is drawn for each realisation."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __call__(self, codes, snr_db, realisation):
        self.asked.append(np.asarray(realisation))
        rngs = [np.random.default_rng(int(i)) for i in realisation]
        variance = np.stack([rng.uniform(0.2, 2.0, codes.shape[1:]) * 10 ** (-snr_db / 10) for rng in rngs])
        noise = np.sqrt(variance) * np.stack([rng.standard_normal(codes.shape[1:]) for rng in rngs])
        return codes + torch.as_tensor(noise, dtype=codes.dtype), torch.as_tensor(variance, dtype=codes.dtype)


class Batch:
    numbers = np.arange(40, 140)


def carrier(most, channel=None):
    return arq.Repeated(channel or Uneven(), TOKENS, WIDTH, NUM, most)


def codes():
    return np.random.default_rng(0).standard_normal((NUM, TOKENS, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("most", [2, 4])
def test_what_is_unsure_is_sent_again_and_no_more_often_than_allowed(most):
    counts = carrier(most).transmissions(0.0)
    assert counts.shape == (NUM,)
    assert set(counts) == set(range(1, most + 1)) if most == 2 else {1, 2, 3} <= set(counts) <= {1, 2, 3, 4}
    assert (carrier(most).transmissions(30.0) == 1).all()
    assert (carrier(most).transmissions(-20.0) == most).all()


def test_the_receiver_asks_until_the_unknown_share_is_small_enough():
    channel, counts = Uneven(), carrier(4).transmissions(0.0)
    for number, count in enumerate(counts[:50]):
        precision = 0
        for attempt in range(count):
            assert attempt == 0 or (1 / (1 + precision)).mean() > arq.ENOUGH
            _, variance = channel(torch.zeros(1, TOKENS, WIDTH), 0.0, [attempt * arq.REPEATED_FADES + number])
            precision = precision + 1 / variance.numpy()
        assert count == 4 or (1 / (1 + precision)).mean() <= arq.ENOUGH


def test_transmissions_over_fades_of_their_own_are_weighed_by_their_variances():
    link, sent = Uneven(), codes()
    found = carrier(4, link).deliver(sent, Batch(), 0.0)
    counts = carrier(4).transmissions(0.0)[Batch.numbers]
    for index in range(0, 100, 7):
        number, parts = int(Batch.numbers[index]), []
        for attempt in range(counts[index]):
            fade = [attempt * arq.REPEATED_FADES + number]
            parts.append([part.numpy()[0] for part in Uneven()(torch.as_tensor(sent[[number]]), 0.0, fade)])
        precision = sum(1 / variance for _, variance in parts)
        expected = sum(hat / variance for hat, variance in parts) / precision
        np.testing.assert_allclose(found.codes_hat[index], expected, rtol=1e-5)
        np.testing.assert_allclose(found.error_var[index], 1 / precision, rtol=1e-5)
    error = ((found.codes_hat - found.codes) ** 2).mean()
    assert error == pytest.approx(found.error_var.mean(), rel=0.2)  # 600 numbers
    assert {len(asked) for asked in link.asked} == {arq.BATCH}  # another size would be traced anew


def test_every_transmission_is_charged_on_average(fakes, config, tmp_path):
    schemes = ["machine-tokens", "machine-tokens-arq-2", "raw-image"]
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": schemes}), out=tmp_path)
    assert not failed
    counts = results.along("num_transmissions", "machine-tokens-arq-2")
    np.testing.assert_allclose(counts, [2, 2, 1])  # unknown: 99, 50 and 0 % of a number's variance
    np.testing.assert_array_equal(results.along("num_transmissions", "machine-tokens"), 1)
    assert np.isnan(results.along("num_transmissions", "raw-image")).all()
    for name in GRID:
        once, charged = (results.along(name, scheme) for scheme in schemes[:2])
        np.testing.assert_allclose(charged, counts * once)
    for numbers in (slice(40, 140), slice(0, 3)):
        delivered = carrier(4).deliver(codes(), SimpleNamespace(numbers=np.arange(NUM)[numbers]), 0.0)
        np.testing.assert_array_equal(delivered.num_transmissions, carrier(4).transmissions(0.0)[numbers])
