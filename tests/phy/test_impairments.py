import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.special import erfc, j0
from scipy.stats import norm

from phy import AnalogLink, LinkConfig, ccdf, evm, papr_db
from phy.channel import ABSENT
from phy.impairments import (
    Modulator,
    Receiver,
    Transmitter,
    clip,
    iq_imbalance,
    phase_noise_steps,
    quantize,
    quantizer_distortion,
    quantizer_loading,
    rapp,
    transmitter_leaks,
)
from tests.phy.links import antennas_first, complex_normal, fades_of, make_codes, make_link

OFF = {"channel": "rayleigh", "num_tx_ant": 2, "num_rx_ant": 2, "fft_size": 16}
WEAKEST = {
    "dac_bits": {"dac_bits": 16},
    "adc_bits": {"adc_bits": 16},
    "tx_iq_imbalance": {"tx_iq_imbalance": (1e-5, 1e-4)},
    "rx_iq_imbalance": {"rx_iq_imbalance": (1e-5, 1e-4)},
    "clipping_db": {"clipping_db": 60.0},
    "pa_backoff_db": {"pa_backoff_db": 60.0},
    "carrier_frequency_offset": {"carrier_frequency_offset": 1e-4},
    "phase_noise_linewidth": {"phase_noise_linewidth": 1e-6},
    "csi_delay": {"csi_delay": 1e-9, "channel": "tdl-a"},
    "noise_error_db": {"noise_error_db": 1e-6},
    "pilot_boost_db": {"pilot_boost_db": 1e-6},
}


def gaussian(*shape, power=1.0, seed=0):
    return tf.constant(np.sqrt(power) * complex_normal(np.random.default_rng(seed), *shape))


def bussgang(amplify):
    """Gain and distortion power of a memoryless amplifier for a complex Gaussian of unit power, by integration."""
    gain = quad(lambda r: amplify(r) * r * 2 * r * np.exp(-(r**2)), 0, 12)[0]
    power = quad(lambda r: amplify(r) ** 2 * 2 * r * np.exp(-(r**2)), 0, 12)[0]
    return gain, power - gain**2


@pytest.mark.parametrize("oversampling", [1, 4])
@pytest.mark.parametrize("facts", [{}, {"num_guard_carriers": (3, 2), "dc_null": True}, {"fft_size": 15}])
def test_modulator_is_the_sum_of_its_subcarriers(facts, oversampling):
    config = LinkConfig(**{**OFF, **facts})
    modulator = Modulator(config.subcarriers, config.fft_size, oversampling)
    tones = config.subcarriers - config.fft_size // 2
    x = gaussian(2, 3, len(tones))
    samples = np.arange(oversampling * config.fft_size) / (oversampling * config.fft_size)
    expected = x.numpy() @ np.exp(2j * np.pi * tones[:, None] * samples) / np.sqrt(config.fft_size)
    waveform = modulator(x)
    np.testing.assert_allclose(waveform, expected, atol=1e-12)
    np.testing.assert_allclose(modulator.demodulate(waveform), x, atol=1e-12)
    assert np.mean(np.abs(waveform) ** 2) == pytest.approx(np.sum(np.abs(x) ** 2) / 6 / config.fft_size)


@pytest.mark.parametrize("stage", WEAKEST)
def test_every_stage_tends_to_the_identity(stage):
    codes, numbers = make_codes(4), np.arange(4)
    facts = {**OFF, **WEAKEST[stage]}
    without = make_link(**{**OFF, "channel": facts["channel"]})(codes, 20.0, numbers)
    weak = make_link(**facts)(codes, 20.0, numbers)
    error = np.mean((weak.codes_hat - without.codes_hat) ** 2) / np.mean(without.codes_hat**2)
    assert error < 1e-6
    np.testing.assert_allclose(weak.error_var, without.error_var, rtol=1e-3)


