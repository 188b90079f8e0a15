import numpy as np
import pytest
import tensorflow as tf

from phy.noise import (
    ebno_db_to_snr_db,
    esno_db_to_snr_db,
    no_to_snr_db,
    snr_db_to_ebno_db,
    snr_db_to_esno_db,
    snr_db_to_no,
)


def test_noise_variance_is_the_inverse_snr():
    np.testing.assert_allclose(snr_db_to_no([0.0, 10.0, -10.0], tf.float64), [1.0, 0.1, 10.0], rtol=1e-12)


def test_round_trips_are_exact_to_a_millionth_of_a_decibel():
    snr_db = np.linspace(-30, 60, 91)
    np.testing.assert_allclose(no_to_snr_db(snr_db_to_no(snr_db, tf.float64)), snr_db, atol=1e-6)
    for value in snr_db:
        for reals in (1, 2):
            esno = snr_db_to_esno_db(value, num_tx_ant=4, reals_per_symbol=reals)
            assert esno_db_to_snr_db(esno, num_tx_ant=4, reals_per_symbol=reals) == pytest.approx(value, abs=1e-6)
        ebno = snr_db_to_ebno_db(value, num_tx_ant=2, bits_per_symbol=4, code_rate=0.5)
        assert ebno_db_to_snr_db(ebno, num_tx_ant=2, bits_per_symbol=4, code_rate=0.5) == pytest.approx(value, abs=1e-6)


def test_one_antenna_sees_the_snr_and_four_share_it():
    assert snr_db_to_esno_db(7.0, num_tx_ant=1) == 7.0
    assert snr_db_to_esno_db(7.0, num_tx_ant=4) == pytest.approx(7.0 - 10 * np.log10(4))


def test_a_real_dimension_has_half_the_noise():
    gain = snr_db_to_esno_db(0.0, num_tx_ant=1, reals_per_symbol=1) - snr_db_to_esno_db(0.0, num_tx_ant=1)
    assert gain == pytest.approx(10 * np.log10(2))


def test_qpsk_at_rate_half_has_one_bit_per_symbol():
    assert snr_db_to_ebno_db(3.0, num_tx_ant=1, bits_per_symbol=2, code_rate=0.5) == pytest.approx(3.0)
