import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0
from sionna.phy import config as sionna_config
from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies
from sionna.phy.channel.tr38901 import CDL, TDL

from phy.antennas import panel
from phy.cir import CDLDraw, CDLModel, TDLModel
from tests.phy.corrected_sionna import follow_the_terminal
from tests.phy.links import make_link

SYMBOL = 1e-3 / 28
USED = [0, 1, 2, 11]
WAVENUMBER = 2 * np.pi * 3.5e9 / 299_792_458
FACTS = {"carrier_frequency": 3.5e9, "delay_spread": 100e-9, "speed": 20.0}


def sionna_cdl(profile, num_tx_ant, num_rx_ant, direction):
    mobile, base = (num_tx_ant, num_rx_ant) if direction == "uplink" else (num_rx_ant, num_tx_ant)
    ut, bs = panel(mobile, 3.5e9, "omni"), panel(base, 3.5e9, "38.901")
    return follow_the_terminal(CDL(profile, 100e-9, 3.5e9, ut, bs, direction, min_speed=20.0), direction)


def coefficients(model, *shape):
    """Our model and Sionna's from the same seed, at the symbols in use: [links, rx, tx, times, paths]."""
    sionna_config.seed = 5
    ours = model(16, tf.constant(USED, tf.float32) * SYMBOL)[0].numpy()
    sionna_config.seed = 5
    reference, tau = shape[0](16, 14, 1 / SYMBOL)
    return ours, reference.numpy()[:, 0, :, 0].swapaxes(-1, -2)[..., USED, :], tau.numpy()[0, 0, 0]


@pytest.mark.parametrize("profile", "ABCDE")
@pytest.mark.parametrize(("antennas", "direction"), [((4, 8), "uplink"), ((4, 2), "downlink"), ((1, 3), "uplink")])
def test_cdl_coefficients_are_sionnas(profile, antennas, direction):
    tx, rx = antennas
    model = CDLModel(profile=profile, num_tx_ant=tx, num_rx_ant=rx, direction=direction, **FACTS)
    ours, reference, tau = coefficients(model, sionna_cdl(profile, tx, rx, direction))
    order = np.argsort(model.delays, kind="stable")  # Sionna sorts the paths
    np.testing.assert_allclose(model.delays[order], tau, rtol=1e-6)
    assert np.abs(ours[..., order] - reference).max() < 2e-6 * np.abs(reference).max()