def test_stages_that_are_off_leave_nothing_behind():
    link = make_link(**OFF)
    fades, transmission = fades_of(link, [0]), link.transmission(num_tokens=5, width=64)
    assert fades.h_told is fades.phase is ABSENT
    assert fades.h_pilot.ndim == 3
    assert not transmitter_leaks(link.config)
    graph = transmission._chain.get_concrete_function().graph
    assert not [op.type for op in graph.get_operations() if "FFT" in op.type]


def test_results_do_not_depend_on_the_batch_with_all_stages_on():
    strengths = {
        **{"dac_bits": 6, "adc_bits": 6, "tx_iq_imbalance": (0.5, 3.0), "rx_iq_imbalance": (0.5, 3.0)},
        **{"clipping_db": 5.0, "pa_backoff_db": 4.0, "carrier_frequency_offset": 50.0, "phase_noise_linewidth": 5.0},
        **{"csi_delay": 1e-4, "noise_error_db": 3.0, "pilot_boost_db": 3.0},
    }
    link, codes = make_link(**{**OFF, "channel": "tdl-a", **strengths}), make_codes(70)
    whole = link(codes, 10.0, np.arange(70))
    part = link(codes[[69, 3]], 10.0, np.array([69, 3]))
    np.testing.assert_allclose(part.codes_hat, whole.codes_hat.numpy()[[69, 3]], rtol=1e-5, atol=1e-5)
    longer = fades_of(link, [5], width=512)
    short = fades_of(link, [5])
    np.testing.assert_array_equal(longer.phase[: len(short.phase)], short.phase)


def test_rapp_follows_its_formula_between_line_and_saturation():
    r = np.array([1e-3, 0.5, 1.0, 2.0, 1e3])
    out = rapp(tf.constant(r * np.exp(1j)), 2.0, 3.0).numpy()
    np.testing.assert_allclose(np.abs(out), r / (1 + (r / 2) ** 6) ** (1 / 6), rtol=1e-12)
    np.testing.assert_allclose(np.angle(out), 1.0, rtol=1e-12)
    assert np.abs(out[-1]) == pytest.approx(2.0)
    hard = rapp(tf.constant(r + 0j), 2.0, 200.0)
    np.testing.assert_allclose(hard, clip(tf.constant(r + 0j), 2.0), rtol=5e-3)


@pytest.mark.parametrize(("backoff_db", "smoothness"), [(0.0, 1.0), (3.0, 2.0), (8.0, 3.0)])
def test_error_vector_magnitude_of_an_amplified_gaussian_is_bussgangs(backoff_db, smoothness):
    saturation, x = 10 ** (backoff_db / 20), gaussian(400_000)
    gain, distortion = bussgang(lambda r: r / (1 + (r / saturation) ** (2 * smoothness)) ** (0.5 / smoothness))
    assert float(evm(rapp(x, saturation, smoothness), x)) == pytest.approx(np.sqrt(distortion) / gain, rel=0.02)


@pytest.mark.parametrize("clipping_db", [0.0, 3.0, 6.0])
def test_clipped_gaussian_has_bussgangs_gain(clipping_db):
    """K = 1 − exp(−γ²) + √π/2 γ erfc(γ), and the power 1 − exp(−γ²) (Ochiai and Imai, 2002)."""
    ratio, x = 10 ** (clipping_db / 20), gaussian(400_000).numpy()
    out = clip(tf.constant(x), ratio).numpy()
    gain = np.vdot(x, out).real / np.vdot(x, x).real
    assert gain == pytest.approx(1 - np.exp(-(ratio**2)) + np.sqrt(np.pi) / 2 * ratio * erfc(ratio), abs=2e-3)
    assert np.mean(np.abs(out) ** 2) == pytest.approx(1 - np.exp(-(ratio**2)), abs=5e-3)


