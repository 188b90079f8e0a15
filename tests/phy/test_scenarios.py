import numpy as np
import pytest
import tensorflow as tf
from sionna.phy import config as sionna_config
from sionna.phy.channel import cir_to_ofdm_channel, gen_single_sector_topology, subcarrier_frequencies

from phy.scenarios import SCENARIOS, ScenarioModel
from tests.phy.corrected_sionna import follow_the_terminal
from tests.phy.links import antennas_first, fades_of, make_link

TONES = subcarrier_frequencies(16, 30e3)


def make_model(scenario, num_tx_ant=2, num_rx_ant=2, direction="uplink", speed=20.0):
    return ScenarioModel(
        scenario=scenario,
        num_tx_ant=num_tx_ant,
        num_rx_ant=num_rx_ant,
        carrier_frequency=3.5e9,
        speed=speed,
        direction=direction,
    )


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("antennas", "direction"), [((4, 6), "uplink"), ((3, 2), "downlink"), ((1, 1), "uplink")])
def test_responses_are_sionnas(scenario, antennas, direction):
    """Same seed, same drops, same sum over paths; single precision at up to 2 km allows the tolerance."""
    model = make_model(scenario, *antennas, direction)
    sionna_config.seed = 7
    a, tau = model(16, tf.constant([0.0, 1e-3]))
    ours = np.einsum("lrtnp,lpf->lrtnf", a, np.exp(-2j * np.pi * tau.numpy()[..., None] * TONES.numpy()))
    sionna_config.seed = 7
    place = gen_single_sector_topology(16, 1, scenario, min_ut_velocity=20.0, max_ut_velocity=20.0)
    model._model.set_topology(*place)
    model._model._scenario._los_zoa = 180.0 - model._model._scenario.los_zod
    sionna = follow_the_terminal(model._model, direction)
    reference = cir_to_ofdm_channel(TONES, *sionna(2, 1e3))[:, 0, :, 0].numpy()
    assert np.abs(ours - reference).max() < (2e-2 if scenario == "rma" else 2e-3) * np.abs(reference).max()


def test_ray_offsets_have_mean_0_and_rms_1():
    """3GPP TR 38.901, table 7.5-3: rays of a cluster spread by the cluster's own rms angle."""
    model = make_model("umi")
    offsets = model._model._ray_sampler._ray_offsets.numpy().astype(np.float64)
    assert abs(offsets.mean()) < 1e-7
    assert np.sqrt(np.mean(offsets**2)) == pytest.approx(1, abs=1e-4)
    sionna_config.seed = 3
    model(16, tf.constant([0.0]))
    rays = model._model._ray_sampler(model._model._lsp)
    for azimuth, spread in ((rays.aoa, "cASA"), (rays.aod, "cASD")):
        turn = np.exp(1j * azimuth.numpy().astype(np.float64)[:, 0, 0])  # [links, clusters, rays]
        around = np.angle(turn * turn.mean(-1, keepdims=True).conj())
        asked = np.deg2rad(model._model._scenario.get_param(spread)[:, 0])
        np.testing.assert_allclose(around.mean(-1), 0, atol=1e-5)
        np.testing.assert_allclose(np.sqrt((around**2).mean(-1)) / asked, 1, atol=1e-3)


@pytest.mark.parametrize(("scenario", "antennas"), [("umi", (2, 3)), ("uma", (4, 1)), ("rma", (1, 2))])
def test_gain_delay_and_doppler_are_the_same_in_both_directions(scenario, antennas):
    """The same drop for the same seed; its line of sight, which has no random phase, even has the same coefficient."""
    tx, rx = antennas
    times, moments, sights = tf.constant([0.0, 1e-3, 20e-3]), [], []
    for model in (make_model(scenario, tx, rx, "downlink"), make_model(scenario, rx, tx, "uplink")):
        sionna_config.seed = 8
        moments.append([part.numpy() for part in model.second_moments(32)])
        sionna_config.seed = 8
        sights.append(model(32, times)[0][..., -1].numpy())
    for there, back in zip(*moments, strict=True):
        np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-5 * np.abs(there).max())
    there, back = sights
    assert np.abs(there - back.swapaxes(1, 2)).max() < 1e-3 * np.abs(there).max()
    assert np.abs(there[..., 2] - there[..., 0]).max() > 0.1 * np.abs(there).max()


