"""The estimate that knows how antennas are correlated, against fades, against its formula, and in what it promises."""

import numpy as np
import pytest
import tensorflow as tf

from phy.pilots import pilot_antenna
from tests.phy.links import DEFAULT, antennas_first, fades_of, make_codes, make_link

SETS = [
    ("cdl-a", 4, 6, {}),
    ("cdl-d", 6, 8, {}),
    ("cdl-e", 3, 5, {"direction": "downlink"}),
    ("cdl-c", 1, 2, {"speed": 20.0}),
]


def spatial_link(channel, num_tx_ant, num_rx_ant, **facts):
    facts = {"estimator": "lmmse-spatial", "phase_mask": False, **facts}
    return make_link(channel=channel, num_tx_ant=num_tx_ant, num_rx_ant=num_rx_ant, **facts)


@pytest.mark.parametrize(("channel", "num_tx_ant", "num_rx_ant", "facts"), SETS)
def test_antennas_are_correlated_as_the_channel_says(channel, num_tx_ant, num_rx_ant, facts):
    link = spatial_link(channel, num_tx_ant, num_rx_ant, **facts)
    beams, delays, covariances = link.channel.spatial
    np.testing.assert_allclose(beams.conj().T @ beams, np.eye(num_rx_ant), atol=1e-12)
    assert np.einsum("bpaa->", covariances) == pytest.approx(num_rx_ant * num_tx_ant)
    h = fades_of(link, np.arange(4096), num_tokens=1, width=2 * num_tx_ant).h  # subcarriers 0 and 1
    h = np.tensordot(beams.conj().T, h, 1)
    for other in (0, 1):
        measured = np.einsum("bitf,bjtf->bij", h[..., :1], h[..., other : other + 1].conj()) / h.shape[2]
        expected = np.einsum("bpij,p->bij", covariances, np.exp(2j * np.pi * delays * other))
        np.testing.assert_allclose(measured, expected, atol=0.06 * np.abs(expected).max())
    between = np.einsum("iat,jat->ij", h[..., 0], h[..., 0].conj()) / (h.shape[1] * h.shape[2])
    assert np.abs(between - np.diag(np.diag(between))).max() < 0.05 * np.abs(between).max()


@pytest.mark.parametrize(("channel", "num_tx_ant", "num_rx_ant", "facts"), SETS)
def test_estimate_is_its_textbook_formula(channel, num_tx_ant, num_rx_ant, facts):
    link = spatial_link(channel, num_tx_ant, num_rx_ant, fft_size=12, precision="double", **facts)
    transmission = link.transmission(num_tokens=5, width=16)
    grid, sounding = transmission.grid.resources, transmission.sounding
    fades = link.channel.fades(np.arange(3), grid).cast(tf.complex128)
    no = np.array([[0.01], [0.1], [1.0]])
    y_pilot = sounding.combine(link.channel.sound(sounding.pilots, fades, no)).numpy() * sounding.pilots.numpy().conj()
    h_hat, err_var = transmission.estimate(fades, tf.constant(no))
    h_hat, err_var = antennas_first(h_hat), err_var.numpy()
    times, tones = (part.ravel() for part in np.meshgrid(grid.pilot_symbols, np.arange(12), indexing="ij"))
    to_times, to_tones = (
        part.ravel()[: grid.num_res] for part in np.meshgrid(grid.data_symbols, np.arange(12), indexing="ij")
    )
    sounds = pilot_antenna(num_tx_ant, 12)[tones]

    def correlate(beam, first, second):
        (t1, f1, a1), (t2, f2, a2) = first, second
        turns = np.exp(-2j * np.pi * (f1[:, None] - f2)[..., None] * link.channel.spatial.delays)
        covariance = np.moveaxis(link.channel.spatial.covariances[beam], 0, -1)[a1[:, None], a2]
        return link.channel.time_correlation(t1[:, None] - t2) * (turns * covariance).sum(-1)

    for beam, antenna in ((0, 0), (num_rx_ant - 1, num_tx_ant - 1)):
        pilots = times, tones, sounds
        targets = to_times, to_tones, np.full(grid.num_res, antenna)
        among, cross = correlate(beam, pilots, pilots), correlate(beam, targets, pilots)
        for example in range(3):
            weights = cross @ np.linalg.inv(among + no[example] * np.eye(len(among)))
            np.testing.assert_allclose(h_hat[beam, antenna, example], weights @ y_pilot[beam, example], atol=1e-5)
            power = np.einsum("pii->i", link.channel.spatial.covariances[beam]).real[antenna]
            explained = power - np.real((weights * cross.conj()).sum(1))
            np.testing.assert_allclose(err_var[example, beam, antenna], explained, atol=1e-5)


@pytest.mark.parametrize(("channel", "num_tx_ant", "num_rx_ant", "facts"), SETS)
@pytest.mark.parametrize("snr_db", [-10.0, 20.0])
def test_error_is_as_declared_and_below_the_one_without_space(channel, num_tx_ant, num_rx_ant, facts, snr_db):
    errors = {}
    for estimator in ("lmmse", "lmmse-spatial"):
        link = spatial_link(channel, num_tx_ant, num_rx_ant, **{**facts, "estimator": estimator})
        transmission = link.transmission(num_tokens=5, width=64)
        fades = link.channel.fades(np.arange(512), transmission.grid.resources)
        h_hat, err_var = transmission.estimate(fades, tf.fill([512, 1], np.float32(10 ** (-snr_db / 10))))
        errors[estimator] = np.mean(np.abs(antennas_first(h_hat) - transmission.sounding.combine(fades.h)) ** 2)
        assert np.mean(err_var) == pytest.approx(errors[estimator], rel=0.06)
    assert errors["lmmse-spatial"] < errors["lmmse"]


@pytest.mark.parametrize("channel", ["rayleigh", "tdl-d", "umi"])
def test_without_statistics_in_space_it_is_the_other_estimate(channel):
    outputs = [
        make_link(channel=channel, num_tx_ant=2, num_rx_ant=4, **{**DEFAULT, "estimator": estimator})(
            make_codes(4), 5.0, np.arange(4)
        )
        for estimator in ("lmmse", "lmmse-spatial")
    ]
    for first, second in zip(*outputs, strict=True):
        np.testing.assert_array_equal(first, second)


ANTENNAS = [("cdl-a", 4, 6), ("cdl-d", 6, 8), ("cdl-c", 3, 4)]
KNOWN = [("lmmse-spatial", recovery) for recovery in ("ls", "lmmse", "lmmse-unbiased")]


@pytest.mark.parametrize(("channel", "num_tx_ant", "num_rx_ant"), ANTENNAS)
@pytest.mark.parametrize(
    ("estimator", "recovery"), [*KNOWN, ("ls-linear", "lmmse"), ("ls-linear", "lmmse-unbiased"), ("lmmse", "lmmse")]
)
def test_codes_err_as_declared_on_correlated_antennas(channel, num_tx_ant, num_rx_ant, estimator, recovery):
    link = spatial_link(channel, num_tx_ant, num_rx_ant, phase_mask=True, estimator=estimator, recovery=recovery)
    for snr_db in (-10.0, 10.0, 30.0):
        codes = make_codes(384, width=48)
        out = link(codes, snr_db, np.arange(384))
        error = np.mean((out.codes_hat - codes) ** 2)
        assert np.mean(out.error_var) == pytest.approx(error, rel=0.05)
