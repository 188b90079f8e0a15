"""Against Sionna 2.2, written anew for PyTorch: `tests/phy/golden/make_golden.py` has made the numbers."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GEncoder
from sionna.phy.fec.polar import Polar5GEncoder

from phy.cir import CDLDraw, CDLModel
from phy.fading import sum_paths
from phy.polar_code import PolarCode
from phy.transport_block import HEADER_BITS, TransportCoder, TransportFormat

FOLDER = Path(__file__).parent / "golden"
CDL, WORDS = (np.load(FOLDER / name) for name in ("cdl.npz", "words.npz"))
LDPC, POLAR, BLOCKS = (
    sorted(name for name in WORDS.files if name.startswith(kind) and name.split()[-1] not in ("in", "form"))
    for kind in ("ldpc", "polar", "block")
)


def unpacked(octets, count):
    return np.unpackbits(octets, axis=-1, count=count).astype(np.float32)


@pytest.mark.parametrize("profile", "ACDE")
@pytest.mark.parametrize(("direction", "num_tx_ant", "num_rx_ant"), [("uplink", 2, 4), ("downlink", 4, 2)])
def test_cdl_is_that_of_sionna_2_for_the_same_draws(profile, direction, num_tx_ant, num_rx_ant):
    """Paths, delays and responses at two times a slot apart, at 20 m/s: the second shows the Doppler shifts."""
    model = CDLModel(
        **{"profile": profile, "num_tx_ant": num_tx_ant, "num_rx_ant": num_rx_ant, "direction": direction},
        **{"carrier_frequency": 3.5e9, "delay_spread": 100e-9, "speed": 20.0},
    )
    drawn = CDLDraw(*(CDL[f"{profile} {direction} {name}"] for name in CDLDraw._fields))
    drawn = drawn._replace(**{name: getattr(drawn, name).astype(np.int32) for name in ("aoa", "aod", "zoa", "zod")})
    a = model.coefficients(drawn, tf.constant([0.0, 0.5e-3]))
    order = np.argsort(model.delays, kind="stable")  # Sionna sorts the paths
    golden_a, tau, h = (CDL[f"{profile} {direction} {name}"] for name in ("a", "tau", "h"))
    np.testing.assert_allclose(model.delays[order], tau, rtol=1e-6)
    assert np.abs(a.numpy()[..., order] - golden_a.swapaxes(-1, -2)).max() < 1e-6 * np.abs(golden_a).max()
    ours = sum_paths(tf.transpose(a, [1, 2, 0, 3, 4]), tf.constant(model.delays[None]), CDL["tones"])
    assert np.abs(tf.transpose(ours, [2, 0, 1, 3, 4]) - h).max() < 1e-6 * np.abs(h).max()
    assert np.abs(h[..., 1, :] - h[..., 0, :]).max() > 0.1 * np.abs(h).max()


@pytest.mark.parametrize("name", LDPC)
def test_ldpc_words_are_those_of_sionna_2(name):
    k, n, bits_per_symbol = map(int, name.split()[1:])
    word = LDPC5GEncoder(k, n, num_bits_per_symbol=bits_per_symbol)(unpacked(WORDS[f"{name} in"], k))
    np.testing.assert_array_equal(word, unpacked(WORDS[name], n))


@pytest.mark.parametrize("name", POLAR)
def test_polar_words_are_those_of_sionna_2(name):
    k, n, channel = name.split()[1:]
    sent, expected = unpacked(WORDS[f"{name} in"], int(k)), unpacked(WORDS[name], int(n))
    np.testing.assert_array_equal(Polar5GEncoder(int(k), int(n), channel_type=channel)(sent), expected)
    if channel == "uplink":
        np.testing.assert_array_equal(PolarCode(int(k), int(n)).encode(sent), expected)


@pytest.mark.parametrize("name", BLOCKS)
def test_transport_blocks_are_those_of_sionna_2(name):
    """Header, CRC, segments, LDPC and repetition."""
    num_bytes, bits_per_symbol, code_rate, header = name.split()[1:]
    bits_per_symbol, payload = int(bits_per_symbol), WORDS[f"{name} in"].tobytes()
    wanted = 8 * int(num_bytes) + (HEADER_BITS if header == "1" else 0)
    size = None if header == "1" else int(num_bytes)
    form = TransportFormat.ldpc(wanted, bits_per_symbol, code_rate=float(code_rate), payload_bytes=size)
    told = (form.block_bits, form.crc_bits, form.num_blocks, form.k, form.mother_bits, form.n)
    assert told == tuple(WORDS[f"{name} form"])
    coder = TransportCoder(form, bits_per_symbol=bits_per_symbol, num_iterations=8)
    word = coder.encode([payload])
    np.testing.assert_array_equal(word[0], unpacked(WORDS[name], form.coded_bits))
    assert coder.decode(20 * word - 10) == [payload]
