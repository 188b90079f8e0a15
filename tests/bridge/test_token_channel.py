import copy
import pickle

import pytest

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import numpy as np
import torch
from torch import nn

from phy import AnalogLink, CodePrior, LinkConfig


def make_channel(gradient="straight-through", **facts):
    return TokenChannel(AnalogLink(LinkConfig(**{"channel": "rayleigh", **facts})), gradient)


@pytest.mark.parametrize("gradient", ["straight-through", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_shape_device_and_dtype_are_kept(gradient, dtype):
    codes = torch.randn(3, 2, 8, dtype=dtype, requires_grad=True)
    codes_hat = make_channel(gradient)(codes, 20.0, [0, 1, 2])
    assert (codes_hat.shape, codes_hat.dtype, codes_hat.device) == (codes.shape, dtype, codes.device)
    codes_hat.sum().backward()
    assert codes.grad.dtype == dtype


@pytest.mark.parametrize("gradient", ["straight-through", "exact"])
def test_codes_are_the_links(gradient):
    channel, codes = make_channel(gradient), torch.randn(3, 2, 8)
    expected = channel.link(codes.numpy(), [0.0, 5.0, 10.0], [4, 5, 6]).codes_hat.numpy()
    for snr_db in ([0.0, 5.0, 10.0], np.array([0.0, 5.0, 10.0]), torch.tensor([0.0, 5.0, 10.0])):
        np.testing.assert_array_equal(channel(codes, snr_db=snr_db, realisation=torch.tensor([4, 5, 6])), expected)


def test_straight_through_hands_the_gradient_over_unchanged():
    codes, weights = torch.randn(3, 2, 8, requires_grad=True), torch.randn(3, 2, 8)
    (make_channel(recovery="complex-ls")(codes) * weights).sum().backward()
    assert torch.equal(codes.grad, weights)


@pytest.mark.parametrize(
    "facts",
    [
        *({"recovery": r, "estimator": e} for r in ("ls", "lmmse", "fista") for e in ("perfect", "ls-linear")),
        {"recovery": "lmmse", "estimator": "lmmse"},
        {"recovery": "complex-ls", "modulation": "iq"},
    ],
    ids=str,
)
def test_exact_gradient_is_the_numerical_one(facts):
    config = LinkConfig(channel="rayleigh", precision="double", num_tx_ant=2, num_rx_ant=4, fft_size=8, **facts)
    prior = CodePrior.fit(np.random.default_rng(0).laplace(size=(50, 2, 3))) if facts["recovery"] == "fista" else None
    channel = TokenChannel(AnalogLink(config, prior=prior), "exact")
    codes = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda codes: channel(codes, 5.0, [0, 1]), codes)


def test_both_gradients_agree_for_least_squares_with_the_perfect_channel():
    gradients = []
    for kind in ("straight-through", "exact"):
        codes = torch.ones(3, 2, 8, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(1)
        channel = make_channel(kind, estimator="perfect", precision="double")
        (channel(codes, 5.0, [0, 1, 2]) * torch.randn(3, 2, 8)).sum().backward()
        gradients.append(codes.grad)
    torch.testing.assert_close(*gradients)


def test_with_an_estimated_channel_they_do_not():
    codes = torch.ones(3, 2, 8, requires_grad=True)
    make_channel("exact")(codes, 0.0, [0, 1, 2]).sum().backward()
    assert (codes.grad - 1).abs().max() > 0.01


@pytest.mark.parametrize("gradient", ["straight-through", "exact"])
def test_the_channel_works_twice_in_one_graph(gradient):
    channel = make_channel(gradient)
    codes = torch.randn(2, 2, 8, requires_grad=True)
    loss = channel(channel(codes, 30.0, [0, 1]), 30.0, [2, 3]).square().sum()
    loss.backward(retain_graph=True)
    first = codes.grad.clone()
    loss.backward()
    torch.testing.assert_close(codes.grad, 2 * first)


def test_a_second_pass_needs_the_graph_to_be_retained():
    codes = torch.randn(2, 2, 8, requires_grad=True)
    loss = make_channel("exact")(codes).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("gradient", ["straight-through", "exact"])
def test_no_grad_leaves_no_graph(gradient):
    with torch.no_grad():
        assert not make_channel(gradient)(torch.randn(2, 2, 8, requires_grad=True)).requires_grad


def test_autocast_around_it_changes_nothing():
    channel, codes = make_channel(), torch.randn(2, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = channel(codes, 10.0, [0, 1])
    assert under.dtype == torch.float32
    assert torch.equal(under, channel(codes, 10.0, [0, 1]))


def test_it_is_a_module_without_parameters_that_prints_what_it_is():
    channel = make_channel()
    assert not channel.state_dict()
    assert "rayleigh, 4x8 antennas, amplitude, estimator='ls-linear', recovery='ls'" in repr(nn.Sequential(channel))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda channel: pickle.loads(pickle.dumps(channel))])
def test_copies_draw_what_the_original_would(copied):
    channel, codes = make_channel(), torch.randn(2, 2, 8)
    channel(codes)
    again = copied(channel)
    assert torch.equal(channel(codes), again(codes))


def test_gradient_checkpointing_repeats_numbered_realisations():
    channel, layer = make_channel("exact"), nn.Linear(8, 8)
    x = torch.randn(2, 2, 8)

    def sent(x):
        return channel(layer(x), 10.0, [0, 1])

    gradients = []
    for run in (sent, lambda x: torch.utils.checkpoint.checkpoint(sent, x, use_reentrant=False)):
        layer.zero_grad()
        run(x).square().sum().backward()
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (np.zeros((2, 2, 8)), TypeError, r"codes must be a torch\.Tensor, got ndarray"),
        (torch.zeros(2, 2, 8, dtype=torch.int64), TypeError, r"floating-point numbers, got torch\.int64"),
        (torch.zeros(2, 8), ValueError, r"codes must have shape \[batch, num_tokens, width\], got \(2, 8\)"),
        (torch.full((2, 2, 8), torch.nan), ValueError, "codes hold NaN"),
    ],
)
def test_misuse_gets_one_clear_error(codes, error, message):
    with pytest.raises(error, match=message):
        make_channel()(codes)


def test_bad_arguments_are_refused_at_once():
    with pytest.raises(ValueError, match="gradient must be one of straight-through, exact; got 'magic'"):
        make_channel("magic")
    with pytest.raises(TypeError, match="link must be an AnalogLink, got LinkConfig"):
        TokenChannel(LinkConfig())
