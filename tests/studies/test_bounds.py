"""Bounds in the place of a link."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from phy import LinkConfig
from phy.coding_bounds import lost_by_any_code, random_coding_loss
from phy.linear_bound import known_shares
from semantic.code_moments import CodeMoments
from studies import accuracy_vs_snr, overview
from studies.curves import CURVES
from studies.schemes.carriers.bounds import CodingBound, LinearBound
from studies.schemes.digital.quantizer_file import KINDS
from tests.studies.fakes import LEDGER, FakeAgents, fake_link, fake_tables

NUM = 30
BATCHES = [SimpleNamespace(numbers=np.arange(start, start + 10)) for start in range(0, NUM, 10)]


def coding_bound(rule):
    tables = {kind: fake_tables(KINDS[kind], FakeAgents().table) for kind in KINDS}
    return CodingBound(fake_link(), tables, NUM, rule)


def sent():
    return np.broadcast_to(np.arange(NUM, dtype=np.float32)[:, None, None] % 12, (NUM, 2, 3))


def delivered(carrier, snr_db):
    """Items and losses of all questions, batch by batch."""
    parts = [carrier.deliver(sent(), batch, snr_db) for batch in BATCHES]
    return [item for part in parts for item in part.items], np.concatenate([part.lost for part in parts]), parts


def test_words_are_lost_where_every_code_must_lose_them():
    # densities 0 ... 29 bits: of words from 5 bits on, the sum of 2^-i over 30 is the first below 2^-8
    items, lost, parts = delivered(coding_bound(lost_by_any_code), -20.0)
    assert np.flatnonzero(lost).tolist() == [0, 1, 2, 3, 4]
    assert [item is None for item in items] == lost.tolist()
    assert not np.concatenate([part.undetected for part in parts]).any()
    assert not delivered(coding_bound(lost_by_any_code), 40.0)[1].any()


def test_words_of_random_codes_are_lost_with_their_probability_and_batches_change_nothing():
    bound = coding_bound(random_coding_loss)
    _, lost, _ = delivered(bound, -20.0)
    assert lost[:8].all()  # 8 bits or less
    assert not lost[16:].any()  # with the fixed draws; 2^-8 and less
    whole = bound.deliver(sent(), SimpleNamespace(numbers=np.arange(NUM)), -20.0)
    np.testing.assert_array_equal(whole.lost, lost)
    assert coding_bound(lost_by_any_code).determined_by() != bound.determined_by()


def test_the_size_is_the_one_with_the_best_expected_accuracy():
    choice = coding_bound(lost_by_any_code).choose(0.0)
    assert (choice.num_bytes, choice.bits_per_symbol) == (1, 2)  # a hundred bytes are always lost
    assert coding_bound(lost_by_any_code).choose(900.0).num_bytes == 100
    payload = coding_bound(lost_by_any_code).deliver(sent(), BATCHES[0], 0.0).payload
    assert {name: values.tolist() for name, values in payload.items()} == {
        "payload_bytes": [1.0] * 10,
        "payload_bits": [8.0] * 10,
        "bits_per_symbol": [2.0] * 10,
        "code_rate": [8 / (2 * 4 * 80)] * 10,
    }


@pytest.fixture
def linear():
    """A bound of correlated codes over a channel whose gain is that of eight antennas."""
    moments = CodeMoments(6)
    moments.factor.copy_(torch.as_tensor(np.random.default_rng(0).standard_normal((6, 6)) / 2))
    moments.variance.fill_(0.2)
    moments.mean.copy_(torch.linspace(-1, 1, 6))
    link = SimpleNamespace(
        config=LinkConfig(),
        ledger=lambda num_tokens, width: LEDGER,
        gain=lambda num_tokens, width, snr_db, realisation: 8 * 10 ** (snr_db / 10) * (1 + np.asarray(realisation) % 2),
    )
    return LinearBound(SimpleNamespace(link=link), moments, 2, 3, 4000)


@pytest.mark.parametrize("snr_db", [-10.0, 5.0])
def test_codes_arrive_with_the_error_of_the_best_linear_code(linear, snr_db):
    rng, moments = np.random.default_rng(1), linear.moments
    covariance = moments.dense().numpy()
    codes = (moments.mean.numpy() + rng.standard_normal((4000, 6)) @ np.linalg.cholesky(covariance).T).reshape(-1, 2, 3)
    found = linear.deliver(codes.astype(np.float32), SimpleNamespace(numbers=np.arange(4000)), snr_db)
    variances, basis = np.linalg.eigh(covariance)
    gain = 8 * 10 ** (snr_db / 10) * np.array([1, 2])  # of even and odd fades
    unknown = (1 - known_shares(variances, 6 / 4, gain)) * variances
    for parity in (0, 1):
        error = (found.codes_hat - codes)[parity::2].reshape(2000, 6)
        expected = (basis * unknown[parity]) @ basis.T
        np.testing.assert_allclose(error.T @ error / 2000, expected, atol=0.15 * np.diag(expected).max())
        np.testing.assert_allclose(found.error_var[parity].ravel(), np.diag(expected), rtol=1e-4)
    read = moments.estimate(*(torch.as_tensor(part).flatten(1) for part in (found.items, found.item_var)))
    np.testing.assert_allclose(read.numpy(), found.codes_hat.reshape(4000, 6), atol=2e-3)


def test_parts_of_a_study_meet_the_gains_of_their_own_fades(linear):
    gains = linear.gains(0.0)
    assert gains.shape == (4000,)
    np.testing.assert_allclose(gains, 8 * (1 + np.arange(4000) % 2))


def test_a_pair_whose_decoder_knows_no_moments_has_no_bound(fakes, config, tmp_path):
    workbench = accuracy_vs_snr.STUDY.plan(config, tmp_path).workbench
    fakes["agents"].code.sent_moments = None
    with pytest.raises(ValueError, match="bound-linear: the decoder of machine_tokens knows no moments"):
        CURVES["bound-linear"].build(workbench)


def test_bounds_run_as_curves_and_have_their_verdicts(fakes, tmp_path):
    names = ("machine-tokens", "quantized-tokens", "bound-digital", "bound-digital-reached", "bound-linear")
    config = accuracy_vs_snr.Config(num_questions=NUM, batch_size=7, snr_db=(0.0, 40.0), schemes=names)
    results = accuracy_vs_snr.main(config, out=tmp_path).results
    assert results.of("loss_rate", "bound-digital")[0] == pytest.approx(5 / 30)
    assert results.along("payload_bytes", "bound-digital").tolist() == [1, 1]
    assert results.along("data_res", "bound-linear").tolist() == [80, 80]
    assert overview.bounded(results) == [
        ("bound-digital", "quantized-tokens"),
        ("bound-digital", "bound-digital-reached"),
        ("bound-linear", "machine-tokens"),
    ]
    assert len(overview.bounds_table(results).rows) == 3


def test_each_quantiser_has_a_bound_of_its_own(fakes, config, tmp_path):
    workbench = accuracy_vs_snr.STUDY.plan(config, tmp_path).workbench
    kinds = {
        name: CURVES[name].build(workbench).carrier.choose(40.0).kind for name in ("bound-digital", "bound-indices")
    }
    assert kinds == {"bound-digital": "transform", "bound-indices": "vector"}
