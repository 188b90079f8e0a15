import math

import pytest
import torch

from semantic.code_moments import MOMENTUM
from semantic.jtcc import JTCC, TokenScaler, build_code

CODES = [
    pytest.param({"kind": "jtcc", "hidden_size": 24, "width": 10}, id="jtcc"),
    pytest.param({"kind": "jtcc", "hidden_size": 24, "width": 10, "nested_tokens": 5}, id="nested"),
    pytest.param({"kind": "uncompressed", "hidden_size": 24}, id="uncompressed"),
    pytest.param({"kind": "jtcc", "hidden_size": 24, "received_size": 36, "width": 10}, id="jtcc-longer"),
    pytest.param({"kind": "uncompressed", "hidden_size": 24, "received_size": 7}, id="uncompressed-shorter"),
]


def tokens(batch=64, num_tokens=5, hidden=24, seed=0):
    """Hidden states with a mean, unequal scales and one enormous dimension."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(0.2, 3.0, hidden)
    scale[3] = 40.0
    return 1.5 + scale * torch.randn(batch, num_tokens, hidden, generator=generator)


def trained(settings, steps=400):
    """A code whose constants have met `steps` batches, its weights left as they were."""
    code = build_code(settings).train()
    with torch.no_grad():
        for seed in range(steps):
            code.encode(tokens(seed=seed))
    return code.eval()


@pytest.mark.parametrize("settings", CODES)
def test_settings_and_weights_build_the_same_code_again(settings):
    code = trained(settings, 3)
    assert code.settings() == settings
    again = build_code(code.settings()).eval()
    again.load_state_dict(code.state_dict())
    x = tokens()
    assert torch.equal(again.encode(x), code.encode(x))
    assert torch.equal(again.decode(code.encode(x)), code.decode(code.encode(x)))


@pytest.mark.parametrize("settings", CODES)
def test_shapes_are_those_of_tokens_and_codes(settings):
    code = build_code(settings)
    assert code.encode(tokens(3)).shape == (3, 5, code.width)
    assert code.decode(torch.randn(3, 5, code.width)).shape == (3, 5, settings.get("received_size", 24))


def test_a_training_batch_has_unit_power_whatever_the_scale_of_the_weights():
    code = JTCC(hidden_size=24, width=10).train()
    x = tokens()
    first = code.encode(x)
    assert first.square().mean().item() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        code.encode_linear.weight.mul_(7), code.encode_linear.bias.mul_(7), code.encode_out.weight.mul_(7)
    assert torch.allclose(code.encode(x), first, atol=1e-5)  # power cannot be bought


@pytest.mark.parametrize("settings", CODES)
def test_power_is_one_on_average_after_training_and_no_longer_follows_the_batch(settings):
    code = trained(settings)
    constants = {name: value.clone() for name, value in code.named_buffers()}
    powers = [code.encode(tokens(seed=1000 + seed)).square().mean().item() for seed in range(50)]
    # Two means of noisy batches are compared: 50 fresh ones, and the some 1/MOMENTUM last ones of the running mean.
    spread = torch.tensor(powers).std().item()
    assert abs(sum(powers) / 50 - 1) < 5 * spread * math.sqrt(1 / 50 + MOMENTUM / 2)
    louder = code.encode(3 * tokens())
    assert louder.square().mean() > 4  # a loud batch is sent loud: the receiver cannot know its scale
    assert all(torch.equal(value, constants[name]) for name, value in code.named_buffers())


@pytest.mark.parametrize("settings", CODES)
def test_changing_one_example_leaves_the_others_bit_identical(settings):
    code = trained(settings, 3)
    x = tokens(8)
    other = x.clone()
    other[3] = 1e3 * torch.randn(5, 24)
    kept = [0, 1, 2, 4, 5, 6, 7]
    with torch.no_grad():
        codes, changed = code.encode(x), code.encode(other)
        assert torch.equal(codes[kept], changed[kept])
        assert not torch.equal(codes[3], changed[3])
        assert torch.equal(code.decode(codes)[kept], code.decode(changed)[kept])


def test_the_power_constraint_is_differentiable_while_training():
    code = JTCC(hidden_size=24, width=10).train()
    code.encode(tokens()).square().mean().backward()  # constantly one: no weight can change it
    gradients = [p.grad.abs().max().item() for name, p in code.named_parameters() if p.grad is not None]
    assert gradients
    assert max(gradients) < 1e-5


def test_an_uncompressed_token_survives_the_noiseless_way():
    code = trained({"kind": "uncompressed", "hidden_size": 24})
    x = tokens(seed=77)
    assert torch.allclose(code.decode(code.encode(x)), x, rtol=1e-5, atol=1e-4)


def test_no_dimension_of_an_uncompressed_token_takes_more_power_than_another():
    code = trained({"kind": "uncompressed", "hidden_size": 24})
    codes = torch.cat([code.encode(tokens(seed=1000 + seed)) for seed in range(20)])
    deviation, mean = torch.std_mean(codes, dim=(0, 1))
    # The running moments weigh some 1/MOMENTUM batches of 320 tokens; 5 sigma of their mean and deviation.
    sigma = math.sqrt(MOMENTUM / 2 / 320 + 1 / codes[..., 0].numel())
    assert mean.abs().max() < 5 * sigma
    assert (deviation - 1).abs().max() < 5 * sigma


@pytest.mark.parametrize("width", [0, -1, 25])
def test_a_width_that_compresses_nothing_is_refused(width):
    with pytest.raises(ValueError, match=rf"width must be between 1 and hidden_size \(24\), got {width}"):
        JTCC(hidden_size=24, width=width)


@pytest.mark.parametrize(
    "code", [{"kind": "jtcc", "width": 10}, {"kind": "uncompressed"}], ids=["jtcc", "uncompressed"]
)
def test_one_length_of_a_token_is_written_once_and_none_is_below_one(code):
    same = build_code({**code, "hidden_size": 24, "received_size": 24})
    assert same.settings() == {**code, "hidden_size": 24}
    assert same.state_dict().keys() == build_code({**code, "hidden_size": 24}).state_dict().keys()
    with pytest.raises(ValueError, match="received_size must be at least 1, got 0"):
        build_code({**code, "hidden_size": 24, "received_size": 0})


def test_an_unknown_kind_of_code_is_refused():
    with pytest.raises(ValueError, match="code kind must be one of jtcc, uncompressed, got 'turbo'"):
        build_code({"kind": "turbo", "hidden_size": 24})


def test_a_misspelt_setting_is_refused():
    with pytest.raises(TypeError, match="widht"):
        build_code({"kind": "jtcc", "hidden_size": 24, "widht": 10})


def test_an_untrained_scaler_changes_nothing():
    x = tokens()
    assert torch.equal(TokenScaler(hidden_size=24).eval().encode(x), x)


# --- codes whose first tokens suffice ----------------------------------------------------------------------------


def growing(seed):
    """Tokens of which each is larger than the one before it: the first ones alone have another power than all."""
    return tokens(512, seed=seed) * torch.arange(1.0, 6.0)[:, None]


def nested(steps=300):
    code = JTCC(hidden_size=24, width=10, nested_tokens=5).train()
    with torch.no_grad():
        for seed in range(steps):
            code.encode(growing(seed)[:, : 1 + seed % 5])
    return code.eval()


def test_the_first_tokens_alone_are_sent_at_unit_power_however_many_they_are():
    code, x = nested(), torch.cat([growing(10_000 + seed) for seed in range(20)])
    plain = JTCC(hidden_size=24, width=10).eval()
    plain.start_from(code)
    with torch.no_grad():
        for number in range(1, 6):
            assert code.encode(x[:, :number]).square().mean().item() == pytest.approx(
                1, rel=0.06
            )  # 10 batches of 512: 2 %
        assert plain.encode(x[:, :1]).square().mean() < 0.2  # one constant for all would starve the first


def test_the_first_tokens_of_all_are_those_that_are_encoded_alone():
    code, x = nested(20), growing(0)
    for number in range(1, 6):
        torch.testing.assert_close(code.first(code.encode(x), number), code.encode(x[:, :number]))


def test_what_cannot_be_nested_says_so():
    code, x = nested(5), growing(0)
    with pytest.raises(ValueError, match="between 1 and 5, got 6"):
        code.first(code.encode(x), 6)
    with pytest.raises(ValueError, match="nested in 5 tokens, got 6"):
        code.encode(torch.randn(1, 6, 24))
    plain = JTCC(hidden_size=24, width=10)
    with pytest.raises(ValueError, match="always sends all its tokens"):
        plain.first(torch.randn(1, 5, 10), 2)


def test_a_nested_code_starts_from_one_that_is_not():
    plain = trained({"kind": "jtcc", "hidden_size": 24, "width": 10}, 50)
    code = JTCC(hidden_size=24, width=10, nested_tokens=5).eval()
    code.start_from(plain)
    for number in range(1, 6):
        assert torch.equal(code.encode(tokens()[:, :number]), plain.encode(tokens()[:, :number]))
