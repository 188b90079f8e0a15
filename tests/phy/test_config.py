import pytest
from pydantic import TypeAdapter, ValidationError

from phy import LinkConfig
from phy.config import CHANNELS


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
        "ls-linear",
        "ls",
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
        ({"fft_size": 3}, "pilots='kronecker' needs one subcarrier per transmit antenna: 3"),
        ({"phase_mask": 1}, "phase_mask must be true or false"),
        ({"pilots": "none"}, "estimator='ls-linear' needs pilots"),
        ({"estimator": "mmse"}, "estimator must be one of perfect, ls-nearest, ls-linear, lmmse; got 'mmse'"),
        ({"num_tx_ant": 8, "num_rx_ant": 3}, "recovery='ls' has no solution: 8 real unknowns.*6 real observations"),
        ({"num_tx_ant": 3, "num_rx_ant": 2, "modulation": "iq"}, "6 real unknowns .* 4 real observations"),
        ({"num_tx_ant": 4, "num_rx_ant": 2, "recovery": "complex-ls"}, "recovery='complex-ls' has no solution"),
        (
            {"delay_spread": 300e-9},
            "excess delay of 2.60 us, longer than the cyclic prefix of 2.34 us.*cyclic_prefix_length=5",
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


def test_yaml_lists_become_guard_tuples():
    assert TypeAdapter(LinkConfig).validate_python({"num_guard_carriers": [3, 4]}).num_guard_carriers == (3, 4)


def test_fourteen_symbols_are_one_nr_slot():
    assert 14 * LinkConfig().symbol_duration == pytest.approx(0.5e-3)
    assert 14 * LinkConfig(subcarrier_spacing=15e3).symbol_duration == pytest.approx(1e-3)