def test_clipping_acts_on_the_link_at_its_level():
    """On the air: levels are relative to an antenna's power, and an oversampled waveform is clipped."""
    config = LinkConfig(**{**OFF, "num_tx_ant": 4, "fft_size": 256, "clipping_db": 3.0})
    x = gaussian(4, 40, 1024, power=0.25)
    sent = Transmitter(config)(x).numpy()
    gain = np.vdot(x, sent).real / np.vdot(x, x).real
    ratio = 10 ** (3 / 20)
    assert gain == pytest.approx(1 - np.exp(-(ratio**2)) + np.sqrt(np.pi) / 2 * ratio * erfc(ratio), abs=5e-3)
    distortion = np.mean(np.abs(sent - gain * x) ** 2) / 0.25
    assert distortion < 1 - np.exp(-(ratio**2)) - gain**2  # the part beside the band is gone


@pytest.mark.parametrize(("gain_db", "phase_deg"), [(1.0, 0.0), (0.0, 5.0), (0.5, 3.0)])
def test_image_is_rejected_by_the_ratio_of_the_mixer(gain_db, phase_deg):
    g, phi = 10 ** (gain_db / 20), np.deg2rad(phase_deg)
    expected = (1 + 2 * g * np.cos(phi) + g**2) / (1 - 2 * g * np.cos(phi) + g**2)
    config = LinkConfig(**{**OFF, "tx_iq_imbalance": (gain_db, phase_deg)})
    x = np.zeros((2, 1, 16), complex)
    x[:, :, 8 + 3] = 1
    sent = Transmitter(config)(tf.constant(x)).numpy()
    rejection = np.abs(sent[:, :, 8 + 3] / sent[:, :, 8 - 3]) ** 2
    np.testing.assert_allclose(rejection, expected, rtol=1e-9)
    tone = np.exp(0.3j)
    np.testing.assert_allclose(
        iq_imbalance(tf.constant([tone]), gain_db, phase_deg)[0].numpy(),
        np.cos(0.3) + 1j * g * np.sin(0.3 - phi),  # the branches themselves: Schenk, eq. 5.2
        rtol=1e-9,
    )


@pytest.mark.parametrize("bits", [1, 4, 8, 12])
def test_each_bit_of_a_quantiser_gives_six_decibels(bits):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 200_000))
    x = x[0] + 1j * x[1]
    out = quantize(tf.constant(x), bits, 1.0).numpy()
    sqnr = 10 * np.log10(np.mean(np.abs(x) ** 2) / np.mean(np.abs(out - x) ** 2))
    assert sqnr == pytest.approx(20 * np.log10(2) * bits, abs=0.05)
    assert len(np.unique(np.round(out.real, 9))) <= 2**bits


@pytest.mark.parametrize("bits", [1, 3, 6, 10])
def test_quantised_gaussian_has_the_distortion_of_its_steps(bits):
    """By integration: rare overloads make up a good part of it at many bits."""
    full, x = quantizer_loading(bits), np.linspace(-9, 9, 2_000_001)
    error = quantize(tf.constant(x + 0j), bits, full).numpy().real - x
    measured = np.sum(error**2 * norm.pdf(x)) * (x[1] - x[0])
    assert measured == pytest.approx(quantizer_distortion(bits, full), rel=1e-3)
    assert quantizer_distortion(bits, full) <= min(quantizer_distortion(bits, full * s) for s in (0.9, 1.1))


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_frequency_offset_leaks_by_the_ratio_of_sines(share):
    """Coefficients sin(πu) / (N sin(πu/N)) exp(iπu(1 − 1/N)), u = ε + k − l (Moose, 1994); a turn for each symbol."""
    config = LinkConfig(**{**OFF, "carrier_frequency_offset": share * 30e3})
    symbols = np.array([0, 1, 5])
    receive = Receiver(config, symbols)
    sent, no = np.zeros((1, 1, 48), complex), tf.constant([[0.1]], tf.float64)
    sent[..., [4, 20, 36]] = 1
    received = receive(tf.constant(sent), ABSENT, no).numpy().reshape(3, 16)
    u = share + 4 - np.arange(16)
    expected = np.sin(np.pi * u) / (16 * np.sin(np.pi * u / 16)) * np.exp(1j * np.pi * u * (1 - 1 / 16))
    turn = np.exp(2j * np.pi * share * 30e3 * config.symbol_duration * symbols)
    np.testing.assert_allclose(received, turn[:, None] * expected, atol=1e-12)
    leaked = 1 - np.abs(expected[4]) ** 2
    assert leaked == pytest.approx((np.pi * share) ** 2 / 3, rel=0.1 if share < 0.1 else 0.3)