@settings(derandomize=True, deadline=None, max_examples=10)
@given(st.sampled_from("ABCDE"), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_the_uplink_of_cdl_is_its_transposed_downlink(profile, num_tx_ant, num_rx_ant, seed):
    """Also in motion: the same rays between the same ends, whichever of them transmits."""
    down = CDLModel(profile=profile, num_tx_ant=num_tx_ant, num_rx_ant=num_rx_ant, direction="downlink", **FACTS)
    up = CDLModel(profile=profile, num_tx_ant=num_rx_ant, num_rx_ant=num_tx_ant, direction="uplink", **FACTS)
    sionna_config.seed = seed
    velocity, aoa, aod, zoa, zod, phase = drawn = down.draw(4)
    swapped = CDLDraw(velocity, aod, aoa, zod, zoa, tf.gather(phase, [0, 2, 1, 3], axis=-1))
    times = tf.constant([0.0, 0.5e-3, 20e-3])
    there, back = down.coefficients(drawn, times), up.coefficients(swapped, times)
    assert np.abs(there - tf.transpose(back, [0, 2, 1, 3, 4])).max() < 1e-5 * np.abs(there).max()
    lags = np.array([1e-3, 3e-3])
    np.testing.assert_allclose(up.time_correlation(lags), down.time_correlation(lags), atol=1e-9)
    assert up.mean_gain == pytest.approx(down.mean_gain)


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
@pytest.mark.parametrize(("profile", "zenith"), [("D", 81.5), ("E", 80.4)])
def test_the_frequency_rises_for_a_terminal_that_approaches(profile, zenith, direction):
    """The base is at azimuth 180 degrees from the terminal and at `zenith`: 3GPP TR 38.901, tables 7.7.1-4 and -5."""
    model = CDLModel(profile=profile, num_tx_ant=2, num_rx_ant=2, direction=direction, **FACTS)
    sionna_config.seed = 6
    towards = 20.0 * np.array([[-np.sin(np.deg2rad(zenith)), 0.0, np.cos(np.deg2rad(zenith))]])
    drawn = model.draw(500)._replace(velocity=tf.tile(tf.constant(towards, tf.float32), [500, 1]))
    first_path = model.coefficients(drawn, tf.constant([0.0, 0.5e-3]))[..., 0].numpy()
    turned = np.angle((first_path[..., 1] * first_path[..., 0].conj()).sum())
    assert turned == pytest.approx(WAVENUMBER * 20.0 * 0.5e-3, rel=0.01)


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
@pytest.mark.parametrize("profile", "AC")
def test_paths_turn_with_their_rays_at_the_terminal(profile, direction):
    """In the mean over the pairs of a path's angles, for a terminal that moves along the x axis."""
    model = CDLModel(profile=profile, num_tx_ant=2, num_rx_ant=3, direction=direction, **FACTS)
    sionna_config.seed = 7
    drawn = model.draw(4000)._replace(velocity=tf.tile([[20.0, 0.0, 0.0]], [4000, 1]))
    a = model.coefficients(drawn, tf.constant([0.0, 2e-3])).numpy()
    products = (a[..., 1, :] * a[..., 0, :].conj()).mean((1, 2)) / (np.abs(a[..., 0, :]) ** 2).mean((0, 1, 2))
    table = sionna_cdl(profile, 2, 3, "downlink")  # in which rays arrive at the terminal
    azimuth, zenith = table._aoa.numpy()[0, 0, 0, :, None, :], table._zoa.numpy()[0, 0, 0, :, :, None]
    expected = np.exp(1j * WAVENUMBER * 20.0 * 2e-3 * np.sin(zenith) * np.cos(azimuth)).mean((1, 2))
    assert np.all(np.abs(products.mean(0) - expected) < 5 * np.abs(products).std(0) / np.sqrt(len(products)))


@pytest.mark.parametrize("profile", "ABCDE")
def test_tdl_coefficients_are_sionnas(profile):
    model = TDLModel(profile=profile, num_tx_ant=4, num_rx_ant=2, **FACTS)
    sionna = TDL(profile, 100e-9, 3.5e9, min_speed=20.0, num_rx_ant=2, num_tx_ant=4)
    ours, reference, tau = coefficients(model, sionna)
    np.testing.assert_allclose(model.delays, tau, rtol=1e-6)
    assert np.abs(ours - reference).max() < 2e-6 * np.abs(reference).max()


@pytest.mark.parametrize("profile", "CD")
@pytest.mark.parametrize("antennas", [(4, 8), (1, 3)])
def test_path_powers_of_cdl_are_those_of_its_ensemble(profile, antennas):
    tx, rx = antennas
    model = CDLModel(profile=profile, num_tx_ant=tx, num_rx_ant=rx, direction="uplink", **FACTS)
    sionna_config.seed = 1
    power = (np.abs(model(6000, tf.constant([0.0]))[0]) ** 2).mean((1, 2, 3))  # [links, paths]
    error = power.mean(0) - model.powers * model.mean_gain
    np.testing.assert_array_less(np.abs(error), 5 * power.std(0) / np.sqrt(len(power)) + 1e-9)


@pytest.mark.parametrize(
    "model",
    [
        CDLModel(profile="A", num_tx_ant=2, num_rx_ant=2, direction="uplink", **FACTS),
        CDLModel(profile="D", num_tx_ant=2, num_rx_ant=2, direction="downlink", **FACTS),
        CDLModel(profile="C", num_tx_ant=3, num_rx_ant=1, direction="uplink", **FACTS),
        TDLModel(profile="A", num_tx_ant=2, num_rx_ant=2, **FACTS),
        TDLModel(profile="D", num_tx_ant=2, num_rx_ant=2, **FACTS),
    ],
    ids=["cdl-a", "cdl-d", "cdl-c", "tdl-a", "tdl-d"],
)
def test_time_correlation_is_that_of_the_ensemble(model):
    sionna_config.seed = 2
    lags = np.array([0.0, 1e-3, 3e-3])
    a = model(6000, tf.constant(lags, tf.float32))[0].numpy()
    products = (a * a[..., :1, :].conj()).sum(-1).mean((1, 2)) / model.mean_gain  # [links, lags]
    error = products.mean(0) - model.time_correlation(lags)
    assert np.all(np.abs(error) < 5 * np.abs(products).std(0) / np.sqrt(len(products)) + 5e-3)


@pytest.mark.parametrize("channel", ["tdl-a", "cdl-c", "cdl-e"])
def test_frequency_response_is_sionnas_for_the_same_paths(channel):
    link = make_link(channel=channel, num_guard_carriers=(3, 2))
    fading, key = link.channel.fading, np.array([7, 0])
    h, model = fading(np.array([0, 1]), key), fading._model
    sionna_config.tf_rng.reset_from_key_counter(key[0], tf.zeros([2], tf.int64))
    a = tf.transpose(model(64, tf.constant([0.0, 1.0]) * SYMBOL)[0], [0, 1, 2, 4, 3])[:, None, :, None]
    tau = tf.tile(tf.constant(model.delays, tf.float32)[None, None, None], [64, 1, 1, 1])
    reference = cir_to_ofdm_channel(subcarrier_frequencies(64, 30e3), a, tau)[:, 0, :, 0].numpy()[..., 3:62]
    reference = reference.transpose(1, 2, 0, 3, 4) / np.sqrt(model.mean_gain)
    assert np.abs(h - reference).max() < 1e-5


@pytest.mark.parametrize("profile", "ABCDE")
@pytest.mark.parametrize("delay_spread", [30e-9, 300e-9])
def test_delay_spread_is_the_one_asked_for(profile, delay_spread):
    """Of the profiles themselves; the patterns of real antennas weigh the clusters of a cdl anew."""
    tdl = TDLModel(profile=profile, num_tx_ant=1, num_rx_ant=1, **{**FACTS, "delay_spread": delay_spread})
    mean = tdl.powers @ tdl.delays
    spread = np.sqrt(tdl.powers @ tdl.delays**2 - mean**2)
    assert spread == pytest.approx(delay_spread, rel=0.01)
    cdl = CDLModel(
        profile=profile, num_tx_ant=1, num_rx_ant=1, direction="uplink", **{**FACTS, "delay_spread": delay_spread}
    )
    sionna = CDL(profile, delay_spread, 3.5e9, panel(1, 3.5e9, "omni"), panel(1, 3.5e9, "omni"), "uplink")
    powers = sionna._powers.numpy()[0, 0, 0].astype(np.float64)
    if sionna.los:
        powers[0] += float(sionna._k_factor[0, 0, 0])
    powers /= powers.sum()
    mean = powers @ cdl.delays
    assert np.sqrt(powers @ cdl.delays**2 - mean**2) == pytest.approx(delay_spread, rel=0.02)


@pytest.mark.parametrize(("profile", "k_factor_db"), [("D", 13.3), ("E", 22.0)])
def test_first_tap_is_rician_with_the_factor_of_its_table(profile, k_factor_db):
    """E|a|⁴ / (E|a|²)² = (K² + 4K + 2) / (K + 1)², K from 3GPP TR 38.901, tables 7.7.2-4 and 7.7.2-5."""
    sionna_config.seed = 3
    model = TDLModel(profile=profile, num_tx_ant=2, num_rx_ant=2, **FACTS)
    power = np.abs(model(8000, tf.constant([0.0]))[0].numpy()[..., 0, 0].reshape(-1)) ** 2
    k = 10 ** (k_factor_db / 10)
    assert np.var(power) / np.mean(power) ** 2 == pytest.approx((2 * k + 1) / (k + 1) ** 2, rel=0.06)


@pytest.mark.parametrize("speed", [3.0, 60.0])
def test_taps_turn_as_clarke_says(speed):
    """E[a(t + τ) a*(t)] = J0(2π f_D τ) for every tap, and the power of its spectrum stays within ±f_D."""
    model = TDLModel(profile="A", num_tx_ant=2, num_rx_ant=2, **{**FACTS, "speed": speed})
    doppler = speed * 3.5e9 / 299_792_458
    lags = np.arange(256) / (8 * doppler)
    sionna_config.seed = 4
    a = model(400, tf.constant(lags, tf.float32))[0].numpy().reshape(1600, 256, -1) / np.sqrt(model.powers)
    products = (a[:, [1, 3, 6, 12]] * a[:, :1].conj()).real.mean((0, 2))
    np.testing.assert_allclose(products, j0(2 * np.pi * doppler * lags[[1, 3, 6, 12]]), atol=5 / np.sqrt(400 * 23))
    spectrum = (np.abs(np.fft.fft(a * np.hanning(256)[:, None], axis=1)) ** 2).mean((0, 2))
    inside = np.abs(np.fft.fftfreq(256, 1 / (8 * doppler))) < 1.1 * doppler
    assert spectrum[~inside].sum() < 1e-4 * spectrum.sum()
    edge = np.abs(np.abs(np.fft.fftfreq(256, 1 / 8)) - 1) < 0.06
    middle = np.abs(np.fft.fftfreq(256, 1 / 8)) < 0.06
    assert spectrum[edge].mean() > 1.5 * spectrum[middle].mean()  # the horns of the U
