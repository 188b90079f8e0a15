"""The analog link against Sionna's own chain: time of every stage, and whether both compute the same.

Sionna's chain is OFDMChannel, LSChannelEstimator with linear interpolation and LMMSEEqualizer on complex symbols; ours
sends as many real codes as the same 12 data symbols of a slot hold, and recovers them by the same estimate and widely
linear least squares. Sionna's symbols have unit power per antenna where ours share it: its noise variance is
`num_tx_ant` times ours. Mapping and reading codes count on our side only.

The default receiver stands beside Sionna's LMMSEInterpolator, which knows the same correlations along one axis after
the other, and LMMSEEqualizer. A few examples of Sionna's are timed, since the interpolator takes seconds for them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from rich.table import Table
from sionna.phy.channel import ApplyOFDMChannel, OFDMChannel, cir_to_ofdm_channel, subcarrier_frequencies
from sionna.phy.channel.tr38901 import CDL
from sionna.phy.mimo import StreamManagement
from sionna.phy.ofdm import (
    LMMSEEqualizer,
    LMMSEInterpolator,
    LSChannelEstimator,
    PilotPattern,
    ResourceGrid,
    ZFEqualizer,
)

from phy import AnalogLink, LinkConfig
from phy.antennas import panel
from phy.channel import Fades
from phy.config import SYMBOLS_PER_SLOT
from phy.fading import BLOCK, sum_paths
from phy.pilots import pilot_antenna
from studies.benchmarks.clock import take_turns

CASES = ((4, 8, 256), (8, 16, 64), (4, 8, 64))  # transmit antennas, receive antennas, subcarriers
SNR_DB = 10.0
GOALS = {
    "fresh realisations": dict(zip(CASES, (10, 8, 5), strict=True)),
    "CIR to H": dict.fromkeys(CASES, 15),
    "H given": dict.fromkeys(CASES, 20),
    "H given, default receiver": dict.fromkeys(CASES, 20),
    "fresh, default receiver": dict(zip(CASES, (10, 8, 5), strict=True)),
}
FEW = 2  # examples of Sionna's LMMSE interpolation
MAX_ERRORS = {"H": 1e-5, "codes, LMMSE, known channel": 1e-4, "codes, LS, estimated channel": 1e-4}


class Inputs:
    """One block of realisations and codes, in the form of either side.

    Parameters
    ----------
    link : AnalogLink
        Of a cdl channel, without guard carriers.
    """

    def __init__(self, link: AnalogLink):
        config, rng = link.config, np.random.default_rng(0)
        self.num_reals = (SYMBOLS_PER_SLOT - 2) * config.fft_size * config.reals_per_re
        self.transmission = transmission = link.transmission(num_tokens=1, width=self.num_reals)
        grid, pilots = transmission.grid.resources, transmission.sounding.pilots.numpy()
        self.codes = tf.constant(rng.standard_normal((BLOCK, 1, self.num_reals)), tf.float32)
        shape = (config.num_rx_ant, BLOCK, SYMBOLS_PER_SLOT, config.fft_size)
        h = link.channel.fading(np.arange(SYMBOLS_PER_SLOT), np.array([1, 2])).numpy()
        noise = (rng.standard_normal((2, *shape)) / 2**0.5).astype(np.float32)
        noise = noise[0] + 1j * noise[1]
        antenna, tones = pilot_antenna(config.num_tx_ant, config.fft_size), np.arange(config.fft_size)
        sounded = h[:, antenna, :, :, tones][..., grid.pilot_symbols].transpose(1, 2, 3, 0)  # one antenna per tone
        self.fades = Fades(
            tf.constant(h[:, :, :, grid.data_symbols].reshape(*h.shape[:3], -1)),
            tf.constant(noise[:, :, grid.data_symbols].reshape(*shape[:2], -1)),
            tf.constant(sounded.reshape(*shape[:2], -1)),
            tf.constant(noise[:, :, grid.pilot_symbols].reshape(*shape[:2], -1)),
        )
        self.no = tf.fill([BLOCK], tf.constant(10 ** (-SNR_DB / 10), tf.float32))

        data = transmission.map_tokens(self.codes).numpy().reshape(config.num_tx_ant, BLOCK, -1, config.fft_size)
        x = np.zeros((BLOCK, 1, config.num_tx_ant, *shape[2:]), np.complex64)
        x[:, 0, :, grid.data_symbols] = data.transpose(2, 1, 0, 3)
        x[:, 0, antenna, grid.pilot_symbols[:, None], tones] = pilots.reshape(len(grid.pilot_symbols), -1)
        self.sionna_x = tf.constant(x * config.num_tx_ant**0.5)
        self.sionna_h = tf.constant(h.transpose(2, 0, 1, 3, 4)[:, None, :, None])
        self.sionna_noise = tf.constant(noise.transpose(1, 0, 2, 3)[:, None])
        self.sionna_no = tf.constant(config.num_tx_ant * 10 ** (-SNR_DB / 10), tf.float32)


class SionnaChain:
    """Sionna's blocks on the channel, grid and pilots of `Inputs`.

    Parameters
    ----------
    config : LinkConfig
    inputs : Inputs
    equalizer : class
        LMMSEEqualizer or ZFEqualizer.
    covariances : tuple of np.ndarray, optional
        Of the channel in time, in frequency and between receive antennas, for LMMSEInterpolator; by default pilots are
        interpolated by straight lines.
    """

    def __init__(self, config: LinkConfig, inputs: Inputs, equalizer: type, covariances: tuple | None = None):
        options = {
            "model": config.channel[-1].upper(),
            "delay_spread": config.delay_spread,
            "carrier_frequency": config.carrier_frequency,
            "ut_array": panel(config.num_tx_ant, config.carrier_frequency, "omni"),
            "bs_array": panel(config.num_rx_ant, config.carrier_frequency, "38.901"),
            "direction": config.direction,
            "min_speed": config.speed,
        }
        self._grid = ResourceGrid(
            SYMBOLS_PER_SLOT,
            config.fft_size,
            config.subcarrier_spacing,
            num_streams_per_tx=config.num_tx_ant,
            cyclic_prefix_length=round(config.cyclic_prefix_duration * config.fft_size * config.subcarrier_spacing),
            pilot_pattern=(pattern := _pilot_pattern(config, inputs)),
        )
        self._model = CDL(**options)
        self._tones = subcarrier_frequencies(config.fft_size, config.subcarrier_spacing)
        self._channel, self._apply = OFDMChannel(self._model, self._grid), ApplyOFDMChannel()
        how: dict[str, Any] = {"interpolation_type": "lin"}
        if covariances is not None:
            matrices = (tf.constant(part, tf.complex64) for part in covariances)
            how = {"interpolator": LMMSEInterpolator(pattern, *matrices, order="f-t-s")}
        self._estimate = LSChannelEstimator(self._grid, **how)
        self._equalize = equalizer(self._grid, StreamManagement(np.ones((1, 1), np.int32), config.num_tx_ant))

    def cir(self):
        """Path coefficients and delays of fresh realisations."""
        return self._model(BLOCK, SYMBOLS_PER_SLOT, 1 / self._grid.ofdm_symbol_duration)

    def response(self, a, tau):
        """Frequency response of paths."""
        return cir_to_ofdm_channel(self._tones, a, tau)

    def apply(self, x, h, noise, no):
        """Received symbols, for a given channel and noise of unit variance."""
        return self._apply(x, h) + tf.cast(tf.sqrt(no), noise.dtype) * noise

    def estimate(self, y, no):
        """Channel estimate and its error variance."""
        return self._estimate(y, no)

    def equalize(self, y, h_hat, err_var, no):
        """Symbols and the variance of their error."""
        return self._equalize(y, h_hat, err_var, no)

    def given(self, x, h, noise, no):
        """Run the chain over a given channel and noise."""
        return self._receive(self.apply(x, h, noise, no), no)

    def fresh(self, x, no):
        """Run the chain over fresh realisations."""
        return self._receive(self._channel(x, no), no)

    def _receive(self, y, no):
        h_hat, err_var = self.estimate(y, no)
        return self.equalize(y, h_hat, err_var, no)


def _pilot_pattern(config, inputs):
    """Our pilots, with the power of all antennas on the one that sends."""
    symbols = inputs.transmission.grid.resources.pilot_symbols
    mask = np.zeros((1, config.num_tx_ant, SYMBOLS_PER_SLOT, config.fft_size), bool)
    mask[:, :, symbols] = True
    pilots = np.zeros((1, config.num_tx_ant, len(symbols), config.fft_size), np.complex64)
    antenna = pilot_antenna(config.num_tx_ant, config.fft_size)
    sequence = inputs.transmission.sounding.pilots.numpy().reshape(len(symbols), -1)
    pilots[0, antenna, :, np.arange(config.fft_size)] = config.num_tx_ant**0.5 * sequence.T
    return PilotPattern(mask, tf.constant(pilots.reshape(1, config.num_tx_ant, -1)))


def measure(*, rounds: int = 5, on_case: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Run every case.

    Parameters
    ----------
    rounds : int
        Of which the medians are taken.
    on_case : callable
        Told the name of each case before it runs.

    Returns
    -------
    dict
        By case, ready for JSON. `stages`: seconds of both sides, Sionna's with and without XLA (LMMSEInterpolator does
        not compile by XLA). `ratios`: how many
        times faster the link is than Sionna's chain under tf.function; `goals` for them. `products_s`: what the link's
        bare matrix products take. `errors`: largest differences between the two sides over the largest value.
    """
    report = {}
    for case in CASES:
        name = f"{case[0]}x{case[1]}, {case[2]} subcarriers"
        on_case(name)
        report[name] = _measure_case(case, rounds)
    return report


