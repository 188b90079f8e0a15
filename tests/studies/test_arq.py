"""Retransmission: who asks again, how what arrived is combined, and what it costs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from semantic.task_agent import Answer
from studies import accuracy_vs_snr
from studies.schemes.carriers import arq, arq_by_answer
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


class Unsure:
    """Agents who give their answer to a question the probability that the question says."""

    num_tokens, width = TOKENS, WIDTH

    def __init__(self):
        self.answered = []

    def answer_codes(self, codes_hat, questions, error_var):
        assert codes_hat.shape == error_var.shape == (len(questions), TOKENS, WIDTH)
        self.answered.append(questions)
        return [Answer("x", float(question)) for question in questions]


PROBABILITIES = np.random.default_rng(1).random(100)
WITH_TEXTS = SimpleNamespace(numbers=Batch.numbers, texts=[str(p) for p in PROBABILITIES])


def test_what_is_sure_or_known_is_not_sent_again():
    agents, sent = Unsure(), codes()
    found = arq_by_answer.RepeatedIfUnsure(Uneven(), agents, 2).deliver(sent, WITH_TEXTS, 5.0)
    once_hat, once_var = (part.numpy() for part in Uneven()(torch.as_tensor(sent[Batch.numbers]), 5.0, Batch.numbers))
    unknown = (once_var / (1 + once_var)).mean((1, 2))
    again = (unknown > arq_by_answer.WORTH) & (PROBABILITIES < arq_by_answer.SURE)
    np.testing.assert_array_equal(found.num_transmissions, 1 + again)
    assert 20 < again.sum() < 80  # of 100
    np.testing.assert_array_equal(found.codes_hat[~again], once_hat[~again])
    np.testing.assert_array_equal(found.error_var[~again], once_var[~again])
    [asked] = agents.answered
    assert asked == [text for text, share in zip(WITH_TEXTS.texts, unknown, strict=True) if share > arq_by_answer.WORTH]
    for index in np.flatnonzero(again)[:5].tolist():
        number = int(Batch.numbers[index])
        parts = [Uneven()(torch.as_tensor(sent[[number]]), 5.0, [k * arq.REPEATED_FADES + number]) for k in range(2)]
        precision = sum(1 / variance.numpy()[0] for _, variance in parts)
        expected = sum((hat / variance).numpy()[0] for hat, variance in parts) / precision
        np.testing.assert_allclose(found.codes_hat[index], expected, rtol=1e-5)
        np.testing.assert_allclose(found.error_var[index], 1 / precision, rtol=1e-5)


def test_a_clean_link_is_never_blamed_and_a_poor_one_no_more_often_than_allowed():
    agents = Unsure()
    clean = arq_by_answer.RepeatedIfUnsure(Uneven(), agents, 2).deliver(codes(), WITH_TEXTS, 30.0)
    assert (clean.num_transmissions == 1).all()
    assert not agents.answered
    poor = arq_by_answer.RepeatedIfUnsure(Uneven(), agents, 3).deliver(codes(), WITH_TEXTS, -20.0)
    np.testing.assert_array_equal(poor.num_transmissions, np.where(PROBABILITIES < arq_by_answer.SURE, 3, 1))


@pytest.mark.parametrize("scheme", ["machine-tokens-arq-2", "machine-tokens-arq-answer"])
def test_codes_that_are_shrunk_are_not_combined(fakes, config, tmp_path, scheme):
    shrunk = config.updated({"schemes": [scheme], "link": {"recovery": "lmmse"}})
    with pytest.raises(ValueError, match=r"link\.recovery is 'lmmse'; transmissions are combined by their variances"):
        accuracy_vs_snr.main(shrunk, out=tmp_path)
