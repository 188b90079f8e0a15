import copy
import pickle

import pytest

from bridge import BitChannel  # first: TensorFlow before PyTorch

# isort: split
import torch

from phy import DigitalLink, LinkConfig


@pytest.fixture(scope="module")
def channel():
    return BitChannel(DigitalLink(LinkConfig(channel="rayleigh")))


def test_bytes_arrive_or_are_declared_lost(channel):
    payloads = torch.randint(256, (4, 10), dtype=torch.uint8)
    received, arrived = channel(payloads, torch.tensor([40.0, -20.0, 40.0, -20.0]), [0, 1, 2, 3])
    assert arrived.tolist() == [True, False, True, False]
    assert torch.equal(received[arrived], payloads[arrived])
    assert not received[~arrived].any()


def test_it_prints_what_it_is_and_survives_pickling(channel):
    assert "rayleigh, 4x8 antennas, 4-QAM, code_rate=0.5" in repr(pickle.loads(pickle.dumps(channel)))


@pytest.mark.parametrize(
    ("payloads", "error", "message"),
    [
        ([b"x"], TypeError, r"payloads must be a torch\.Tensor, got list"),
        (torch.zeros(2, 3, requires_grad=True), TypeError, "no gradient passes through a digital link"),
        (torch.zeros(2, 3), ValueError, r"payloads must be uint8 .*, got torch\.float32 of shape \(2, 3\)"),
        (torch.zeros(3, dtype=torch.uint8), ValueError, r"of shape \(3,\)"),
        (torch.zeros(2, 3, dtype=torch.uint8, device="meta"), ValueError, "payloads are on the meta device"),
    ],
)
def test_misuse_gets_one_clear_error(channel, payloads, error, message):
    with pytest.raises(error, match=message):
        channel(payloads)


def test_an_snr_that_wants_a_gradient_is_refused(channel):
    snr_db = torch.full((2,), 10.0, requires_grad=True)
    with pytest.raises(TypeError, match="detach payloads and snr_db"):
        channel(torch.zeros(2, 3, dtype=torch.uint8), snr_db)


def test_a_deep_copy_under_no_grad_answers_alike(channel):
    payloads = torch.randint(256, (4, 10), dtype=torch.uint8)
    with torch.no_grad():
        first, second = (each(payloads, 2.0, [0, 1, 2, 3]) for each in (channel, copy.deepcopy(channel)))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_link_must_be_digital():
    with pytest.raises(TypeError, match="link must be a DigitalLink, got LinkConfig"):
        BitChannel(LinkConfig())
