import dataclasses
import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy import config as sionna_config

from phy import LinkConfig
from phy.channel import _FACTS_OF_FADES, Channel
from phy.fading import _FACTS_OF_MODELS, BLOCK
from phy.resource_grid import ResourceGrid
from tests.phy.links import ALL_CHANNELS, complex_normal, fades_of, make_codes, make_link

DIGEST = """
import hashlib, sys
import numpy as np
from phy import AnalogLink, LinkConfig
assert "torch" not in sys.modules, "import phy loads torch"
link = AnalogLink(LinkConfig(channel=sys.argv[1], seed=4))
fades = link.channel.fades(np.array([130, 3, 64]), link.transmission(num_tokens=5, width=64).grid.resources)
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in fades[:4])).hexdigest())
"""


def test_a_realisation_does_not_depend_on_batch_order_or_history():
    link, fresh = make_link(seed=4), make_link(seed=4)
    whole = fades_of(link, np.arange(150))
    for part, again in zip(whole[:4], fades_of(fresh, [149, 3, 70, 3])[:4], strict=True):
        np.testing.assert_array_equal(part[..., [149, 3, 70, 3], :], again)


@pytest.mark.parametrize("channel", ["cdl-c", "tdl-d"])
def test_a_realisation_is_the_same_in_a_fresh_process_which_has_not_loaded_torch(channel):
    import hashlib

    command = [sys.executable, "-c", DIGEST, channel]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    here = fades_of(make_link(channel=channel, seed=4), [130, 3, 64])
    assert there == hashlib.sha256(b"".join(part.tobytes() for part in here[:4])).hexdigest()


def test_a_realisation_is_the_same_whatever_else_is_sent():
    link = make_link(seed=4)
    short, long = fades_of(link, [5], width=64), fades_of(link, [5], width=512)
    symbols = [
        link.transmission(num_tokens=5, width=width).grid.resources.data_symbols for width in (512, 64)
    ]  # fewer codes lie nearer to the pilots
    same = np.isin(*symbols).repeat(64)
    np.testing.assert_allclose(long.h[..., same][..., :80], short.h, atol=1e-6)
    np.testing.assert_array_equal(long.noise[..., same][..., :80], short.noise)
    np.testing.assert_array_equal(long.noise_pilot, short.noise_pilot)


def test_seeds_and_realisations_differ():
    h = fades_of(make_link(seed=1), [0, 1, BLOCK]).h
    other = fades_of(make_link(seed=2), [0]).h
    assert len({h[:, :, i].tobytes() for i in range(3)} | {other[:, :, 0].tobytes()}) == 4


# Another value of every field of LinkConfig, on links whose fades use all that fades may have. A new field needs a row
# here, and belongs to _FACTS_OF_FADES if the test then fails.
FADING = {"channel": "tdl-a", "num_tx_ant": 2, "num_rx_ant": 2, "fft_size": 16, "num_guard_carriers": (1, 0)}
CASES = {
    "plain": LinkConfig(**FADING),
    "late and noisy": LinkConfig(**FADING, estimator="perfect", csi_delay=1e-4, phase_noise_linewidth=5.0),
    "leaky": LinkConfig(**FADING, pa_backoff_db=6.0),
}
OTHER = {
    **{"channel": "tdl-d", "num_tx_ant": 1, "num_rx_ant": 1, "carrier_frequency": 5e9, "delay_spread": 50e-9},
    **{"speed": 30.0, "fft_size": 32, "subcarrier_spacing": 15e3, "num_guard_carriers": (0, 1), "dc_null": True},
    **{"cyclic_prefix_length": 12, "modulation": "iq", "phase_mask": False, "pilots": "none", "pilot_spacing": 2},
    **{"pilot_boost_db": 3.0, "estimator": "lmmse", "csi_delay": 2e-4, "noise_error_db": 1.0, "recovery": "lmmse"},
    **{"direction": "downlink", "dac_bits": 6, "adc_bits": 6, "tx_iq_imbalance": (0.5, 3.0)},
    **{"rx_iq_imbalance": (0.5, 3.0), "clipping_db": 3.0, "pa_backoff_db": 3.0, "pa_smoothness": 3.0},
    **{"carrier_frequency_offset": 50.0, "phase_noise_linewidth": 2.0, "seed": 1, "precision": "double"},
}


