r"""What codes can do on a channel that gives soft bits: how often payloads of so many bits must be lost.

A code word of bits b, received as log-likelihood ratios L of ones, has the information density

.. math:: i = \sum_j \log_2 \frac{2}{1 + e^{-(2 b_j - 1) s L_j}} \quad \text{[bits]}

With s = 1 it is that of soft bits that are independent and whose ratios are true; another s calibrates ratios that
claim too much or too little. Each word is received over a fade and with noise of its own, and the receiver knows the
fade: averages over the words are then averages over fades, noise and code words.
"""

import numpy as np

SCALES = 2.0 ** np.arange(-2, 1.01, 0.25)  # of log-likelihood ratios


def information_density(llr: np.ndarray, bits: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Return the information density of each word in bits, [num_words].

    Parameters
    ----------
    llr : [num_words, num_bits]
        Log-likelihood ratios of ones against zeros.
    bits : [num_words, num_bits]
        Coded bits, 0 or 1.
    scale : float
        Factor s of the ratios.
    """
    right = (2 * np.asarray(bits, float) - 1) * scale * np.asarray(llr, float)
    return (1 - np.logaddexp(0, -right) / np.log(2)).sum(-1)


def calibrated_density(llr: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the information density with the scale, of `SCALES`, that has the largest mean."""
    return max((information_density(llr, bits, scale) for scale in SCALES), key=np.mean)


def random_coding_loss(density: np.ndarray, num_bits: float) -> np.ndarray:
    r"""Return the probability that a random code loses each word: there are codes that do no worse on average.

    .. math:: \min(1, (2^k - 1) 2^{-i})

    Parameters
    ----------
    density : [num_words]
    num_bits : float
        Bits k of a payload.

    Source: A. Martinez, A. Guillén i Fàbregas, "Saddlepoint approximation of random-coding bounds", ITA 2011 (RCUs).
    """
    excess = np.log1p(-(2.0**-num_bits)) / np.log(2) + num_bits if num_bits else -np.inf  # log2(2^k - 1)
    return 2.0 ** np.minimum(0, excess - np.asarray(density, float))


def lost_by_any_code(density: np.ndarray, num_bits: float) -> np.ndarray:
    r"""Return which words every code of this size must lose, on average: bool [num_words].

    They are those below a density :math:`\eta` at which the optimal test between the channel and an output that does
    not depend on the word has the power that so many words need,

    .. math:: P \ge \Pr[i < \eta], \qquad \operatorname{E}[2^{-i} 1\{i \ge \eta\}] = 2^{-k}

    Parameters
    ----------
    density : [num_words]
    num_bits : float

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE
    Trans. Inf. Theory 56, 2010, theorem 28 (meta-converse).
    """
    density = np.asarray(density, float)
    order = np.argsort(-density, kind="stable")
    falling = density[order]
    log_sum = np.logaddexp2.accumulate(-falling) - np.log2(len(density))  # of the words from the best one on
    lost = np.zeros(len(density), bool)
    lost[order] = log_sum > -num_bits
    return lost
