"""What a receiver knows of codes, against closed forms."""

import numpy as np
import pytest
import torch

from semantic.code_moments import MAX_SIZE, CodeMoments, Running, log_deviation
from semantic.jtcc import JTCC, TokenScaler, build_code

SIZE, RANK = 40, 6


def law(seed=0):
    """Mean, factor and variance of codes in few directions."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(SIZE), rng.standard_normal((SIZE, RANK)), rng.uniform(0.05, 0.2, SIZE)


def draw(count, seed):
    mean, factor, variance = law()
    rng = np.random.default_rng(seed)
    return mean + rng.standard_normal((count, RANK)) @ factor.T + np.sqrt(variance) * rng.standard_normal((count, SIZE))


def of(law):
    moments = CodeMoments(SIZE)
    mean, factor, variance = (torch.tensor(part, dtype=torch.float32) for part in law)
    moments.mean.copy_(mean)
    moments.factor[:, :RANK] = factor
    moments.variance.copy_(variance)
    return moments


@pytest.mark.parametrize("size", [SIZE, 15])
def test_the_estimate_is_the_linear_mmse_estimate(size):
    mean, factor, variance = law()
    covariance = (factor @ factor.T + np.diag(variance))[:size, :size]
    rng = np.random.default_rng(1)
    error_var = rng.uniform(0.01, 5, (7, size))
    received = draw(7, 2)[:, :size] + np.sqrt(error_var) * rng.standard_normal((7, size))
    found = of(law()).estimate(*(torch.tensor(part, dtype=torch.float32) for part in (received, error_var)))
    for row, y, v in zip(found.numpy(), received, error_var, strict=True):
        expected = mean[:size] + covariance @ np.linalg.solve(covariance + np.diag(v), y - mean[:size])
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=2e-4)


def test_a_posterior_becomes_codes_that_lead_back_to_it():
    moments, rng = of(law()), np.random.default_rng(2)
    mean, factor, variance = law()
    covariance = factor @ factor.T + np.diag(variance)
    noise = rng.standard_normal((SIZE, 9))
    noise = noise @ noise.T + 0.3 * np.eye(SIZE)  # errors of received codes depend on each other
    gain = covariance @ np.linalg.inv(covariance + noise)
    posterior = mean + (draw(6, 4) - mean) @ gain.T
    left = np.tile(np.diag(covariance - gain @ covariance), (len(posterior), 1))
    codes_hat, error_var = moments.observation(*(torch.tensor(part, dtype=torch.float32) for part in (posterior, left)))
    np.testing.assert_allclose(moments.estimate(codes_hat, error_var), posterior, rtol=2e-3, atol=2e-3)
    prior = np.diag(covariance)
    np.testing.assert_allclose(error_var, left * prior / (prior - left), rtol=1e-3)


def test_codes_at_another_amplitude_are_estimated_alike():
    moments, rng = of(law()), torch.Generator().manual_seed(0)
    received, error_var = torch.randn(5, SIZE, generator=rng), torch.rand(5, SIZE, generator=rng)
    louder = moments.estimate(3 * received, 9 * error_var, scale=3.0)
    torch.testing.assert_close(louder, 3 * moments.estimate(received, error_var), rtol=1e-4, atol=1e-4)


def test_before_any_code_was_seen_the_estimate_is_that_of_white_codes():
    received, error_var = torch.randn(5, SIZE), torch.rand(5, SIZE)
    torch.testing.assert_close(CodeMoments(SIZE).estimate(received, error_var), received / (1 + error_var))


def test_without_errors_nothing_is_changed():
    received = torch.tensor(draw(4, 3), dtype=torch.float32)
    torch.testing.assert_close(of(law()).estimate(received, torch.zeros(4, SIZE)), received, rtol=1e-4, atol=1e-3)


def observed(batches=300, first=0, moments=None):
    moments = CodeMoments(SIZE) if moments is None else moments
    for seed in range(first, batches):
        moments.observe(torch.tensor(draw(32, 100 + seed), dtype=torch.float32))
    return moments


def test_the_moments_follow_the_codes():
    mean, factor, variance = law()
    moments, true = observed(), factor @ factor.T + np.diag(variance)
    found = (moments.factor @ moments.factor.T + moments.variance.diag()).numpy()
    assert np.linalg.norm(found - true) / np.linalg.norm(true) < 0.1  # the running mean weighs some 1 600 examples
    assert np.linalg.norm(moments.mean.numpy() - mean) / np.linalg.norm(mean) < 0.1


def test_what_was_learned_brings_the_estimate_close_to_that_of_the_true_law():
    codes = torch.tensor(draw(500, 9), dtype=torch.float32)
    received = codes + torch.randn(codes.shape, generator=torch.Generator().manual_seed(1))
    errors = [
        (moments.estimate(received, torch.ones_like(codes)) - codes).square().mean().item()
        for moments in (of(law()), observed(), CodeMoments(SIZE))
    ]
    assert errors[0] < errors[1] < 1.1 * errors[0]
    assert errors[2] > 2 * errors[0]


def test_moments_that_go_on_are_those_of_one_run():
    whole, half = observed(), observed(150)
    again = CodeMoments(SIZE)
    again.load_state_dict(half.state_dict())
    Running(again).load_state_dict(Running(half).state_dict())
    observed(first=150, moments=again)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in again.state_dict().items())


def test_stored_moments_start_a_further_training():
    stored = CodeMoments(SIZE)
    stored.load_state_dict(observed().state_dict())  # without the running covariance, as in a file
    before = stored.factor @ stored.factor.T + stored.variance.diag()
    stored.observe(torch.tensor(draw(32, 1), dtype=torch.float32))
    after = stored.factor @ stored.factor.T + stored.variance.diag()
    assert (after - before).norm() < 0.1 * before.norm()


def test_a_covariance_that_does_not_fit_into_memory_is_taken_for_diagonal():
    moments = CodeMoments(MAX_SIZE + 1)
    moments.observe(2 * torch.randn(200, MAX_SIZE + 1))
    assert moments.covariance is None
    received, error_var = torch.ones(1, MAX_SIZE + 1), torch.ones(1, MAX_SIZE + 1)
    expected = moments.mean + moments.variance / (moments.variance + 1) * (1 - moments.mean)
    torch.testing.assert_close(moments.estimate(received, error_var)[0], expected)


@pytest.mark.parametrize("kind", [{"kind": "jtcc", "width": 6}, {"kind": "uncompressed"}])
def test_a_decoder_that_knows_the_moments_is_closer_to_the_tokens(kind):
    """Tokens in few directions, codes through noise of unit variance."""
    mix = torch.randn(3, 60, generator=torch.Generator().manual_seed(1))

    def tokens(seed, count=64):
        return (torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) @ mix).view(count, 5, 12)

    codes = [build_code({**kind, "hidden_size": 12, **given}) for given in ({}, {"num_tokens": 5})]
    codes[1].load_state_dict({**codes[1].state_dict(), **codes[0].state_dict()})
    with torch.no_grad():
        for code in codes:
            for seed in range(200):
                code.train().encode(tokens(seed))
            code.eval()
        sent = codes[0].encode(tokens(999, 400))
        noise = torch.randn(sent.shape, generator=torch.Generator().manual_seed(2))
        clean = codes[0].decode(sent)
        errors = [(code.decode(sent + noise, torch.ones_like(sent)) - clean).square().mean() for code in codes]
    assert errors[1] < 0.5 * errors[0]


def test_the_deviation_is_told_in_decades_and_within_bounds():
    told = log_deviation(torch.tensor([0.0, 1e-4, 1.0, 100.0, torch.inf]))
    torch.testing.assert_close(told, torch.tensor([-2.0, -2.0, 0.0, 1.0, 2.0]))


def test_moments_of_codes_as_they_are_sent_have_their_power():
    torch.manual_seed(0)
    code = JTCC(hidden_size=12, width=4, num_tokens=3, nested_tokens=3)
    tokens = 5 * torch.randn(400, 3, 12) + 2
    for batch in tokens.repeat(3, 1, 1).split(20):
        code.encode(batch)
    moments, sent = code.sent_moments, code.eval().encode(tokens).detach().flatten(1)
    assert moments is not None
    torch.testing.assert_close(moments.mean, sent.mean(0), rtol=0.2, atol=0.1)
    torch.testing.assert_close(moments.dense().float(), sent.T.cov(correction=0), rtol=0.3, atol=0.15)
    received, error_var = sent + torch.randn_like(sent), torch.ones_like(sent)
    scale = code.power[2].rsqrt()
    assert abs(scale - 1) > 0.2  # codes of before have another power
    torch.testing.assert_close(
        moments.estimate(received, error_var), code.moments.estimate(received, error_var, scale), rtol=1e-4, atol=1e-5
    )
    assert JTCC(hidden_size=12, width=4).sent_moments is None
    plain = TokenScaler(hidden_size=4, num_tokens=3)
    assert plain.sent_moments is plain.moments
