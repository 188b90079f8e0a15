import numpy as np
import pytest
import tensorflow as tf
from scipy.special import j0
from scipy.stats import chi2
from sionna.phy import SPEED_OF_LIGHT
from sionna.phy.channel.tr38901 import TDL
from sionna.phy.ofdm import LSChannelEstimator, PilotPattern, ResourceGrid

from phy.estimation import linear_weights, nearest_weights
from phy.pilots import pilot_antenna, pilot_combs
from tests.phy.links import antennas_first, fades_of, make_link


def make_bare_link(**facts):
    """A link without phase mask, which its channel estimate would include."""
    return make_link(phase_mask=False, **facts)


def test_linear_weights_reproduce_lines_and_nearest_weights_steps():
    pilots, targets = np.array([2, 5, 11]), np.arange(14)
    np.testing.assert_allclose(linear_weights(targets, pilots) @ (3.0 * pilots - 1), 3.0 * targets - 1, atol=1e-12)
    assert list(nearest_weights(targets, pilots) @ pilots) == [2, 2, 2, 2, 5, 5, 5, 5, 5, 11, 11, 11, 11, 11]
    np.testing.assert_array_equal(linear_weights(targets, np.array([4])), 1)


def estimate(link, batch=64, snr_db=10.0, width=64):
    transmission = link.transmission(num_tokens=5, width=width)
    fades = link.channel.fades(np.arange(batch), transmission.grid.resources)
    no = tf.fill([batch, 1], tf.constant(10 ** (-snr_db / 10), tf.float32))
    h_hat, err_var = transmission.estimate(fades, no)
    return np.asarray(fades.h), antennas_first(h_hat), err_var.numpy()


def test_error_at_a_pilot_is_the_noise_over_its_energy():
    """With one antenna every subcarrier is sounded: the estimate there is y / p, and its error N0 / |p|² exactly."""
    link = make_bare_link(channel="rayleigh", num_tx_ant=1, num_rx_ant=8, speed=0.0, estimator="ls-nearest")
    h, h_hat, err_var = estimate(link)
    error = np.abs(h_hat - h)[..., :64] ** 2  # one OFDM symbol, so that no noise is counted twice
    low, high = chi2.interval(1 - 1e-6, df=2 * error.size)
    assert low < 2 * error.sum() / 0.1 < high
    np.testing.assert_allclose(err_var, 0.1, rtol=1e-6)


@pytest.mark.parametrize("channel", ["rayleigh", "tdl-a", "tdl-e", "cdl-c", "cdl-d"])
@pytest.mark.parametrize("estimator", ["ls-nearest", "ls-linear", "lmmse"])
@pytest.mark.parametrize(("snr_db", "speed"), [(0.0, 1.0), (40.0, 40.0)])
def test_error_variance_is_the_mean_squared_error(channel, estimator, snr_db, speed):
    delay_spread = 100e-9 if channel == "tdl-e" else 200e-9  # whose last tap comes latest
    link = make_bare_link(
        channel=channel, estimator=estimator, speed=speed, delay_spread=delay_spread, cyclic_prefix_length=6
    )
    h, h_hat, err_var = estimate(link, batch=1024, snr_db=snr_db, width=150)
    error = (np.abs(h_hat - h) ** 2).mean((0, 1, 3))  # of each realisation
    expected = err_var.mean()
    assert abs(error.mean() - expected) < 5 * error.std() / np.sqrt(len(error)) + 0.02 * expected


def test_interpolated_estimates_fall_with_the_noise_to_the_floor_of_their_interpolation():
    """Without noise what is left of the error is what straight lines between pilots miss of a channel that curves."""
    nmse = {}
    for estimator in ("ls-nearest", "ls-linear", "lmmse"):
        link = make_bare_link(
            channel="tdl-a", estimator=estimator, speed=60.0, delay_spread=300e-9, cyclic_prefix_length=9
        )
        for snr_db in (0.0, 10.0, 60.0, 80.0):
            h, h_hat, _ = estimate(link, batch=256, snr_db=snr_db, width=150)
            nmse[estimator, snr_db] = (np.abs(h_hat - h) ** 2).mean() / (np.abs(h) ** 2).mean()
        assert nmse[estimator, 0.0] > nmse[estimator, 10.0] > nmse[estimator, 60.0]
        assert nmse[estimator, 60.0] == pytest.approx(nmse[estimator, 80.0], rel=0.05)
    assert nmse["ls-nearest", 80.0] > nmse["ls-linear", 80.0] > nmse["lmmse", 80.0]
    no_noise = [nmse["ls-linear", snr_db] - nmse["ls-linear", 80.0] for snr_db in (0.0, 10.0)]
    assert no_noise[0] == pytest.approx(10 * no_noise[1], rel=0.1)  # the noise's own part is in proportion to it


