"""Options of a link: one frozen, validated record."""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

REPEATED_FADES = 10_000_000  # first realisation of a second transmission, twice that of a third, and so on

CHANNELS = (
    *("awgn", "rayleigh"),
    *(f"{family}-{letter}" for family in ("tdl", "cdl") for letter in "abcde"),
    *("umi", "uma", "rma"),
)
SYMBOLS_PER_SLOT = 14
PILOT_SYMBOLS = (2, 11)  # within a slot
MAX_ANTENNAS = 256

# Largest normalised delay of each profile, 3GPP TR 38.901, tables 7.7.1-1 to 7.7.2-5. Times delay_spread: excess delay.
_EXCESS_DELAY = {
    **{"tdl-a": 9.6586, "tdl-b": 4.7834, "tdl-c": 8.6523, "tdl-d": 12.525, "tdl-e": 20.6519},
    **{"cdl-a": 9.6586, "cdl-b": 4.7834, "cdl-c": 8.6523, "cdl-d": 12.525, "cdl-e": 20.6419},
}
# [s]; 99 % of the ensemble's power arrives within it. The delays of single drops have no bound. Later power is treated
# as if the prefix covered it, as in every simulation subcarrier by subcarrier.
_SCENARIO_EXCESS_DELAY = {"umi": 1.8e-6, "uma": 2.2e-6, "rma": 0.42e-6}
_CHOICES = {
    "channel": CHANNELS,
    "modulation": ("amplitude", "iq"),
    "pilots": ("kronecker", "none"),
    "estimator": ("perfect", "ls-nearest", "ls-linear", "lmmse", "lmmse-spatial", "lmmse-robust"),
    "recovery": (  # the keys of phy.recovery.RECOVERIES, which loads TensorFlow; a test compares them
        *("ls", "complex-ls", "lmmse", "lmmse-unbiased", "complex-lmmse", "complex-lmmse-unbiased"),
        *("omp", "fista", "vamp"),
    ),
    "direction": ("uplink", "downlink"),
    "precision": ("single", "double"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkConfig:
    """Options of a link. Every field is checked; an impossible value raises `ValueError` naming it.

    Numbers of NumPy become numbers of Python.

    Attributes
    ----------
    channel : {"awgn", "rayleigh", "tdl-a" ... "tdl-e", "cdl-a" ... "cdl-e", "umi", "uma", "rma"}
        `awgn` is a fixed matrix of unit-modulus entries with orthogonal rows or columns. `rayleigh` is one i.i.d.
        matrix per realisation, flat in time and frequency. tdl and cdl are the profiles of 3GPP TR 38.901, section 7.7.
        umi, uma and rma drop the terminal anew into a sector of that scenario for every realisation (section 7.5),
        without path loss and shadowing. All have unit gain on average over realisations.
    num_tx_ant, num_rx_ant : int
        Numbers of antennas. For cdl, umi, uma and rma an even number is a row of cross-polarised pairs, half a
        wavelength apart; an odd number is a row of vertical elements.
    carrier_frequency : float, [Hz]
    delay_spread : float, [s]
        RMS delay spread of the tdl and cdl profiles; umi, uma and rma draw their own.
    speed : float, [m/s]
    fft_size : int
        Subcarriers of the grid, guards included.
    subcarrier_spacing : float, [Hz]
    num_guard_carriers : tuple of two ints
        Empty subcarriers below and above.
    dc_null : bool
        Leave the subcarrier at the carrier frequency, number fft_size // 2, empty.
    cyclic_prefix_length : int or None, [samples of 1 / (fft_size * subcarrier_spacing)]
        None is the normal prefix of 3GPP TS 38.211, 144/2048 of the useful symbol. At least the channel's excess delay.
    modulation : {"amplitude", "iq"}
        One real code element per antenna and resource element, or two.
    phase_mask : bool
        Whether every symbol is multiplied by a fixed unit-modulus phase that both ends know.
    pilots : {"kronecker", "none"}
    pilot_spacing : int
        Distance of pilots, in subcarriers in use; the antennas take turns. The other subcarriers of a pilot symbol stay
        silent, like the groups without data of the reference signals in 3GPP TS 38.214, section 5.1.6.2.
    pilot_boost_db : float, [dB]
        Energy of a pilot over that of a data resource element.
    estimator : {"perfect", "ls-nearest", "ls-linear", "lmmse", "lmmse-spatial", "lmmse-robust"}
        `lmmse` knows the channel's delay and Doppler profile, as a receiver does that has listened for long;
        `lmmse-spatial` also how the antennas of both ends are correlated (cdl; elsewhere it is `lmmse`).
        `lmmse-robust` knows bounds only: no path comes later than the cyclic prefix, and none turns faster than `speed`
        makes it. `ls-linear` and `ls-nearest` know nothing and interpolate.
    csi_delay : float, [s]
        Age of the channel estimate when it is used. The received pilots, or the channel that the perfect estimator is
        told, are that much older than the data. The receiver knows how this raises the variance of its error.
    noise_error_db : float, [dB]
        Noise variance that the receiver believes in, over the true one.
    recovery : {"ls", "lmmse", "lmmse-unbiased", the same after "complex-", "omp", "fista", "vamp"}
        `ls` solves for the real numbers that were sent (widely linear for `amplitude`). `lmmse` is the linear MMSE
        estimate of codes with unit power, `lmmse-unbiased` the same without its shrinkage. With a `CodePrior` both use
        its mean and covariance. `complex-ls`, `complex-lmmse` and `complex-lmmse-unbiased` assume complex symbols of
        the same power, and keep the real part for `amplitude`. `omp`, `fista` and `vamp` look for codes that are sparse
        in the basis of a `CodePrior` or, without one, in their own coordinates. All but least squares work for any
        number of antennas.
    direction : {"uplink", "downlink"}
        Direction of the link. It decides the 3GPP antenna pattern of each end; in the uplink the sensor is the mobile
        terminal.
    dac_bits, adc_bits : int or None
        Resolution of the converters, for in-phase and quadrature each; None converts without error. Their range suits
        a Gaussian signal of the mean power.
    tx_iq_imbalance, rx_iq_imbalance : tuple of two floats, [dB], [degrees]
        Difference of gain and phase between the branches of modulator and demodulator.
    clipping_db : float or None, [dB]
        Level at which each antenna's envelope is clipped, over its rms on data symbols.
    pa_backoff_db : float or None, [dB]
        Saturation power of the Rapp amplifiers over the mean power at their input; their gain is one for small signals.
    pa_smoothness : float
        Smoothness of Rapp's curve; large values clip.
    carrier_frequency_offset : float, [Hz]
        Frequency offset of the receiver's oscillator after synchronisation.
    phase_noise_linewidth : float, [Hz]
        Linewidth of the receiver's free-running oscillator.
    seed : int
        Seed of fades and noise, together with the number of a realisation.
    precision : {"single", "double"}
        Precision of the signal processing; the fades are the same in both.
    """

    __pydantic_config__: ClassVar = {
        "extra": "forbid"
    }  # a pydantic TypeAdapter drops a misspelt key in silence otherwise

    channel: str = "cdl-c"
    num_tx_ant: int = 4
    num_rx_ant: int = 8
    carrier_frequency: float = 3.5e9
    delay_spread: float = 100e-9
    speed: float = 1.0
    fft_size: int = 64
    subcarrier_spacing: float = 30e3
    num_guard_carriers: tuple[int, int] = (0, 0)
    dc_null: bool = False
    cyclic_prefix_length: int | None = None
    modulation: str = "amplitude"
    phase_mask: bool = True
    pilots: str = "kronecker"
    pilot_spacing: int = 1
    pilot_boost_db: float = 0.0
    estimator: str = "lmmse-spatial"
    csi_delay: float = 0.0
    noise_error_db: float = 0.0
    recovery: str = "lmmse-unbiased"
    direction: str = "uplink"
    dac_bits: int | None = None
    adc_bits: int | None = None
    tx_iq_imbalance: tuple[float, float] = (0.0, 0.0)
    rx_iq_imbalance: tuple[float, float] = (0.0, 0.0)
    clipping_db: float | None = None
    pa_backoff_db: float | None = None
    pa_smoothness: float = 2.0
    carrier_frequency_offset: float = 0.0
    phase_noise_linewidth: float = 0.0
    seed: int = 0
    precision: str = "single"

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        self._check_kinds()
        self._check_grid()
        self._check_receiver()
        self._check_impairments()

    @property
    def subcarriers(self) -> np.ndarray:
        """Indices of the subcarriers in use, within 0 ... fft_size - 1; fft_size // 2 is at the carrier frequency."""
        below, above = self.num_guard_carriers
        index = np.arange(below, self.fft_size - above)
        return index[index != self.fft_size // 2] if self.dc_null else index

    @property
    def num_subcarriers(self) -> int:
        """Subcarriers in use: the grid without its guards and, with `dc_null`, without its middle."""
        return len(self.subcarriers)

    @property
    def cyclic_prefix_duration(self) -> float:
        """Length of the cyclic prefix [s]."""
        if self.cyclic_prefix_length is None:
            return 144 / 2048 / self.subcarrier_spacing
        return self.cyclic_prefix_length / (self.fft_size * self.subcarrier_spacing)

    @property
    def symbol_duration(self) -> float:
        """Time of one OFDM symbol with its cyclic prefix [s]; 14 normal ones last exactly one NR slot."""
        if self.cyclic_prefix_length is None:
            return 1e-3 / SYMBOLS_PER_SLOT * 15e3 / self.subcarrier_spacing
        return 1 / self.subcarrier_spacing + self.cyclic_prefix_duration

    @property
    def has_noisy_estimate(self) -> bool:
        """Whether the error of the channel estimate is independent of the channel, as for least squares."""
        return self.estimator in ("ls-nearest", "ls-linear")

    @property
    def reals_per_re(self) -> int:
        """Number of real code elements on one resource element, all antennas together."""
        return self.num_tx_ant * (2 if self.modulation == "iq" else 1)

    def _check_kinds(self):
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
        for name, low, high in (
            ("num_tx_ant", 1, MAX_ANTENNAS),
            ("num_rx_ant", 1, MAX_ANTENNAS),
            ("fft_size", 1, 65536),
            ("pilot_spacing", 1, 65536),
            ("seed", 0, 2**63 - 1),
        ):
            _check_int(name, getattr(self, name), low, high)
        for name in ("carrier_frequency", "subcarrier_spacing", "pa_smoothness"):
            _check_real(name, getattr(self, name), above=0)
        for name in ("delay_spread", "speed", "csi_delay", "phase_noise_linewidth"):
            _check_real(name, getattr(self, name), low=0)
        for name in ("phase_mask", "dc_null"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")

    def _check_grid(self):
        guards = self.num_guard_carriers
        if not (isinstance(guards, tuple) and len(guards) == 2):
            raise ValueError(f"num_guard_carriers must be a tuple (below, above), got {guards!r}")
        for guard in guards:
            _check_int("num_guard_carriers", guard, 0, self.fft_size)
        if self.num_subcarriers < 1:
            raise ValueError(
                f"num_guard_carriers {guards} {'and dc_null ' if self.dc_null else ''}leave none of the "
                f"{self.fft_size} subcarriers of fft_size free"
            )
        sounded = -(-self.num_subcarriers // self.pilot_spacing)
        if self.pilots == "kronecker" and sounded < self.num_tx_ant:
            raise ValueError(
                f"pilots='kronecker' needs one subcarrier per transmit antenna: {sounded} carry pilots for "
                f"num_tx_ant={self.num_tx_ant}. Raise fft_size, lower pilot_spacing, or take pilots='none' with "
                "estimator='perfect'."
            )
        if self.cyclic_prefix_length is not None:
            _check_int("cyclic_prefix_length", self.cyclic_prefix_length, 0, self.fft_size)
        excess = excess_delay(self.channel, self.delay_spread)
        if excess > self.cyclic_prefix_duration:
            samples = excess * self.fft_size * self.subcarrier_spacing
            could = samples <= self.fft_size  # no prefix is longer than its symbol
            prefix = f"Set cyclic_prefix_length={math.ceil(samples)} or more, or lower " if could else "Lower "
            why = "" if self.channel in _SCENARIO_EXCESS_DELAY else f" with delay_spread={self.delay_spread:g} s"
            raise ValueError(
                f"{self.channel}{why} has an excess delay of {excess * 1e6:.3g} us, longer than the cyclic prefix of "
                f"{self.cyclic_prefix_duration * 1e6:.3g} us. {prefix}{'delay_spread or ' if why else ''}"
                "subcarrier_spacing."
            )

    def _check_receiver(self):
        if self.pilots == "none" and self.estimator != "perfect":
            raise ValueError(
                f"estimator={self.estimator!r} needs pilots; take pilots='kronecker' or estimator='perfect'"
            )
        tx, rx = self.num_tx_ant, self.num_rx_ant
        if self.recovery == "ls" and self.reals_per_re > 2 * rx:
            raise ValueError(
                f"recovery='ls' has no solution: {self.reals_per_re} real unknowns per resource element "
                f"(num_tx_ant={tx}, modulation={self.modulation!r}) and {2 * rx} real observations (num_rx_ant={rx}). "
                "Raise num_rx_ant or lower num_tx_ant; below that only a prior or sparsity helps: recovery='lmmse'. "
                "DigitalLink makes no use of recovery: for it the choice is free."
            )
        if self.recovery == "complex-ls" and tx > rx:
            raise ValueError(
                f"recovery='complex-ls' has no solution for num_tx_ant={tx} above num_rx_ant={rx}. With "
                "modulation='amplitude', recovery='ls' works down to num_rx_ant = num_tx_ant / 2."
            )

    def _check_impairments(self):
        for name, low, high in (
            ("noise_error_db", -60, 60),
            ("pilot_boost_db", -30, 30),
            ("clipping_db", -20, 60),
            ("pa_backoff_db", -20, 60),
        ):
            if getattr(self, name) is not None or name in ("noise_error_db", "pilot_boost_db"):
                _check_real(name, getattr(self, name), low=low, high=high)
        for name in ("dac_bits", "adc_bits"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), 1, 16)
        for name in ("tx_iq_imbalance", "rx_iq_imbalance"):
            pair = getattr(self, name)
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise ValueError(f"{name} must be a tuple (gain in dB, phase in degrees), got {pair!r}")
            _check_real(name, pair[0], low=-20, high=20)
            _check_real(name, pair[1], low=-90, high=90)
        half = self.subcarrier_spacing / 2
        if not abs(_check_real("carrier_frequency_offset", self.carrier_frequency_offset)) < half:
            raise ValueError(
                f"carrier_frequency_offset={self.carrier_frequency_offset:g} Hz is what synchronisation leaves over: "
                f"it must stay below half the subcarrier_spacing, {half:g} Hz"
            )


def excess_delay(channel: str, delay_spread: float) -> float:
    """Return the largest delay of a channel model [s], which a cyclic prefix has to cover; of umi, uma, rma 99 %."""
    return _SCENARIO_EXCESS_DELAY.get(channel, _EXCESS_DELAY.get(channel, 0.0) * delay_spread)


def _plain(value):
    """Numbers of NumPy as numbers of Python, in tuples too."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _check_int(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _check_real(name, value, *, low=-math.inf, high=math.inf, above=None):
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not low <= value <= high or (above is not None and value <= above):
        if above is not None:
            wanted = f"above {above}"
        elif high < math.inf:
            wanted = f"from {low} to {high}"
        else:
            wanted = "" if low == -math.inf else f"of at least {low}"
        raise ValueError(f"{name} must be a finite number {wanted}".rstrip() + f", got {value!r}")
    return value