@functools.cache
def fades_of_case(case):
    channel = Channel(CASES[case])
    grid = ResourceGrid(channel.config, 20)
    return channel.facts(0, grid), channel.fades(np.arange(2), grid).present()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(LinkConfig)])
def test_a_field_of_the_config_is_a_fact_of_the_fades_or_leaves_them_bit_identical(field, case):
    assert field in OTHER, f"say what another {field} does to fades: add a row to OTHER"
    one = CASES[case]
    needed = {"estimator": "perfect"} if field == "pilots" else {}  # without pilots there is nothing else
    other = dataclasses.replace(one, **{field: OTHER[field]}, **needed)
    facts, parts = fades_of_case(case)
    channel, grid = Channel(other), ResourceGrid(other, 20)
    if channel.facts(0, grid) != facts:
        derived = {"estimator", "dac_bits", "tx_iq_imbalance", "clipping_db", "pa_backoff_db"}  # told late, leaky
        assert field in {*_FACTS_OF_FADES, *derived}
        return
    assert field not in _FACTS_OF_FADES
    others = channel.fades(np.arange(2), grid).present()
    assert parts.keys() == others.keys()
    for name, part in parts.items():
        np.testing.assert_array_equal(part, others[name])


def test_a_small_cache_changes_nothing_and_stays_small():
    link, frugal = make_link(channel="rayleigh"), make_link(channel="rayleigh")
    frugal.channel._cache_bytes = 1
    numbers = np.arange(0, 5 * BLOCK, 13)
    np.testing.assert_array_equal(fades_of(link, numbers).h, fades_of(frugal, numbers).h)
    assert len(frugal.channel._cache) == 1
    assert len(link.channel._cache) == 5


def test_sionnas_own_random_state_is_left_alone():
    sionna_config.seed = 3
    untouched = sionna_config.tf_rng.uniform([4]).numpy()
    sionna_config.seed = 3
    fades_of(make_link(), [0])
    np.testing.assert_array_equal(sionna_config.tf_rng.uniform([4]), untouched)
    assert sionna_config.seed == 3


@pytest.mark.parametrize("channel", [name for name in ALL_CHANNELS if name != "awgn"])
def test_mean_gain_is_one_and_fades_are_there(channel):
    link = make_link(channel=channel, num_tx_ant=2, num_rx_ant=2, fft_size=8, estimator="perfect")
    h = fades_of(link, np.arange(40 * BLOCK), width=4).h
    gain = (np.abs(h) ** 2).mean((0, 1, 3))  # of each realisation
    standard_error = gain.std() / np.sqrt(len(gain))
    assert abs(gain.mean() - 1) < 5 * standard_error
    assert standard_error < 0.02
    assert gain.std() > 0.1  # outage is there


@pytest.mark.parametrize("antennas", [(1, 1), (2, 1), (4, 2), (4, 8), (8, 4), (3, 5), (7, 4)])
def test_awgn_has_no_fades_and_can_be_inverted(antennas):
    tx, rx = antennas
    link = make_link(channel="awgn", num_tx_ant=tx, num_rx_ant=rx)
    h = fades_of(link, [0, 1]).h
    np.testing.assert_allclose(np.abs(h), 1, rtol=1e-6)
    np.testing.assert_array_equal(h[:, :, 0], h[:, :, 1])
    matrix = h[:, :, 0, 0].astype(np.complex128)
    product = matrix.conj().T @ matrix if rx >= tx else matrix @ matrix.conj().T
    np.testing.assert_allclose(product, max(tx, rx) * np.eye(min(tx, rx)), atol=1e-5)
    assert np.linalg.matrix_rank(np.concatenate([matrix.real, matrix.imag]), tol=1e-3) == tx