@pytest.mark.parametrize(("channel", "num_tx_ant"), [("tdl-a", 2), ("tdl-e", 2), ("tdl-d", 3)])
def test_lmmse_estimate_is_its_textbook_formula(channel, num_tx_ant):
    facts = {"channel": channel, "num_tx_ant": num_tx_ant, "num_rx_ant": 2, "fft_size": 16}
    link = make_bare_link(estimator="lmmse", speed=30.0, **facts)
    transmission = link.transmission(num_tokens=5, width=16)
    grid, fades = transmission.grid.resources, fades_of(link, np.arange(3), width=16)
    no = np.array([[0.01], [0.1], [1.0]], np.float32)
    y_pilot = link.channel.sound(transmission.sounding.pilots, fades, no).numpy()
    h_hat, err_var = transmission.estimate(fades, tf.constant(no))
    h_hat, err_var = antennas_first(h_hat), err_var.numpy()
    times, tones = (part.ravel() for part in np.meshgrid(grid.pilot_symbols, np.arange(16), indexing="ij"))
    to_times, to_tones = (part.ravel() for part in np.meshgrid(grid.data_symbols, np.arange(16), indexing="ij"))

    def correlate(t1, f1, t2, f2):
        """Clarke's spectrum over the profile, and the line of sight, which only turns: no product of time and tone."""
        config, t, f = link.config, t1[:, None] - t2, f1[:, None] - f2
        doppler = 2 * np.pi * config.carrier_frequency * config.speed / SPEED_OF_LIGHT * config.symbol_duration
        model = TDL(channel[-1].upper(), config.delay_spread, config.carrier_frequency, precision="double")
        delays, powers = model.delays.numpy(), model.mean_powers.numpy().copy()
        sight = float(model.mean_power_los) if model.los else 0.0
        powers[0] -= sight
        profile = np.exp(-2j * np.pi * config.subcarrier_spacing * f[..., None] * delays) @ powers
        return j0(doppler * t) * profile + sight * np.exp(1j * doppler * t * np.cos(np.pi / 4))

    at_pilots = y_pilot * transmission.sounding.pilots.numpy().conj()
    for antenna in range(num_tx_ant):
        mine = pilot_antenna(num_tx_ant, 16)[tones] == antenna
        among = correlate(times[mine], tones[mine], times[mine], tones[mine])
        cross = correlate(to_times, to_tones, times[mine], tones[mine])[: grid.num_res]
        for example in range(3):
            weights = cross @ np.linalg.inv(among + no[example] * np.eye(len(among)))
            expected = weights @ at_pilots[0, example, mine]
            np.testing.assert_allclose(h_hat[0, antenna, example], expected, atol=2e-5)
            explained = np.real((weights * cross.conj()).sum(1))
            np.testing.assert_allclose(err_var[antenna, example], 1 - explained, atol=2e-5)


def points(symbols, tones):
    return [part.ravel() for part in np.meshgrid(symbols, tones, indexing="ij")]