def test_phase_noise_turns_all_subcarriers_as_a_wiener_process_does():
    """E|mean of exp(iφ)|² over a symbol is the double sum of exp(−πβT|n − m|); steps between symbols add up."""
    beta = 300.0
    link = make_link(**{**OFF, "phase_noise_linewidth": beta})
    config, fades = link.config, fades_of(link, np.arange(2048))
    sample = 1 / (16 * 30e3)
    common = np.exp(1j * fades.phase.astype(np.float64)).mean(2)  # [num_symbols, batch]
    lag = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    expected = np.exp(-np.pi * beta * sample * lag).mean()
    power = np.abs(common) ** 2
    assert abs(power.mean() - expected) < 5 * power.mean(0).std() / np.sqrt(2048)
    step = fades.phase[1:, :, 0] - fades.phase[:-1, :, 0]
    assert np.var(step) == pytest.approx(2 * np.pi * beta * config.symbol_duration, rel=5 * np.sqrt(2 / step.size))
    assert np.sum(phase_noise_steps(config) ** 2) == pytest.approx(2 * np.pi * beta * config.symbol_duration)
    clean, no = np.ones((2, 3, 32), complex), tf.constant([[0.1]] * 3, tf.float64)
    turned = Receiver(config, np.array([0, 4]))(tf.constant(clean), fades.phase[:, :3], no).numpy()
    impulse = np.exp(1j * fades.phase[4, :3, 0].astype(np.float64))  # equal subcarriers are one sample
    np.testing.assert_allclose(turned[0, :, 16:], impulse[:, None] * np.ones(16), atol=1e-5)


@pytest.mark.parametrize("speed", [1.0, 30.0])
def test_stale_channel_errs_by_clarkes_law(speed):
    """E|h(t) − h(t − τ)|² = 2 (1 − J0(2π f_D τ)) for tdl-a, whose rays come from all sides."""
    delay = 1e-3
    facts = {"channel": "tdl-a", "phase_mask": False, "num_tx_ant": 2, "num_rx_ant": 4}
    link = make_link(estimator="perfect", speed=speed, csi_delay=delay, **facts)
    fades = fades_of(link, np.arange(512))
    error = (np.abs(fades.h - fades.h_told) ** 2).mean((0, 1, 3))
    expected = 2 * (1 - j0(2 * np.pi * speed * 3.5e9 / 299_792_458 * delay))
    assert abs(error.mean() - expected) < 5 * error.std() / np.sqrt(len(error)) + 1e-6
    h_hat, err_var = link.transmission(num_tokens=5, width=64).estimate(fades, tf.constant([[0.1]] * 512))
    np.testing.assert_array_equal(antennas_first(h_hat), fades.h_told)
    np.testing.assert_allclose(err_var, expected, rtol=1e-3)


@pytest.mark.parametrize("estimator", ["ls-nearest", "ls-linear", "lmmse"])
def test_estimators_know_what_age_costs(estimator):
    facts = {"channel": "tdl-a", "speed": 20.0, "phase_mask": False, "num_tx_ant": 2, "num_rx_ant": 4}
    link = make_link(estimator=estimator, csi_delay=5e-4, **facts)
    fades = fades_of(link, np.arange(1024), width=150)
    h_hat, err_var = link.transmission(num_tokens=5, width=150).estimate(fades, tf.fill([1024, 1], 0.01))
    error = (np.abs(antennas_first(h_hat) - fades.h) ** 2).mean((0, 1, 3))
    assert abs(error.mean() - err_var.numpy().mean()) < 5 * error.std() / np.sqrt(1024) + 0.02 * error.mean()
    fresh = make_link(estimator=estimator, **facts)
    _, without = fresh.transmission(num_tokens=5, width=150).estimate(fades, tf.fill([1024, 1], 0.01))
    assert err_var.numpy().mean() > 2 * without.numpy().mean()


