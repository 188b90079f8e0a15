r"""One definition of SNR and its conversions.

`snr_db` is the average received signal power per resource element and receive antenna over the noise variance `no` of
a complex sample. Channel gain is one on average and the transmit power over all antennas is one per resource element,
so that

.. math:: N_0 = 10^{-\mathrm{SNR_{dB}} / 10}

The cyclic prefix is not part of it.
"""

import math

import numpy as np
import tensorflow as tf


def snr_db_to_no(snr_db, dtype=tf.float32):
    """Noise variance per complex sample at `snr_db`.

    Parameters
    ----------
    snr_db : float or array, [dB]
    dtype : tf.DType

    Returns
    -------
    no : tf.Tensor, same shape
    """
    # not TensorFlow's power, whose vectorised and scalar code differ in the last bit: batches of other sizes would too
    return tf.constant(10 ** (-np.asarray(snr_db, np.float64) / 10), dtype)


def no_to_snr_db(no):
    """SNR in dB at which a complex sample has noise variance `no`; the inverse of `snr_db_to_no`."""
    no = tf.convert_to_tensor(no)
    return -10 * tf.math.log(no) / math.log(10)


def snr_db_to_esno_db(snr_db: float, *, num_tx_ant: int, reals_per_symbol: int = 2) -> float:
    """Transmitted energy of one stream over the noise it meets, per complex symbol or per real dimension.

    Parameters
    ----------
    snr_db : float, [dB]
    num_tx_ant : int
        The power of a resource element is shared by this many streams.
    reals_per_symbol : {2, 1}
        2: complex symbol against `no`. 1: one real number per symbol carries all its energy and, after coherent
        detection, meets `no / 2` only, which is 3 dB more.
    """
    return snr_db - 10 * math.log10(num_tx_ant * reals_per_symbol / 2)


def esno_db_to_snr_db(esno_db: float, *, num_tx_ant: int, reals_per_symbol: int = 2) -> float:
    """Inverse of `snr_db_to_esno_db`."""
    return esno_db + 10 * math.log10(num_tx_ant * reals_per_symbol / 2)


def snr_db_to_ebno_db(snr_db: float, *, num_tx_ant: int, bits_per_symbol: float, code_rate: float = 1.0) -> float:
    """Energy per information bit over `no`: the stream's Es/N0 less the bits that one symbol carries."""
    return snr_db_to_esno_db(snr_db, num_tx_ant=num_tx_ant) - 10 * math.log10(bits_per_symbol * code_rate)


def ebno_db_to_snr_db(ebno_db: float, *, num_tx_ant: int, bits_per_symbol: float, code_rate: float = 1.0) -> float:
    """Inverse of `snr_db_to_ebno_db`."""
    return esno_db_to_snr_db(ebno_db + 10 * math.log10(bits_per_symbol * code_rate), num_tx_ant=num_tx_ant)