@pytest.mark.parametrize(("channel", "num_tx_ant"), [("tdl-c", 2), ("tdl-d", 2), ("cdl-a", 3)])
def test_robust_estimate_is_the_filter_of_a_uniform_profile_and_declares_what_the_channel_makes_of_it(
    channel, num_tx_ant
):
    facts = {"channel": channel, "num_tx_ant": num_tx_ant, "num_rx_ant": 2, "fft_size": 16}
    link = make_bare_link(estimator="lmmse-robust", speed=20.0, **facts)
    transmission, config = link.transmission(num_tokens=5, width=16), link.config
    grid, fades = transmission.grid.resources, fades_of(link, np.arange(3), width=16)
    no = np.array([[0.01], [0.1], [1.0]], np.float32)
    y_pilot = link.channel.sound(transmission.sounding.pilots, fades, no).numpy()
    h_hat, err_var = transmission.estimate(fades, tf.constant(no))
    h_hat, err_var = antennas_first(h_hat), err_var.numpy()
    delay = config.cyclic_prefix_duration * config.subcarrier_spacing
    doppler = config.carrier_frequency * config.speed / SPEED_OF_LIGHT * config.symbol_duration

    def assumed(first, second):
        """Power spread evenly from delay 0 to the prefix, and over all Doppler shifts of that speed."""
        t, f = (a[:, None] - b for a, b in zip(first, second, strict=True))
        return np.sinc(2 * doppler * t) * np.sinc(f * delay) * np.exp(-1j * np.pi * f * delay)

    def true(first, second):
        t, f = (a[:, None] - b for a, b in zip(first, second, strict=True))
        if link.channel.specular is None:
            return link.channel.time_correlation(t) * link.channel.frequency_correlation(f)
        power, turn = link.channel.specular
        scattered = link.channel.scattered
        return power * np.exp(1j * turn * t) + scattered.power * scattered.time(t) * scattered.frequency(f)

    targets, at_pilots = points(grid.data_symbols, np.arange(16)), y_pilot * transmission.sounding.pilots.numpy().conj()
    for antenna in range(num_tx_ant):
        mine = pilot_antenna(num_tx_ant, 16)[points(grid.pilot_symbols, np.arange(16))[1]] == antenna
        pilots = [part[mine] for part in points(grid.pilot_symbols, np.arange(16))]
        for example in range(3):
            noise = no[example] * np.eye(mine.sum())
            weights = assumed(targets, pilots) @ np.linalg.inv(assumed(pilots, pilots) + noise)
            weights = weights[: grid.num_res]
            expected = weights @ at_pilots[0, example, mine]
            np.testing.assert_allclose(h_hat[0, antenna, example], expected, atol=5e-5)
            cross = (weights * true(targets, pilots)[: grid.num_res].conj()).sum(1)
            power = ((weights @ (true(pilots, pilots) + noise)) * weights.conj()).sum(1)
            np.testing.assert_allclose(err_var[antenna, example], 1 - 2 * cross.real + power.real, atol=5e-5)


@pytest.mark.parametrize("channel", ["rayleigh", "tdl-a", "tdl-e", "cdl-b", "cdl-d", "umi"])
def test_the_joint_correlation_is_that_of_time_and_that_of_frequency_at_no_lag_of_the_other(channel):
    link, lags, tones = make_bare_link(channel=channel, speed=30.0), np.arange(-5, 6), np.arange(-20, 21)
    joint = link.channel.correlation(lags, tones)
    np.testing.assert_allclose(joint[:, 20], link.channel.time_correlation(lags), atol=1e-9)
    np.testing.assert_allclose(joint[5], link.channel.frequency_correlation(tones), atol=1e-9)
    if channel.startswith("tdl"):
        scattered, specular = link.channel.scattered, link.channel.specular
        expected = scattered.power * np.outer(scattered.time(lags), scattered.frequency(tones))
        if specular is not None:
            expected = expected + specular.power * np.exp(1j * specular.turn * lags)[:, None]
        np.testing.assert_allclose(joint, expected, atol=1e-9)


def test_the_joint_correlation_is_measured_on_fades():
    """cdl-a: every path has a Doppler spectrum of its own, so that it is no product."""
    link = make_bare_link(channel="cdl-a", speed=40.0, num_tx_ant=1, num_rx_ant=1, seed=3)
    grid = link.transmission(num_tokens=1, width=768).grid.resources
    h = np.concatenate([np.asarray(link.channel.fades(64 * k + np.arange(64), grid).h[0, 0]) for k in range(64)])
    h = h.reshape(len(h), len(grid.data_symbols), -1)
    last = grid.data_symbols[-1] - grid.data_symbols[0]
    for tone in (0, 20, 40):
        measured = np.mean(h[:, -1, tone:] * h[:, 0, : 64 - tone].conj())
        expected = link.channel.correlation(np.array([last]), np.array([tone]))[0, 0]
        assert abs(measured - expected) < 4 / np.sqrt(len(h))  # 4 096 fades; neighbouring tones hardly help


def test_perfect_estimator_has_no_error():
    h, h_hat, err_var = estimate(make_bare_link(estimator="perfect"))
    np.testing.assert_array_equal(h_hat, h)
    assert not err_var.any()


