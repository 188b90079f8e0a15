r"""One definition of SNR, and its conversions.

`snr_db` is the average received signal power per resource element and receive antenna over the noise variance `no` of
a complex sample. The channel gain is one on average. The transmit power over all antennas is one per resource element.
Hence

.. math:: N_0 = 10^{-\mathrm{SNR_{dB}} / 10}

The energy of the cyclic prefix does not count.
"""

import math

import numpy as np
import tensorflow as tf


def check_snr_db(snr_db, batch: int) -> np.ndarray:
    """SNR [dB] of each of `batch` examples.

    Parameters
    ----------
    snr_db : float or array of shape [batch], [dB]
    batch : int

    Returns
    -------
    np.ndarray, [batch], float64

    Raises
    ------
    ValueError
        If `snr_db` has another shape or is not finite.
    """
    value = np.asarray(snr_db, np.float64)
    if value.shape not in ((), (batch,)):
        raise ValueError(f"snr_db must be a number or one per example, shape ({batch},); got shape {value.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"snr_db must be finite, got {snr_db}")
    return np.broadcast_to(value, (batch,))


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
    # NumPy's power: TensorFlow's vectorised and scalar code differ in the last bit, and so would batches by their size
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
        Number of streams that share the power of a resource element.
    reals_per_symbol : {2, 1}
        Real numbers on a symbol. 2: a complex symbol meets `no`. 1: one real number carries all the energy of its
        symbol and, after coherent detection, meets only `no / 2`, which is 3 dB more.
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
