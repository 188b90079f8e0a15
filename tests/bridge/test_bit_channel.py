import pickle

import pytest

from bridge import BitChannel  # first: TensorFlow before PyTorch

# isort: split
import torch

from phy import DigitalLink, EnvelopeLink, LinkConfig, McsThresholds


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


def test_it_takes_a_link_that_adapts():
    thresholds = McsThresholds(snr_db=(-5.0, *[30.0] * 27))
    channel = BitChannel(EnvelopeLink(LinkConfig(channel="rayleigh"), thresholds=thresholds))
    payloads = torch.arange(20, dtype=torch.uint8)[None]
    received, arrived = channel(payloads, 20.0, [0])
    assert arrived.all()
    assert torch.equal(received, payloads)
    assert "best scheme for the SNR" in repr(channel)


@pytest.mark.parametrize(
    ("payloads", "error", "message"),
    [
        ([b"x"], TypeError, r"payloads must be a torch\.Tensor, got list"),
        (torch.zeros(2, 3, requires_grad=True), TypeError, "no gradient passes through a digital link"),
        (torch.zeros(2, 3), ValueError, r"payloads must be uint8 .*, got torch\.float32 of shape \(2, 3\)"),
        (torch.zeros(3, dtype=torch.uint8), ValueError, r"of shape \(3,\)"),
    ],
)
def test_misuse_gets_one_clear_error(channel, payloads, error, message):
    with pytest.raises(error, match=message):
        channel(payloads)


def test_the_link_must_be_digital():
    with pytest.raises(TypeError, match="link must be a DigitalLink or an EnvelopeLink, got LinkConfig"):
        BitChannel(LinkConfig())