def _measure_case(case, rounds):
    num_tx_ant, num_rx_ant, fft_size = case
    config = LinkConfig(
        channel="cdl-c",
        num_tx_ant=num_tx_ant,
        num_rx_ant=num_rx_ant,
        fft_size=fft_size,
        estimator="ls-linear",
        recovery="ls",
    )
    link = AnalogLink(config, cache_bytes=0)
    inputs = Inputs(link)
    sionna = SionnaChain(config, inputs, LMMSEEqualizer)
    sent = inputs.sionna_x, inputs.sionna_h, inputs.sionna_noise, inputs.sionna_no
    a, tau = sionna.cir()
    y = sionna.apply(*sent)
    theirs = {
        "CIR": (sionna.cir,),
        "CIR to H": (sionna.response, a, tau),
        "channel": (sionna.apply, *sent),
        "estimation": (sionna.estimate, y, inputs.sionna_no),
        "recovery": (sionna.equalize, y, *sionna.estimate(y, inputs.sionna_no), inputs.sionna_no),
        "H given": (sionna.given, *sent),
        "fresh realisations": (sionna.fresh, inputs.sionna_x, inputs.sionna_no),
    }
    ours = _our_stages(link, inputs, a, tau)
    stages = {}
    for stage, (function, *arguments) in theirs.items():
        rivals = {"sionna": _call(function, arguments), "sionna_xla": _call(function, arguments, xla=True)}
        stages[stage] = take_turns({"tokenlink": ours[stage]} | rivals, rounds=rounds)
    stages |= _default_receiver(config, rounds)
    return {
        "stages": stages,
        "ratios": {stage: stages[stage]["sionna"] / stages[stage]["tokenlink"] for stage in GOALS},
        "goals": {stage: goals[case] for stage, goals in GOALS.items()},
        "products_s": take_turns({"products": _products(config, inputs)}, rounds=rounds)["products"],
        "errors": {"H": _response_error(link, a, tau)} | _code_errors(config),
    }


