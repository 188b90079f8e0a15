import json
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from phy import LinkConfig
from phy.config import _CHOICES, CHANNELS
from phy.recovery import RECOVERIES


def test_every_recovery_has_a_row_in_the_table_of_parts():
    assert _CHOICES["recovery"] == tuple(RECOVERIES)


def test_defaults_are_the_contract():
    config = LinkConfig()
    assert (config.channel, config.num_tx_ant, config.num_rx_ant) == ("cdl-c", 4, 8)
    assert (config.carrier_frequency, config.delay_spread, config.speed) == (3.5e9, 100e-9, 1.0)
    assert (config.fft_size, config.subcarrier_spacing, config.modulation, config.phase_mask) == (
        64,
        30e3,
        "amplitude",
        True,
    )
    assert (config.pilots, config.estimator, config.recovery, config.direction) == (
        "kronecker",
        "lmmse-spatial",
        "lmmse-unbiased",
        "uplink",
    )


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_fits_the_default_cyclic_prefix(channel):
    assert LinkConfig(channel=channel).channel == channel


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"channel": "cdl-z"}, "channel must be one of awgn.*'cdl-z'"),
        ({"num_tx_ant": 0}, "num_tx_ant must be a whole number from 1"),
        ({"num_rx_ant": True}, "num_rx_ant must be a whole number"),
        ({"num_rx_ant": "8"}, "num_rx_ant must be a whole number"),
        ({"fft_size": 0}, "fft_size must be a whole number"),
        ({"carrier_frequency": 0.0}, "carrier_frequency must be a finite number above 0"),
        ({"delay_spread": -1e-9}, "delay_spread must be a finite number of at least 0"),
        ({"speed": float("nan")}, "speed must be a finite number"),
        ({"num_guard_carriers": (32, 32)}, "num_guard_carriers .* leave none"),
        ({"num_guard_carriers": 3}, "num_guard_carriers must be a tuple"),
        ({"num_guard_carriers": (-1, 0)}, "num_guard_carriers must be a whole number"),
        ({"num_guard_carriers": (32, 31), "dc_null": True}, "num_guard_carriers .* and dc_null leave none"),
        ({"fft_size": 3}, "pilots='kronecker' needs one subcarrier per transmit antenna: 3"),
        ({"pilot_spacing": 32}, "2 carry pilots for num_tx_ant=4. Raise fft_size, lower pilot_spacing"),
        ({"pilot_spacing": 0}, "pilot_spacing must be a whole number from 1"),
        ({"pilot_boost_db": None}, "pilot_boost_db must be a finite number from -30 to 30"),
        ({"noise_error_db": float("inf")}, "noise_error_db must be a finite number from -60 to 60"),
        ({"dc_null": 1}, "dc_null must be true or false"),
        ({"csi_delay": -1e-3}, "csi_delay must be a finite number of at least 0"),
        ({"phase_noise_linewidth": -1.0}, "phase_noise_linewidth must be a finite number of at least 0"),
        ({"dac_bits": 0}, "dac_bits must be a whole number from 1 to 16"),
        ({"adc_bits": 17}, "adc_bits must be a whole number from 1 to 16"),
        ({"clipping_db": "3"}, "clipping_db must be a finite number from -20 to 60"),
        ({"pa_backoff_db": 61.0}, "pa_backoff_db must be a finite number from -20 to 60"),
        ({"pa_smoothness": 0.0}, "pa_smoothness must be a finite number above 0"),
        ({"tx_iq_imbalance": 1.0}, r"tx_iq_imbalance must be a tuple \(gain in dB, phase in degrees\), got 1.0"),
        ({"rx_iq_imbalance": (0.0, 91.0)}, "rx_iq_imbalance must be a finite number from -90 to 90"),
        ({"carrier_frequency_offset": 15e3}, "must stay below half the subcarrier_spacing, 15000 Hz"),
        ({"channel": "uma", "subcarrier_spacing": 60e3}, "uma has an excess delay of 2.2 us, .* lower subcarrier_sp"),
        ({"phase_mask": 1}, "phase_mask must be true or false"),
        ({"pilots": "none"}, "estimator='lmmse-spatial' needs pilots"),
        (
            {"estimator": "mmse"},
            "estimator must be one of perfect, ls-nearest, ls-linear, lmmse, lmmse-spatial, lmmse-robust; got 'mmse'",
        ),
        (
            {"num_tx_ant": 8, "num_rx_ant": 3, "recovery": "ls"},
            "recovery='ls' has no solution: 8 real unknowns.*6 real observations",
        ),
        (
            {"num_tx_ant": 8, "num_rx_ant": 2, "recovery": "ls"},
            "recovery='lmmse'.* DigitalLink makes no use of recovery",
        ),
        (
            {"num_tx_ant": 3, "num_rx_ant": 2, "modulation": "iq", "recovery": "ls"},
            "6 real unknowns .* 4 real observations",
        ),
        ({"num_tx_ant": 4, "num_rx_ant": 2, "recovery": "complex-ls"}, "recovery='complex-ls' has no solution"),
        (
            {"delay_spread": 300e-9},
            "excess delay of 2.6 us, longer than the cyclic prefix of 2.34 us.*cyclic_prefix_length=5",
        ),
        ({"recovery": "magic"}, "recovery must be one of ls, complex-ls, lmmse"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"precision": "half"}, "precision must be one of single, double"),
    ],
)
def test_impossible_values_are_refused_by_name(facts, message):
    with pytest.raises(ValueError, match=message):
        LinkConfig(**facts)