def test_wrong_noise_knowledge_is_believed():
    codes, numbers = make_codes(4), np.arange(4)
    facts = {**OFF, "estimator": "perfect"}
    right, wrong = (make_link(**facts, noise_error_db=e)(codes, 10.0, numbers) for e in (0.0, 3.0))
    np.testing.assert_array_equal(right.codes_hat, wrong.codes_hat)  # least squares asks for no noise variance
    np.testing.assert_allclose(wrong.error_var, 10**0.3 * right.error_var, rtol=1e-5)
    shrunk, more = (
        make_link(**facts, recovery="lmmse", noise_error_db=e)(codes, 10.0, numbers).codes_hat for e in (0.0, 6.0)
    )
    assert np.sum(more**2) < np.sum(shrunk**2)


@pytest.mark.parametrize("error_db", [-3.0, 3.0])
def test_wrong_noise_knowledge_costs_lmmse_a_little(error_db):
    codes, numbers = make_codes(256), np.arange(256)
    facts = {**OFF, "estimator": "perfect", "recovery": "lmmse"}
    right, wrong = (
        np.mean((make_link(**facts, noise_error_db=e)(codes, 3.0, numbers).codes_hat - codes) ** 2)
        for e in (0.0, error_db)
    )
    assert right < wrong < 1.1 * right


def test_peak_of_known_waveforms():
    config = LinkConfig(**{**OFF, "fft_size": 64})
    tone = np.zeros((1, 64), complex)
    tone[0, 5] = 1
    modulate = Modulator(config.subcarriers, config.fft_size)
    assert float(papr_db(modulate(tf.constant(tone)))[0]) == pytest.approx(0, abs=1e-9)
    assert float(papr_db(modulate(tf.ones([1, 64], tf.complex128)))[0]) == pytest.approx(10 * np.log10(64))


def test_waveform_of_codes_is_what_the_antennas_send():
    link, codes = make_link(**{**OFF, "fft_size": 64, "num_guard_carriers": (3, 4)}), make_codes(3, 2, 100)
    waveform = link.waveform(codes)
    assert waveform.shape == (2, 3, 2, 4 * 64)  # 100 resource elements, 57 on a symbol
    x = link.transmission(num_tokens=2, width=100).map_tokens(codes)
    power, expected = (np.sum(np.abs(part) ** 2, axis=-1) for part in (waveform, x))
    np.testing.assert_allclose(power.sum(-1) / 4, expected, rtol=1e-5)
    back = Modulator(link.config.subcarriers, 64).demodulate(waveform).numpy().reshape(2, 3, -1)
    np.testing.assert_allclose(back[..., :100], x, atol=1e-6)
    np.testing.assert_allclose(back[..., 100:], 0, atol=1e-6)
    with pytest.raises(ValueError, match="codes must have shape"):
        link.waveform(codes[0])


def test_ccdf_is_the_share_above():
    np.testing.assert_allclose(ccdf([[3.0, 1.0], [2.0, 2.0]], [0.0, 1.0, 2.0, 2.5, 3.0]), [1, 0.75, 0.25, 0.25, 0])


def test_peaks_of_gaussian_samples_follow_their_law():
    """Without oversampling the samples are independent: P(PAPR > γ) = 1 − (1 − exp(−γ))^N."""
    config, count = LinkConfig(**{**OFF, "fft_size": 256}), 4000
    papr = papr_db(Modulator(config.subcarriers, config.fft_size, 1)(gaussian(count, 256))).numpy()
    for threshold_db in (7.0, 9.0, 10.0):
        expected = 1 - (1 - np.exp(-(10 ** (threshold_db / 10)))) ** 256
        spread = np.sqrt(expected * (1 - expected) / count)
        assert abs(np.mean(papr > threshold_db) - expected) < 5 * spread + 0.02