def _default_receiver(config, rounds):
    """Time of the link with its default receiver, and of Sionna's chain with LMMSEInterpolator, scaled to the batch."""
    link = AnalogLink(
        LinkConfig(num_tx_ant=config.num_tx_ant, num_rx_ant=config.num_rx_ant, fft_size=config.fft_size), cache_bytes=0
    )
    inputs, channel = Inputs(link), link.channel
    symbols, tones = np.arange(SYMBOLS_PER_SLOT), np.arange(config.fft_size)
    assert channel.spatial is not None  # a cdl channel
    beams, _, covariances = channel.spatial
    in_space = (beams * np.einsum("bpaa->b", covariances) / config.num_tx_ant) @ beams.conj().T
    in_time, in_frequency = (
        correlation(lags[:, None] - lags)
        for correlation, lags in ((channel.time_correlation, symbols), (channel.frequency_correlation, tones))
    )
    sionna = SionnaChain(config, inputs, LMMSEEqualizer, (in_time, in_frequency, in_space))
    sent = [part[:FEW] for part in (inputs.sionna_x, inputs.sionna_h, inputs.sionna_noise)]
    numbers = iter(range(10**9))
    stages = {}
    for stage, ours, theirs in (
        (
            "H given, default receiver",
            lambda: inputs.transmission(inputs.codes, inputs.no, inputs.fades),
            _call(sionna.given, (*sent, inputs.sionna_no)),
        ),
        (
            "fresh, default receiver",
            lambda: link(inputs.codes, SNR_DB, BLOCK * next(numbers) + np.arange(BLOCK)),
            _call(sionna.fresh, (sent[0], inputs.sionna_no)),
        ),
    ):
        taken = take_turns({"tokenlink": ours, "sionna": theirs}, rounds=rounds)
        stages[stage] = taken | {"sionna": taken["sionna"] * BLOCK / FEW}
    return stages