@pytest.mark.parametrize(("scenario", "direction"), [("umi", "uplink"), ("uma", "downlink"), ("rma", "uplink")])
def test_the_line_of_sight_turns_as_the_distance_shrinks(scenario, direction):
    """By 2π for every wavelength that the terminal comes nearer."""
    model = make_model(scenario, 1, 1, direction)
    sionna_config.seed = 9
    sight = model(256, tf.constant([0.0, 0.5e-3]))[0].numpy()[:, 0, 0, :, -1]
    place = model._model._scenario
    way = (place._bs_loc - place._ut_loc).numpy()[:, 0].astype(np.float64)
    nearing = (way * place.ut_velocities.numpy()[:, 0]).sum(-1) / np.linalg.norm(way, axis=-1)  # [m/s]
    seen = place.los.numpy()[:, 0, 0]
    turned = np.angle(sight[:, 1] * sight[:, 0].conj())[seen]
    np.testing.assert_allclose(turned, (2 * np.pi * 3.5e9 / 299_792_458 * 0.5e-3 * nearing)[seen], atol=1e-3)
    assert seen.sum() > 5
    assert np.abs(turned).max() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("antennas", [(2, 2), (1, 1)])
def test_mean_gain_is_that_of_the_drops(scenario, antennas):
    model = make_model(scenario, *antennas)
    sionna_config.seed = 11
    draw = tf.function(lambda: tf.reduce_sum(model.second_moments(1024)[0], 1), autograph=False)
    gains = np.concatenate([draw().numpy() for _ in range(8)])
    standard_error = gains.std() / np.sqrt(len(gains))
    assert abs(gains.mean() - model.mean_gain) < 5 * np.hypot(standard_error, 0.0026 * model.mean_gain)
    assert gains.std() > 0.3 * model.mean_gain  # a drop at the edge of the beam has less: no example is normalised


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_correlations_and_gain_are_those_of_realisations(scenario):
    """Those that estimators rely on come from one set of drops; links are another."""
    link = make_link(
        channel=scenario, num_tx_ant=2, num_rx_ant=2, fft_size=32, speed=20.0, pilots="none", estimator="perfect"
    )
    h = fades_of(link, np.arange(1024), width=150).h[..., : 5 * 32].reshape(4, 1024, 5, 32)
    gain = (np.abs(h) ** 2).mean((0, 2, 3))
    assert abs(gain.mean() - 1) < 5 * gain.std() / np.sqrt(1024)
    for lag in (1, 8, 31):
        products = (h[..., lag:] * h[..., : 32 - lag].conj()).mean((0, 2, 3))
        error = (products - gain * link.channel.frequency_correlation(np.array(lag))).mean()
        assert abs(error) < 5 * np.abs(products).std() / np.sqrt(1024) + 0.02
    products = (h[:, :, 4] * h[:, :, 0].conj()).mean((0, 2))
    error = (products - gain * link.channel.time_correlation(np.array(4))).mean()
    assert abs(error) < 5 * np.abs(products).std() / np.sqrt(1024) + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_error_of_a_channel_estimate_is_as_announced_in_the_mean(scenario):
    link = make_link(channel=scenario, num_tx_ant=2, num_rx_ant=2, phase_mask=False)
    fades = fades_of(link, np.arange(1024))
    for no in (1e-1, 1e-3):
        h_hat, err_var = link.transmission(num_tokens=5, width=64).estimate(fades, tf.fill([1024, 1], no))
        error = (np.abs(antennas_first(h_hat) - fades.h) ** 2).mean((0, 1, 3))
        assert abs(error.mean() - err_var.numpy().mean()) < 3 * error.std() / np.sqrt(1024) + 0.05 * error.mean()


@pytest.mark.slow
def test_excess_delay_of_the_configuration_holds_the_power():
    """99 % of the power of drops arrives before the delay to which a cyclic prefix is held."""
    from phy.config import _SCENARIO_EXCESS_DELAY

    late = sum(share[tau > _SCENARIO_EXCESS_DELAY["rma"]].sum() for share, tau, _ in make_model("rma")._ensemble)
    assert 0.005 < late < 0.02
