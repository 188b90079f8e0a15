r"""What codes can do on a channel that gives soft bits: how often payloads of so many bits must be lost.

A code word of bits b, received as log-likelihood ratios L of ones, has the information density

.. math:: i = \sum_j \log_2 \frac{2}{1 + e^{-(2 b_j - 1) s L_j}} \quad \text{[bits]}

With s = 1 it is that of soft bits that are independent and whose ratios are true; another s calibrates ratios that
claim too much or too little. Each word is received over a fade and with noise of its own, and the receiver knows the
fade: averages over the words are then averages over fades, noise and code words.
"""

import functools

import numpy as np

SCALES = 2.0 ** np.arange(-2, 1.01, 0.25)  # of log-likelihood ratios
_SNR_DB = np.arange(-60, 60.1, 0.25)  # at which the information of a symbol is computed; linear between them
_NUM_NODES = 64  # of the integral over the noise


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


def bit_information(bits_per_symbol: int, no_eff: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return mean and variance of the information density of a QAM symbol's soft bits, over symbols and noise.

    Symbols have unit energy and Gaussian errors of known variance; bits of a symbol are decoded as if they were
    independent: bit-interleaved coded modulation. With PAM in each dimension and the density i of each bit,

    .. math:: \operatorname{E} \sum_j i_j, \qquad \operatorname{Var} \sum_j i_j

    Parameters
    ----------
    bits_per_symbol : {2, 4, 6, 8}
    no_eff : array
        Error variance of each symbol.

    Returns
    -------
    mean, variance : array like `no_eff`, [bits] and [bits²]

    Source: A. Guillén i Fàbregas, A. Martinez, G. Caire, "Bit-interleaved coded modulation", Found. Trans. Commun.
    Inf. Theory 5, 2008, eq. (3.6).
    """
    snr_db = -10 * np.log10(no_eff)
    mean, variance = (np.interp(snr_db, _SNR_DB, values) for values in _pam_information(bits_per_symbol // 2))
    return 2 * mean, 2 * variance


@functools.cache
def _pam_information(num_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of a dimension's information density at each of `_SNR_DB`, with Gray labels."""
    numbers = np.arange(2**num_bits)
    labels = (numbers ^ numbers >> 1)[:, None] >> np.arange(num_bits) & 1  # [num_points, num_bits]
    points = numbers - np.mean(numbers)
    points /= np.sqrt(2 * np.mean(points**2))  # half of the symbol's energy
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NUM_NODES)
    weights = weights / weights.sum() / len(points)
    moments = []
    for snr_db in _SNR_DB:
        deviation = np.sqrt(10 ** (-snr_db / 10) / 2)
        distance = (points[:, None] + deviation * nodes)[..., None] - points  # [num_points, num_nodes, num_points]
        likelihood = -((distance / deviation) ** 2) / 2
        llr = np.stack(
            [
                np.logaddexp.reduce(likelihood[..., bit == 1], -1) - np.logaddexp.reduce(likelihood[..., bit == 0], -1)
                for bit in labels.T
            ],
            -1,
        )  # [num_points, num_nodes, num_bits]
        sent = np.broadcast_to(labels[:, None], llr.shape)
        density = information_density(llr, sent)  # [num_points, num_nodes]
        mean = np.sum(weights * density)
        moments.append((mean, np.sum(weights * density**2) - mean**2))
    mean, variance = np.array(moments).T
    return mean, variance.clip(min=0)


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