@pytest.mark.parametrize(
    "facts",
    [
        *({"channel": channel, "estimator": "perfect"} for channel in ALL_CHANNELS),
        {"num_tx_ant": 1, "num_rx_ant": 1, "num_guard_carriers": (5, 6)},
        {"num_tx_ant": 3, "num_rx_ant": 2, "pilots": "none", "estimator": "perfect"},
        {"dc_null": True, "num_guard_carriers": (4, 3)},
        {"num_tx_ant": 2, "num_rx_ant": 4, "modulation": "iq", "direction": "downlink"},
    ],
)
def test_measured_snr_is_the_requested_one(facts):
    """Noise-free part against noise, on data and pilots, given the gain of the realisations that were met."""
    snr_db, batch, width = 7.0, BLOCK, 300
    link = make_link(**facts)
    transmission = link.transmission(num_tokens=10, width=width)
    fades = link.channel.fades(np.arange(batch), transmission.grid.resources)
    no = tf.constant([[10 ** (-snr_db / 10)]], tf.float32)
    signs = np.where(make_codes(batch, 10, width) > 0, 1.0, -1.0).astype(np.float32)
    x = transmission.map_tokens(signs)
    silent = fades._replace(noise=np.zeros_like(fades.noise), noise_pilot=np.zeros_like(fades.noise_pilot))
    received, clean = link.channel(x, fades, no), link.channel(x, silent, no)
    signal, noise = np.mean(np.abs(clean) ** 2), np.mean(np.abs(received - clean) ** 2)
    gain = np.mean(np.abs(fades.h) ** 2)
    assert 10 * np.log10(signal / noise / gain) == pytest.approx(snr_db, abs=0.05)
    if link.config.pilots != "none":
        pilots, clean = (link.channel.sound(transmission.sounding.pilots, part, no) for part in (fades, silent))
        ratio = np.mean(np.abs(clean) ** 2) / np.mean(np.abs(pilots - clean) ** 2) / np.mean(np.abs(fades.h_pilot) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channel", "antennas"), [("rayleigh", (4, 8)), ("tdl-a", (2, 4)), ("cdl-c", (4, 8)), ("cdl-d", (1, 2))]
)
def test_mean_gain_is_one_within_a_twentieth_of_a_decibel(channel, antennas):
    tx, rx = antennas
    link = make_link(channel=channel, num_tx_ant=tx, num_rx_ant=rx, fft_size=8)
    gains = [np.mean(np.abs(fades_of(link, BLOCK * b + np.arange(BLOCK), width=4).h) ** 2) for b in range(300)]
    assert abs(10 * np.log10(np.mean(gains))) < 0.05


@pytest.mark.parametrize("channel", ["tdl-c", "cdl-b"])
def test_waveforms_in_time_agree_with_subcarriers_while_the_prefix_holds(channel):
    """Two OFDM symbols with prefixes in continuous time, their delayed copies added up, sampled and transformed."""
    link = make_link(channel=channel, delay_spread=200e-9, num_tx_ant=2, num_rx_ant=1, speed=0.0)
    a, tau = link.channel.fading.paths(np.array([0]), np.array([3, 0]))
    a, tau = a.numpy()[:8, 0, 0, :, 0].astype(complex), tau.numpy()[:8].astype(float)  # [links, paths]
    h = link.channel.fading(np.array([0]), np.array([3, 0]))[0, 0, :8, 0]
    x, tones = complex_normal(np.random.default_rng(0), 2, 64), 30e3 * (np.arange(64) - 32)
    time = np.arange(64) / (64 * 30e3) - tau[..., None]  # [links, paths, samples]; the second symbol starts at 0

    def error_db(prefix):
        first, second = (
            np.exp(2j * np.pi * t[..., None] * tones) @ symbol
            for t, symbol in zip((time + 1 / 30e3 + prefix, time), x, strict=True)
        )
        y = (a[..., None] * np.where(time < -prefix, first, second)).sum(1)
        received = np.fft.fftshift(np.fft.fft(y), -1) / 64
        return 10 * np.log10(np.mean(np.abs(received - h * x[1]) ** 2) / np.mean(np.abs(h * x[1]) ** 2))

    assert error_db(link.config.cyclic_prefix_duration) < -90
    assert error_db(0.1e-6) > -30  # a prefix that is too short shows


def test_links_with_the_same_channel_share_its_model_and_any_other_fact_makes_another():
    """What fades depend on beside the model are draws and the pilots' places."""
    draws = {"seed", "pilots", "pilot_spacing", "csi_delay", "phase_noise_linewidth"}
    assert set(_FACTS_OF_FADES) - set(_FACTS_OF_MODELS) == draws
    assert make_link(seed=1, recovery="lmmse").channel.fading is make_link(seed=2).channel.fading
    for field, other in (("num_rx_ant", 4), ("speed", 2.0), ("delay_spread", 2e-7), ("direction", "downlink")):
        assert make_link(**{field: other}).channel.fading is not make_link().channel.fading
