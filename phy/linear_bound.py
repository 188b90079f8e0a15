r"""The least error of codes that are sent as real numbers by a linear code, whatever the code.

Codes of covariance :math:`\Sigma` have eigenvalues :math:`\lambda_i`. A linear code gives a unit of energy e to some of
them. Its transmitter knows :math:`\Sigma` and the noise, and does not know the fade: for it no antenna and no resource
element is better than another. The error of the linear estimate is convex in the gains of the channel, so that it is
least where all are equal to their mean; a is this mean, over the noise variance of a real dimension. Then

.. math:: D = \sum_i \frac{\lambda_i}{1 + a e_i}, \qquad
    e_i = \max\Big(0, \mu \sqrt{\lambda_i} - \frac{1}{a}\Big), \qquad \sum_i e_i = E

Source: K.-H. Lee, D. P. Petersen, "Optimal linear coding for vector channels", IEEE Trans. Commun. 24, 1976.
"""

import numpy as np


def water_filled(variances: np.ndarray, energy: float, gain: np.ndarray) -> np.ndarray:
    """Return the energy of each coefficient, [batch, num_coefficients].

    Parameters
    ----------
    variances : [num_coefficients]
        Eigenvalues of the codes' covariance, not negative.
    energy : float
        Energy E of an example.
    gain : [batch]
        Gain a of each example's channel over its noise, positive.
    """
    root = np.sqrt(np.asarray(variances, float))
    falling = np.sort(root)[::-1]
    count, sums = np.arange(1, len(root) + 1), np.cumsum(falling)
    noise = 1 / np.asarray(gain, float)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        level = (energy + count * noise) / sums  # if the first so many are sent
        sent = level * falling > noise  # true up to some number of them
    level = level[np.arange(len(noise)), sent.sum(1) - 1]
    return np.maximum(0, level[:, None] * root - noise)


def known_shares(variances: np.ndarray, energy: float, gain: np.ndarray) -> np.ndarray:
    """Return the share of each coefficient's variance that the receiver knows, [batch, num_coefficients]."""
    received = np.asarray(gain, float)[:, None] * water_filled(variances, energy, gain)
    return received / (1 + received)