@pytest.mark.parametrize("num_guard_carriers", [(0, 0), (4, 4)])
def test_linear_estimate_is_sionnas_for_the_same_pilots(num_guard_carriers):
    link = make_bare_link(num_guard_carriers=num_guard_carriers)
    width = 2 * link.config.num_subcarriers * 12 // 5 * 2  # fills the slot
    transmission = link.transmission(num_tokens=5, width=width)
    grid, fades = transmission.grid.resources, fades_of(link, np.arange(3), width=width)
    no = tf.fill([3, 1], 0.1)
    y_pilot = link.channel.sound(transmission.sounding.pilots, fades, no).numpy().reshape(8, 3, 2, -1)
    h_hat = antennas_first(transmission.estimate(fades, no)[0])

    num_subcarriers = link.config.num_subcarriers
    mask = np.zeros((1, 4, 14, num_subcarriers), bool)
    mask[:, :, grid.pilot_symbols] = True
    pilots = np.zeros((1, 4, 2, num_subcarriers), np.complex64)
    antenna = pilot_antenna(4, num_subcarriers)
    pilots[0, antenna, :, np.arange(num_subcarriers)] = transmission.sounding.pilots.numpy().reshape(2, -1).T
    pattern = PilotPattern(tf.constant(mask), tf.constant(pilots.reshape(1, 4, -1)))
    resource_grid = ResourceGrid(
        14, 64, 30e3, num_tx=1, num_streams_per_tx=4, num_guard_carriers=num_guard_carriers, pilot_pattern=pattern
    )
    y = np.zeros((3, 1, 8, 14, 64), np.complex64)
    first = num_guard_carriers[0]
    y[:, 0, :, grid.pilot_symbols, first : first + num_subcarriers] = y_pilot.transpose(2, 1, 0, 3)
    reference, _ = LSChannelEstimator(resource_grid, interpolation_type="lin")(tf.constant(y), tf.constant(0.1))
    reference = reference.numpy()[:, 0, :, 0][:, :, :, grid.data_symbols].reshape(3, 8, 4, -1)[..., : grid.num_res]
    reference = reference.transpose(1, 2, 0, 3)
    assert np.abs(h_hat - reference).max() < 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize("estimator", ["ls-nearest", "ls-linear", "lmmse"])
def test_sparse_boosted_pilots_around_empty_subcarriers_err_as_they_say(estimator):
    link = make_bare_link(
        channel="tdl-a",
        estimator=estimator,
        num_tx_ant=2,
        num_rx_ant=4,
        pilot_spacing=3,
        pilot_boost_db=3.0,
        dc_null=True,
        num_guard_carriers=(4, 3),
    )
    h, h_hat, err_var = estimate(link, batch=1024, snr_db=10.0, width=150)
    error = (np.abs(h_hat - h) ** 2).mean((0, 1, 3))
    assert abs(error.mean() - err_var.mean()) < 5 * error.std() / np.sqrt(1024) + 0.02 * err_var.mean()


def test_pilots_have_the_comb_and_the_energy_that_are_asked_for():
    link = make_bare_link(num_tx_ant=2, fft_size=16, pilot_spacing=3, pilot_boost_db=6.0, dc_null=True)
    transmission = link.transmission(num_tokens=1, width=8)
    pilots = transmission.sounding.pilots.numpy().reshape(2, 15)
    sent = np.abs(pilots) ** 2
    np.testing.assert_allclose(sent[:, ::3], 10**0.6, rtol=1e-5)
    assert np.count_nonzero(sent) == 10
    assert [list(comb) for comb in pilot_combs(link.config)] == [[0, 6, 12], [3, 9]]
    ledger = link.ledger(num_tokens=1, width=8)
    assert ledger.pilot_res == 30  # the silent ones between are charged too
    assert ledger.energy == pytest.approx(sent.sum() + 4)  # eight numbers on two antennas fill four elements
    assert ledger.guard_res == 14


def test_boost_lowers_the_error_at_a_pilot():
    facts = {"channel": "rayleigh", "num_tx_ant": 1, "num_rx_ant": 8, "estimator": "ls-nearest"}
    h, h_hat, err_var = estimate(make_bare_link(**facts, pilot_boost_db=3.0))
    error = np.abs(h_hat - h)[..., :64] ** 2
    low, high = chi2.interval(1 - 1e-6, df=2 * error.size)
    assert low < 2 * error.sum() / (0.1 / 10**0.3) < high
    np.testing.assert_allclose(err_var, 0.1 / 10**0.3, rtol=1e-5)