def test_a_longer_prefix_admits_a_longer_channel():
    config = LinkConfig(delay_spread=300e-9, cyclic_prefix_length=5)
    assert config.cyclic_prefix_duration >= 8.6523 * 300e-9
    assert config.symbol_duration == pytest.approx((64 + 5) / 64 / 30e3)


def test_misspelt_keys_are_refused():
    with pytest.raises(ValidationError, match="num_tx_antennas"):
        TypeAdapter(LinkConfig).validate_python({"num_tx_antennas": 4})
    with pytest.raises(TypeError, match="num_tx_antennas"):
        LinkConfig(num_tx_antennas=4)


def test_numbers_of_numpy_are_taken_as_those_of_python():
    config = LinkConfig(
        num_tx_ant=np.int64(2),
        speed=np.float32(0.5),
        carrier_frequency=np.float64(3e9),
        num_guard_carriers=(np.int32(1), np.uint8(2)),
        clipping_db=np.float64(6),
        phase_mask=np.bool_(False),
    )
    plain = LinkConfig(
        num_tx_ant=2,
        speed=0.5,
        carrier_frequency=3e9,
        num_guard_carriers=(1, 2),
        clipping_db=6.0,
        phase_mask=False,
    )
    assert config == plain
    assert repr(config) == repr(plain)
    assert json.dumps(asdict(config)) == json.dumps(asdict(plain))
    with pytest.raises(ValueError, match="num_tx_ant must be a whole number from 1 to 256, got 2"):
        LinkConfig(num_tx_ant=np.float64(2))
    with pytest.raises(ValueError, match="num_rx_ant must be a whole number from 1 to 256, got 0"):
        LinkConfig(num_rx_ant=np.int64(0))


def test_yaml_lists_become_guard_tuples():
    assert TypeAdapter(LinkConfig).validate_python({"num_guard_carriers": [3, 4]}).num_guard_carriers == (3, 4)


def test_empty_subcarriers_are_the_guards_and_the_middle():
    config = LinkConfig(fft_size=16, num_guard_carriers=(2, 3), dc_null=True)
    assert list(config.subcarriers) == [2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert config.num_subcarriers == 10
    assert list(LinkConfig(fft_size=16).subcarriers) == list(range(16))


def test_impairments_are_off_by_default():
    config = LinkConfig()
    off = (config.dac_bits, config.adc_bits, config.clipping_db, config.pa_backoff_db)
    assert off == (None,) * 4
    assert config.tx_iq_imbalance == config.rx_iq_imbalance == (0.0, 0.0)
    zero = (config.carrier_frequency_offset, config.phase_noise_linewidth, config.csi_delay, config.noise_error_db)
    assert zero == (0.0,) * 4


def test_fourteen_symbols_are_one_nr_slot():
    assert 14 * LinkConfig().symbol_duration == pytest.approx(0.5e-3)
    assert 14 * LinkConfig(subcarrier_spacing=15e3).symbol_duration == pytest.approx(1e-3)


def test_the_configuration_names_the_recoveries_that_there_are():
    from phy.config import _CHOICES
    from phy.recovery import RECOVERIES

    assert _CHOICES["recovery"] == tuple(RECOVERIES)


@pytest.mark.parametrize("delay_spread", [1e-3, 1e300, 1.7e308])
def test_a_delay_that_no_prefix_covers_is_refused_without_the_advice_of_one(delay_spread):
    with pytest.raises(
        ValueError, match=r"longer than the cyclic prefix of .* us\. Lower delay_spread or subcarrier_spacing"
    ):
        LinkConfig(channel="cdl-a", delay_spread=delay_spread)
