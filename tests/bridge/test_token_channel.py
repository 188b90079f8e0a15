import copy
import functools
import pickle
import threading
import weakref

import pytest

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import numpy as np
import tensorflow as tf
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from bridge.autograd import Exact
from phy import AnalogLink, CodePrior, LinkConfig

KINDS = ["straight-through", "exact"]


@functools.cache  # building the graph of a gradient takes seconds
def make_channel(gradient="straight-through", **facts):
    small = {"channel": "rayleigh", "num_tx_ant": 2, "num_rx_ant": 2}
    return TokenChannel(AnalogLink(LinkConfig(**{**small, **facts})), gradient)


@pytest.fixture
def num_kept(monkeypatch):
    """How many ways back through the link are in memory."""
    made, vjp = [], AnalogLink.vjp

    def noting(*args, **kwargs):
        output, pull_back = vjp(*args, **kwargs)
        made.append(weakref.ref(pull_back))
        return output, pull_back

    monkeypatch.setattr(AnalogLink, "vjp", noting)
    return lambda: sum(each() is not None for each in made)


@pytest.mark.parametrize("gradient", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_shape_device_and_dtype_are_kept(gradient, dtype):
    codes = torch.randn(3, 2, 8, dtype=dtype, requires_grad=True)
    codes_hat = make_channel(gradient)(codes, 20.0, [0, 1, 2])[0]
    assert (codes_hat.shape, codes_hat.dtype, codes_hat.device) == (codes.shape, dtype, codes.device)
    codes_hat.sum().backward()
    assert codes.grad.dtype == dtype


@pytest.mark.parametrize("gradient", KINDS)
def test_codes_are_the_links(gradient):
    channel, codes = make_channel(gradient), torch.randn(3, 2, 8)
    expected = channel.link(codes.numpy(), [0.0, 5.0, 10.0], [4, 5, 6]).codes_hat.numpy()
    forms = [[0.0, 5.0, 10.0], (0, 5, 10), np.array([0.0, 5.0, 10.0]), torch.tensor([0.0, 5.0, 10.0])]
    for snr_db in [*forms, torch.tensor([0.0, 5.0, 10.0], dtype=torch.bfloat16), torch.tensor([0, 5, 10])]:
        np.testing.assert_array_equal(channel(codes, snr_db=snr_db, realisation=torch.tensor([4, 5, 6]))[0], expected)


def test_one_snr_serves_all_examples():
    channel, codes = make_channel(), torch.randn(2, 2, 8)
    expected = channel(codes, [5.0, 5.0], [0, 1])[0]
    for snr_db in (5, 5.0, np.float32(5), torch.tensor(5.0)):
        assert torch.equal(channel(codes, snr_db, [0, 1])[0], expected)


@pytest.mark.parametrize("gradient", KINDS)
def test_the_codes_themselves_stay_as_they_are(gradient):
    codes = torch.randn(3, 2, 8, requires_grad=True)
    before = codes.detach().clone()
    make_channel(gradient)(codes, 0.0)[0].sum().backward()
    assert torch.equal(codes, before)


def test_training_and_evaluation_meet_the_same_channel():
    channel, codes = make_channel(), torch.randn(2, 2, 8)
    assert torch.equal(channel.train()(codes, 5.0, [0, 1])[0], channel.eval()(codes, 5.0, [0, 1])[0])


def test_straight_through_hands_the_gradient_over_unchanged():
    codes, weights = torch.randn(3, 2, 8, requires_grad=True), torch.randn(3, 2, 8)
    (make_channel(recovery="complex-ls")(codes)[0] * weights).sum().backward()
    assert torch.equal(codes.grad, weights)


@pytest.mark.parametrize(
    "facts",
    [
        *({"recovery": r, "estimator": e} for r in ("ls", "lmmse", "fista") for e in ("perfect", "ls-linear")),
        {"recovery": "lmmse", "estimator": "lmmse"},
        {"recovery": "lmmse", "num_tx_ant": 4, "num_rx_ant": 1},
        {"recovery": "ls", "clipping_db": 1.0},
        {"recovery": "complex-ls", "modulation": "iq"},
    ],
    ids=str,
)
def test_exact_gradient_is_the_numerical_one(facts):
    small = {"channel": "rayleigh", "precision": "double", "num_tx_ant": 2, "num_rx_ant": 4, "fft_size": 8}
    config = LinkConfig(**{**small, **facts})
    prior = CodePrior.fit(np.random.default_rng(0).laplace(size=(50, 2, 3))) if facts["recovery"] == "fista" else None
    channel = TokenChannel(AnalogLink(config, prior=prior), "exact")
    codes = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda codes: channel(codes, 5.0, [0, 1])[0], codes)


