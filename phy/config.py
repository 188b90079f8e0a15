"""What a link is made of: one frozen, validated record."""

import math
from dataclasses import dataclass
from typing import ClassVar

CHANNELS = ("awgn", "rayleigh", *(f"{family}-{letter}" for family in ("tdl", "cdl") for letter in "abcde"))
SYMBOLS_PER_SLOT = 14
PILOT_SYMBOLS = (2, 11)  # within a slot
MAX_ANTENNAS = 256

# Largest normalised delay of each profile, 3GPP TR 38.901, tables 7.7.1-1 to 7.7.2-5. Times delay_spread: excess delay.
_EXCESS_DELAY = {
    **{"tdl-a": 9.6586, "tdl-b": 4.7834, "tdl-c": 8.6523, "tdl-d": 12.525, "tdl-e": 20.6519},
    **{"cdl-a": 9.6586, "cdl-b": 4.7834, "cdl-c": 8.6523, "cdl-d": 12.525, "cdl-e": 20.6419},
}
_CHOICES = {
    "channel": CHANNELS,
    "modulation": ("amplitude", "iq"),
    "pilots": ("kronecker", "none"),
    "estimator": ("perfect", "ls-nearest", "ls-linear", "lmmse"),
    "recovery": ("ls", "complex-ls", "lmmse", "lmmse-unbiased", "omp", "fista", "vamp"),
    "direction": ("uplink", "downlink"),
    "precision": ("single", "double"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkConfig:
    """The static facts of a link. Every field is checked; an impossible value raises `ValueError` naming it.

    Attributes
    ----------
    channel : {"awgn", "rayleigh", "tdl-a" ... "tdl-e", "cdl-a" ... "cdl-e"}
        `awgn` is a fixed matrix of unit-modulus entries with orthogonal rows or columns, `rayleigh` one i.i.d. matrix
        per realisation, flat in time and frequency; the others are the profiles of 3GPP TR 38.901, section 7.7.
    num_tx_ant, num_rx_ant : int
        Antennas. For cdl an even number is a row of cross-polarised pairs, half a wavelength apart; an odd one is
        vertical.
    carrier_frequency : float, [Hz]
    delay_spread : float, [s]
        RMS delay spread of the tdl and cdl profiles.
    speed : float, [m/s]
    fft_size : int
        Subcarriers of the grid, guards included.
    subcarrier_spacing : float, [Hz]
    num_guard_carriers : tuple of two ints
        Empty subcarriers below and above.
    cyclic_prefix_length : int or None, [samples of 1 / (fft_size * subcarrier_spacing)]
        None is the normal prefix of 3GPP TS 38.211, 144/2048 of the useful symbol. At least the channel's excess delay.
    modulation : {"amplitude", "iq"}
        One real code element per antenna and resource element, or two.
    phase_mask : bool
        Multiply every symbol by a fixed unit-modulus phase that both ends know.
    pilots : {"kronecker", "none"}
    estimator : {"perfect", "ls-nearest", "ls-linear", "lmmse"}
        `lmmse` knows the channel's delay and Doppler profile.
    recovery : {"ls", "complex-ls", "lmmse", "lmmse-unbiased", "omp", "fista", "vamp"}
        `ls` solves for the real numbers that were sent (widely linear for `amplitude`), `complex-ls` for complex
        symbols of which `amplitude` keeps the real part. `lmmse` is the linear MMSE estimate of codes with unit
        power, `lmmse-unbiased` the same without its shrinkage; with a `CodePrior` they are those of its mean and
        covariance. `omp`, `fista` and `vamp` need a `CodePrior`. All but least squares work for any number of
        antennas.
    direction : {"uplink", "downlink"}
        Which end carries which 3GPP antenna pattern; in the uplink the sensor is the mobile terminal.
    seed : int
        With the realisation's number it decides fades and noise.
    precision : {"single", "double"}
        Of the signal processing; the fades are the same in both.
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
    cyclic_prefix_length: int | None = None
    modulation: str = "amplitude"
    phase_mask: bool = True
    pilots: str = "kronecker"
    estimator: str = "ls-linear"
    recovery: str = "ls"
    direction: str = "uplink"
    seed: int = 0
    precision: str = "single"

    def __post_init__(self):
        self._check_kinds()
        self._check_grid()
        self._check_receiver()

    @property
    def num_subcarriers(self) -> int:
        """Subcarriers in use: the grid without its guards."""
        return self.fft_size - sum(self.num_guard_carriers)

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
    def reals_per_re(self) -> int:
        """Real code elements on one resource element, all antennas together."""
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
            ("seed", 0, 2**63 - 1),
        ):
            _check_int(name, getattr(self, name), low, high)
        for name, strict in (
            ("carrier_frequency", True),
            ("subcarrier_spacing", True),
            ("delay_spread", False),
            ("speed", False),
        ):
            _check_real(name, getattr(self, name), strict)
        if not isinstance(self.phase_mask, bool):
            raise ValueError(f"phase_mask must be true or false, got {self.phase_mask!r}")

    def _check_grid(self):
        guards = self.num_guard_carriers
        if not (isinstance(guards, tuple) and len(guards) == 2):
            raise ValueError(f"num_guard_carriers must be a tuple (below, above), got {guards!r}")
        for guard in guards:
            _check_int("num_guard_carriers", guard, 0, self.fft_size)
        if self.num_subcarriers < 1:
            raise ValueError(
                f"num_guard_carriers {guards} leave none of the {self.fft_size} subcarriers of fft_size free"
            )
        if self.pilots == "kronecker" and self.num_subcarriers < self.num_tx_ant:
            raise ValueError(
                f"pilots='kronecker' needs one subcarrier per transmit antenna: {self.num_subcarriers} are in use for "
                f"num_tx_ant={self.num_tx_ant}. Raise fft_size, or take pilots='none' with estimator='perfect'."
            )
        if self.cyclic_prefix_length is not None:
            _check_int("cyclic_prefix_length", self.cyclic_prefix_length, 0, self.fft_size)
        excess = _EXCESS_DELAY.get(self.channel, 0.0) * self.delay_spread
        if excess > self.cyclic_prefix_duration:
            samples = math.ceil(excess * self.fft_size * self.subcarrier_spacing)
            raise ValueError(
                f"delay_spread={self.delay_spread:g} s gives {self.channel} an excess delay of {excess * 1e6:.2f} us, "
                f"longer than the cyclic prefix of {self.cyclic_prefix_duration * 1e6:.2f} us. Set "
                f"cyclic_prefix_length={samples} or more, or lower delay_spread or subcarrier_spacing."
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
                "Raise num_rx_ant or lower num_tx_ant; below that only a prior or sparsity helps: recovery='lmmse'."
            )
        if self.recovery == "complex-ls" and tx > rx:
            raise ValueError(
                f"recovery='complex-ls' has no solution for num_tx_ant={tx} above num_rx_ant={rx}. With "
                "modulation='amplitude', recovery='ls' works down to num_rx_ant = num_tx_ant / 2."
            )


def _check_int(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _check_real(name, value, positive):
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be a finite number {'above' if positive else 'of at least'} 0, got {value!r}")