def test_phase_mask_takes_the_peak_from_amplitudes_with_a_mean():
    """Medians at 256 subcarriers: 17 dB for real amplitudes of mean 0.5σ, 8 dB with the mask, and for QPSK."""
    rng, facts = np.random.default_rng(0), {"num_tx_ant": 1, "num_rx_ant": 1, "fft_size": 256}
    codes = (rng.standard_normal((20, 1, 2560)) + 0.5).astype(np.float32)
    median = {}
    for mask in (False, True):
        link = make_link(**facts, channel="awgn", phase_mask=mask)
        median[mask] = np.median(papr_db(link.waveform(codes)))
    qpsk = np.exp(0.5j * np.pi * rng.integers(4, size=(200, 256)))
    config = LinkConfig(**facts)
    quiet = np.median(papr_db(Modulator(config.subcarriers, config.fft_size)(tf.constant(qpsk))))
    assert median[False] == pytest.approx(17, abs=0.7)
    assert median[True] == pytest.approx(quiet, abs=0.5)
    assert quiet == pytest.approx(8, abs=0.7)


def test_error_vector_magnitude_is_error_over_signal():
    x, e = gaussian(200_000), gaussian(200_000, seed=1)
    assert float(evm(2j * x + 0.2 * e, x)) == pytest.approx(0.1, rel=0.01)
    assert float(evm(3 * x, x)) == pytest.approx(0, abs=1e-7)


def test_gradient_through_the_amplifier_is_finite_differences():
    x = gaussian(5)
    weights = gaussian(5, seed=2)

    def total(x):
        return tf.reduce_sum(tf.math.real(tf.math.conj(weights) * rapp(clip(x, 1.3), 1.0, 2.0)))

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = total(x)
    gradient = tape.gradient(value, x)
    step = 1e-6 * gaussian(5, seed=3)
    slope = (total(x + step) - total(x - step)) / 2
    assert float(slope) == pytest.approx(float(tf.reduce_sum(tf.math.real(tf.math.conj(gradient) * step))), rel=1e-5)


def test_lower_resolution_costs_what_its_distortion_says():
    """A link over awgn with one antenna each: noise no / 2 per real, and the ADC's distortion beside it."""
    codes = make_codes(64, 1, 1200)
    facts = {"channel": "awgn", "num_tx_ant": 1, "num_rx_ant": 1, "fft_size": 128, "estimator": "perfect"}
    out = make_link(**facts, adc_bits=3)(codes, 15.0, np.arange(64))
    distortion = quantizer_distortion(3, quantizer_loading(3)) * (1 + 10**-1.5)
    # the quantiser's gain is one minus its distortion (Bussgang), and a receiver with the perfect channel ignores it
    shrink = quantizer_distortion(3, quantizer_loading(3))
    expected = 10**-1.5 / 2 * (1 - shrink) ** 2 + distortion * (1 - shrink) / 2 + shrink**2
    assert np.mean((out.codes_hat - codes) ** 2) == pytest.approx(expected, rel=0.05)


def test_peak_power_is_over_the_ensembles_mean_and_grows_with_an_examples_power():
    link = AnalogLink(LinkConfig())
    codes = np.random.default_rng(0).standard_normal((50, 5, 64)).astype(np.float32)
    peaks = link.peak_power(codes)
    waveform = link.waveform(codes).numpy()  # [num_tx_ant, batch, num_symbols, samples]
    full = np.mean(np.abs(waveform[:, :, 0]) ** 2)  # the first symbol is full
    np.testing.assert_allclose(peaks, (np.abs(waveform) ** 2).max((0, 2, 3)) / full, rtol=0.05)
    np.testing.assert_allclose(link.peak_power(2 * codes), 4 * peaks, rtol=1e-4)