def test_both_gradients_agree_for_least_squares_with_the_perfect_channel():
    gradients = []
    for kind in ("straight-through", "exact"):
        codes = torch.ones(3, 2, 8, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(1)
        channel = make_channel(kind, estimator="perfect", recovery="ls", precision="double")
        (channel(codes, 5.0, [0, 1, 2])[0] * torch.randn(3, 2, 8)).sum().backward()
        gradients.append(codes.grad)
    torch.testing.assert_close(*gradients)


def test_with_an_estimated_channel_they_do_not():
    codes = torch.ones(3, 2, 8, requires_grad=True)
    make_channel("exact")(codes, 0.0, [0, 1, 2])[0].sum().backward()
    assert (codes.grad - 1).abs().max() > 0.01


@pytest.mark.parametrize("gradient", KINDS)
def test_the_channel_works_twice_in_one_graph(gradient):
    channel = make_channel(gradient)
    codes = torch.randn(2, 2, 8, requires_grad=True)
    loss = channel(channel(codes, 30.0)[0], 30.0)[0].square().sum()
    loss.backward(retain_graph=True)
    first = codes.grad.clone()
    loss.backward()
    torch.testing.assert_close(codes.grad, 2 * first)


def test_a_second_pass_needs_the_graph_to_be_retained():
    codes = torch.randn(2, 2, 8, requires_grad=True)
    loss = make_channel("exact")(codes)[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_the_backward_pass_frees_what_it_needed(num_kept):
    loss = make_channel("exact")(torch.randn(2, 2, 8, requires_grad=True))[0].sum()
    assert num_kept() == 1
    loss.backward()
    assert num_kept() == 0


def test_a_result_that_is_never_differentiated_takes_its_way_back_along(num_kept):
    codes_hat = make_channel("exact")(torch.randn(2, 2, 8, requires_grad=True))[0]
    assert num_kept() == 1
    del codes_hat
    assert num_kept() == 0


def test_changing_the_result_in_place_leaves_the_gradient_alone():
    gradients = []
    for change in (lambda x: x, lambda x: x.mul_(1.0).add_(5.0)):
        codes = torch.ones(2, 2, 8, requires_grad=True)
        change(make_channel("exact", recovery="lmmse")(codes, 0.0, [0, 1])[0]).sum().backward()
        gradients.append(codes.grad)
    assert torch.equal(*gradients)


def test_changing_the_codes_in_place_is_noticed():
    codes = torch.randn(2, 2, 8, requires_grad=True) * 1
    loss = make_channel("exact")(codes)[0].sum()
    codes.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_backward_pass_may_run_in_another_thread():
    codes, expected = torch.randn(2, 2, 8, requires_grad=True), torch.zeros(2, 2, 8)
    for where in ("here", "there"):
        loss, codes.grad = make_channel("exact")(codes, 0.0, [0, 1])[0].square().sum(), None
        if where == "here":
            loss.backward()
            expected = codes.grad
        else:
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
    assert torch.equal(codes.grad, expected)


@pytest.mark.parametrize("gradient", KINDS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_way_back_is_kept_where_nobody_will_differentiate(gradient, mode, monkeypatch):
    channel, codes = make_channel(gradient), torch.randn(2, 2, 8, requires_grad=True)
    expected = channel(codes, 5.0, [0, 1])[0].detach()
    monkeypatch.setattr(AnalogLink, "vjp", None)
    with mode():
        codes_hat = channel(codes, 5.0, [0, 1])[0]
    assert not codes_hat.requires_grad
    assert torch.equal(codes_hat, expected)
    assert torch.equal(channel(codes.detach(), 5.0, [0, 1])[0], expected)


def test_autocast_around_it_changes_nothing():
    channel, codes = make_channel(), torch.randn(2, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = channel(codes, 10.0, [0, 1])[0]
    assert under.dtype == torch.float32
    assert torch.equal(under, channel(codes, 10.0, [0, 1])[0])


@pytest.mark.parametrize("gradient", KINDS)
def test_an_encoder_under_autocast_gets_its_gradient(gradient):
    channel, layer = make_channel(gradient), nn.Linear(8, 8)
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            codes_hat = channel(layer(torch.ones(2, 2, 8)), 10.0, [0, 1])[0]
        assert codes_hat.dtype == (torch.bfloat16 if enabled else torch.float32)
        codes_hat.float().sum().backward()
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.05)


def test_it_is_a_module_without_parameters_that_prints_what_it_is():
    channel = make_channel()
    assert not channel.state_dict()
    assert "rayleigh, 2x2 antennas, amplitude, estimator='lmmse-spatial', recovery='lmmse-unbiased'" in repr(
        nn.Sequential(channel)
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda channel: pickle.loads(pickle.dumps(channel))])
def test_copies_draw_what_the_original_would(copied):
    channel, codes = make_channel(), torch.randn(2, 2, 8)
    channel(codes)
    again = copied(channel)
    assert torch.equal(channel(codes)[0], again(codes)[0])


def test_gradient_checkpointing_repeats_numbered_realisations():
    channel, layer = make_channel("exact"), nn.Linear(8, 8)
    x = torch.randn(2, 2, 8)

    def sent(x):
        return channel(layer(x), 10.0, [0, 1])[0]

    gradients = []
    for run in (sent, lambda x: checkpoint(sent, x, use_reentrant=False)):
        layer.zero_grad()
        run(x).square().sum().backward()
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_gradient_checkpointing_keeps_no_way_back(num_kept):
    channel, codes = make_channel("exact"), torch.randn(2, 2, 8, requires_grad=True)
    loss = checkpoint(lambda x: channel(x, 10.0, [0, 1])[0], codes * 1, use_reentrant=False).sum()
    assert num_kept() == 0
    loss.backward()
    assert num_kept() == 0


def test_saved_tensors_may_be_kept_elsewhere():
    channel, codes, gradients = make_channel("exact"), torch.randn(2, 2, 8, requires_grad=True), []
    for pack in (lambda x: x, torch.clone):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = channel(codes, 0.0, [0, 1])[0].square().sum()
        codes.grad = None
        loss.backward()
        gradients.append(codes.grad)
    assert torch.equal(*gradients)


def test_a_step_without_derivative_is_named_and_not_taken_for_zero():
    codes = torch.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"no derivative on the way .* take gradient='straight-through'"):
        Exact.apply(codes, lambda sent: (tf.math.rint(sent), lambda upstream: None)).sum().backward()


@pytest.mark.parametrize("gradient", KINDS)
def test_after_the_first_batch_no_size_of_batch_builds_a_graph(gradient, monkeypatch):
    channel = make_channel(gradient)

    def step(batch):
        channel(torch.randn(batch, 2, 8, requires_grad=True))[0].sum().backward()

    step(4)
    graphs, build = [], tf.__internal__.FuncGraph.__init__
    monkeypatch.setattr(tf.__internal__.FuncGraph, "__init__", lambda *a, **k: graphs.append(a[1]) or build(*a, **k))
    for batch in (4, 3, 1, 7):
        step(batch)
    assert not graphs
    channel(torch.randn(2, 1, 8))
    assert graphs  # codes of another shape are another transmission


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (np.zeros((2, 2, 8)), TypeError, r"codes must be a torch\.Tensor, got ndarray"),
        (torch.zeros(2, 2, 8, dtype=torch.int64), TypeError, r"floating-point numbers, got torch\.int64"),
        (torch.zeros(2, 8), ValueError, r"codes must have shape \[batch, num_tokens, width\], got \(2, 8\)"),
        (torch.full((2, 2, 8), torch.nan), ValueError, "codes hold NaN"),
        (torch.zeros(2, 2, 8, device="meta"), ValueError, "on the meta device, where tensors have no numbers"),
        (torch.zeros(2, 2, 8, dtype=torch.complex64), TypeError, r"floating-point numbers, got torch\.complex64"),
    ],
)
def test_misuse_gets_one_clear_error(codes, error, message):
    with pytest.raises(error, match=message):
        make_channel()(codes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"snr_db": torch.tensor(5.0, requires_grad=True)}, TypeError, "snr_db gets no gradient from the channel"),
        ({"snr_db": float("nan")}, ValueError, "snr_db must be finite, got nan"),
        ({"snr_db": [1.0, 2.0, 3.0]}, ValueError, r"one per example, shape \(2,\); got shape \(3,\)"),
        ({"realisation": torch.tensor([0.0, 1.0])}, ValueError, "one whole number per example"),
        ({"realisation": [0, -1]}, ValueError, "realisation numbers start at 0, got -1"),
    ],
)
def test_misuse_of_the_other_arguments_too(arguments, error, message):
    with pytest.raises(error, match=message):
        make_channel()(torch.zeros(2, 2, 8), **arguments)


def test_bad_arguments_are_refused_at_once():
    with pytest.raises(ValueError, match="gradient must be one of straight-through, exact; got 'magic'"):
        make_channel("magic")
    with pytest.raises(TypeError, match="link must be an AnalogLink, got LinkConfig"):
        TokenChannel(LinkConfig())


@pytest.mark.parametrize("gradient", KINDS)
def test_a_tangent_is_not_dropped_in_silence(gradient):
    codes = torch.randn(2, 1, 8)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(codes, torch.ones_like(codes))
        with pytest.raises(RuntimeError, match="jvp"):
            make_channel(gradient)(dual, realisation=[0, 1])