def _call(function, arguments, xla=None):
    compiled = tf.function(function, jit_compile=xla, autograph=False)
    return lambda: compiled(*arguments)


def _our_stages(link, inputs, a, tau):
    transmission, fading, no = inputs.transmission, link.channel.fading, inputs.no[:, None]
    x, numbers = transmission.map_tokens(inputs.codes), iter(range(10**9))
    received = transmission.send(x, inputs.fades, no), *transmission.estimate(inputs.fades, no)
    symbols = np.arange(SYMBOLS_PER_SLOT)

    def fresh():
        return link(inputs.codes, SNR_DB, BLOCK * next(numbers) + np.arange(BLOCK))

    return {
        "CIR": lambda: fading.paths(symbols, np.array([next(numbers), 0])),
        "CIR to H": _call(lambda a, tau: _response(link, a, tau), (a, tau)),
        "channel": _call(transmission.send, (x, inputs.fades, no), xla=True),
        "estimation": _call(transmission.estimate, (inputs.fades, no), xla=True),
        "recovery": _call(transmission.recover, (*received, no), xla=True),
        "H given": lambda: transmission(inputs.codes, inputs.no, inputs.fades),
        "fresh realisations": fresh,
    }


def _response(link, a, tau):
    """Our sum over the paths that Sionna drew, from its order of axes to ours."""
    tones = link.config.subcarrier_spacing * (np.arange(link.config.fft_size) - link.config.fft_size // 2)
    return sum_paths(tf.transpose(a[:, 0, :, 0], [1, 2, 0, 4, 3]), tau[:1, 0, 0], tones)


def _products(config, inputs):
    """H x, interpolation over both axes, and the normal equations at each resource element; nothing else.

    In the order of axes and the precision of the link, but without what turns, weighs, factors, solves or reorders.
    """
    resources, fades, unknowns = inputs.transmission.grid.resources, inputs.fades, range(config.num_tx_ant)
    rng, length = np.random.default_rng(0), config.fft_size // config.num_tx_ant
    in_frequency = tf.constant(rng.standard_normal((len(unknowns), length, config.fft_size)), tf.float32)
    in_time = tf.constant(rng.standard_normal((2, len(resources.data_symbols), 1)), tf.float32)
    at_pilots = tf.constant(rng.standard_normal((2, len(unknowns), BLOCK, config.num_rx_ant, 2, length)), tf.float32)
    h = tf.transpose(fades.h, [2, 0, 1, 3])

    def multiply(x, h, at_pilots):
        y = tf.reduce_sum(h * x, 2)
        rows = tf.unstack(at_pilots @ in_frequency[:, None, None])
        rows = tf.complex(*(tf.transpose(part, [1, 2, 0, 3, 4]) for part in rows))[..., None, :]
        h_hat = sum(tf.cast(in_time[i], rows.dtype) * rows[:, :, :, i] for i in range(2))
        a, y = tf.cast(h, tf.complex128), tf.cast(y, tf.complex128)
        columns = [tf.math.conj(a[:, :, i, None]) for i in unknowns]
        gram = [tf.reduce_sum(tf.math.real(columns[i] * a[:, :, : i + 1]), 1) for i in unknowns]
        return h_hat, gram, [tf.reduce_sum(tf.math.real(column * y[:, :, None]), 1) for column in columns]

    x = tf.transpose(inputs.transmission.map_tokens(inputs.codes), [1, 0, 2])[:, None]
    return _call(multiply, (x, h, at_pilots), xla=True)


def _response_error(link, a, tau):
    tones = subcarrier_frequencies(link.config.fft_size, link.config.subcarrier_spacing)
    reference = tf.transpose(cir_to_ofdm_channel(tones, a, tau)[:, 0, :, 0], [1, 2, 0, 3, 4]).numpy()
    return float(np.abs(_response(link, a, tau) - reference).max() / np.abs(reference).max())


def _code_errors(config):
    """Recovered codes where the two sides run one algorithm: complex symbols, equal estimates and equalisers."""
    errors = {}
    for name, estimator, recovery, equalizer in (
        ("codes, LMMSE, known channel", "perfect", "lmmse-unbiased", LMMSEEqualizer),
        ("codes, LS, estimated channel", "ls-linear", "ls", ZFEqualizer),
    ):
        changes = {"modulation": "iq", "phase_mask": False, "estimator": estimator, "recovery": recovery}
        inputs = Inputs(AnalogLink(dataclasses.replace(config, **changes)))
        sionna, no = SionnaChain(config, inputs, equalizer), inputs.sionna_no
        y = sionna.apply(inputs.sionna_x, inputs.sionna_h, inputs.sionna_noise, no)
        h_hat, err_var = inputs.sionna_h, tf.zeros([1] * 7)
        if estimator != "perfect":
            h_hat, err_var = sionna.estimate(y, no)
        symbols, _ = sionna.equalize(y, h_hat, err_var, no)
        symbols = tf.transpose(symbols[:, 0], [1, 0, 2]) / config.num_tx_ant**0.5
        reference = inputs.transmission.grid.read(tf.concat([tf.math.real(symbols), tf.math.imag(symbols)], 0))
        codes_hat, _ = inputs.transmission(inputs.codes, inputs.no, inputs.fades)
        errors[name] = float(tf.reduce_max(tf.abs(codes_hat - reference)) / tf.reduce_max(tf.abs(reference)))
    return errors


def tables(report: dict[str, Any]) -> list[Table]:
    """One table of times for each case, with the goals, and one of errors."""
    shown = []
    for name, case in report.items():
        table = Table(title=f"{name}, batch {BLOCK}: processor time in ms", title_justify="left", box=None)
        for column in ("", "TokenLink", "Sionna", "its best", "", "ratio", "goal"):
            table.add_column(column, justify="left" if not column else "right")
        for stage, taken in case["stages"].items():
            best, goal = min(taken.keys() - {"tokenlink"}, key=taken.__getitem__), case["goals"].get(stage)
            ratio = taken["sionna"] / taken["tokenlink"]
            verdict = "" if goal is None else f"[{'green' if ratio >= goal else 'red'}]{goal}[/]"
            times = [f"{1e3 * taken[side]:.1f}" for side in ("tokenlink", "sionna", best)]
            table.add_row(stage, *times, "XLA" if best == "sionna_xla" else "", f"{ratio:.1f}", verdict)
        table.add_row("bare matrix products", f"{1e3 * case['products_s']:.1f}")
        shown.append(table)
    table = Table(title="Largest difference over largest value", title_justify="left", box=None)
    for column in ("", *report, "at most"):
        table.add_column(column, justify="left" if not column else "right")
    for name, limit in MAX_ERRORS.items():
        table.add_row(name, *(f"{case['errors'][name]:.1e}" for case in report.values()), f"{limit:.0e}")
    return [*shown, table]


def shortfalls(report: dict[str, Any]) -> list[str]:
    """What misses its goal."""
    return [
        *(
            f"{name}: {stage} is {ratio:.1f} times as fast, not {case['goals'][stage]}"
            for name, case in report.items()
            for stage, ratio in case["ratios"].items()
            if ratio < case["goals"][stage]
        ),
        *(
            f"{name}: {quantity} differs by {error:.1e}"
            for name, case in report.items()
            for quantity, error in case["errors"].items()
            if not error <= MAX_ERRORS[quantity]
        ),
    ]
