"""Linear recovery of the real numbers on each resource element."""

import functools
import operator

import tensorflow as tf

from phy.complex_numbers import to_complex
from phy.graphs import exact_inverse


def real_matrix(h, *, num_reals: int):
    r"""Write complex reception as a real matrix on the real unknowns.

    .. math:: \begin{bmatrix} \Re y \\ \Im y \end{bmatrix} = \begin{bmatrix} \Re H \\ \Im H \end{bmatrix} a,
        \qquad \text{for complex unknowns } a + jb:
        \begin{bmatrix} \Re H & -\Im H \\ \Im H & \Re H \end{bmatrix} \begin{bmatrix} a \\ b \end{bmatrix}

    Parameters
    ----------
    h : tf.Tensor, [batch, num_rx_ant, num_tx_ant, ...], complex
    num_reals : int
        num_tx_ant for real unknowns, twice that for complex ones.

    Returns
    -------
    tf.Tensor, [batch, 2 * num_rx_ant, num_reals, ...], real
    """
    real, imag = tf.math.real(h), tf.math.imag(h)
    columns = tf.concat([real, imag], 1)
    return columns if num_reals == h.shape[2] else tf.concat([columns, tf.concat([-imag, real], 1)], 2)


def least_squares(a, y, ridge=0.0, *, real: bool = False, whole: bool = False):
    r"""Minimise :math:`\|a x - y\|^2 + \lambda \|x\|^2` on every resource element.

    The normal equations are solved by a Cholesky factor whose loops are written out: each of their operations runs over
    all resource elements at once. The Gram matrix squares the condition number of nearly dependent antennas. Double
    precision, for `a` of any precision, keeps that harmless.

    Parameters
    ----------
    a : tf.Tensor, [batch, rows, unknowns, num_res], real or complex
        Matrices with rows >= unknowns if there is no ridge; rows >= unknowns / 2 for real unknowns of a complex matrix.
    y : tf.Tensor, [batch, rows, num_res], same dtype
    ridge : float or tf.Tensor, broadcastable to [batch, num_res], real
        Weight :math:`\lambda \ge 0`.
    real : bool
        Whether the unknowns are real though `a` is complex.
    whole : bool
        Whether to return all of the inverse Gram matrix.

    Returns
    -------
    x : tf.Tensor, [unknowns, batch, num_res]
        Solution, in the dtype of `a` or of its real part.
    inverse_gram : tf.Tensor, [unknowns, batch, num_res], real
        Diagonal of :math:`(a^H a + \lambda I)^{-1}`, with the real part of :math:`a^H a` for real unknowns. The
        `whole` is [unknowns, unknowns, batch, num_res], in the dtype of `x`.

    Source: Å. Björck, *Numerical Methods for Least Squares Problems*, 1996, section 2.2.
    """
    dtype, unknowns = a.dtype.real_dtype if real else a.dtype, range(a.shape[2])
    wide = tf.complex128 if a.dtype.is_complex else tf.float64
    a, y = tf.cast(a, wide), tf.cast(y, wide)

    def products(i, others):
        """Products of a column with others, [batch, rows, others, num_res]: a list over the others."""
        terms = tf.math.conj(a[:, :, i, None]) * others
        return tf.unstack(tf.reduce_sum(tf.math.real(terms) if real else terms, 1), axis=1)

    matched = [products(i, y[:, :, None])[0] for i in unknowns]
    lower, inverse = [], []  # a^H a = L D L^H: the rows of L below its diagonal, and the inverse of D
    for i in unknowns:
        row = products(i, a[:, :, : i + 1])
        energy = tf.math.real(row.pop()) + tf.cast(ridge, tf.float64)
        for j in range(i):
            row[j] -= _sum(row[k] * tf.math.conj(lower[j][k]) for k in range(j))
        lower.append([part * _like(part, inverse[j]) for j, part in enumerate(row)])
        pivot = energy - _sum(tf.math.real(u * tf.math.conj(v)) for u, v in zip(row, lower[i], strict=True))
        inverse.append(
            exact_inverse(tf.maximum(pivot, 1e-14 * energy + 1e-30))
        )  # without rank: large numbers, in single precision too
    x = []
    for i in unknowns:
        x.append(matched[i] - _sum(lower[i][j] * x[j] for j in range(i)))
    x = [part * _like(part, inverse[i]) for i, part in enumerate(x)]
    for i in reversed(unknowns):
        x[i] -= _sum(tf.math.conj(lower[k][i]) * x[k] for k in unknowns[i + 1 :])
    x, inverse_gram = tf.cast(tf.stack(x), dtype), _inverse(lower, inverse, dtype, whole=whole)
    return x, tf.stack([tf.stack(row) for row in inverse_gram] if whole else inverse_gram)


def _inverse(lower, inverse, dtype, *, whole):
    """Inverse of L D L^H, its diagonal or the whole; it needs no more than the precision of `dtype`."""
    lower = [[tf.cast(part, dtype) for part in row] for row in lower]
    inverse, unknowns = [tf.cast(part, dtype.real_dtype) for part in inverse], range(len(inverse))
    columns = []  # columns of the inverse of L, below its diagonal
    for j in unknowns:
        column = []
        for i in unknowns[j + 1 :]:
            column.append(-lower[i][j] - _sum(lower[i][k] * column[k - j - 1] for k in range(j + 1, i)))
        columns.append(column)
    if whole:
        full = [[tf.ones_like(inverse[0], dtype), *column] for column in columns]
        inverse = [_like(full[0][0], part) for part in inverse]

        def entry(i, j):
            terms = zip(full[i], full[j][i - j :], inverse[i:], strict=True)
            return _sum(tf.math.conj(m) * n * d for m, n, d in terms)

        below = [[entry(i, j) for j in range(i + 1)] for i in unknowns]
        return [[below[i][j] if j <= i else tf.math.conj(below[j][i]) for j in unknowns] for i in unknowns]
    return [
        inverse[j] + _sum(tf.math.real(m * tf.math.conj(m)) * d for m, d in zip(column, inverse[j + 1 :], strict=True))
        for j, column in enumerate(columns)
    ]


def _like(part, real):
    """Real numbers in the dtype of `part`, of the same precision."""
    return to_complex(real) if part.dtype.is_complex else real


def _sum(terms):
    terms = list(terms)
    return functools.reduce(operator.add, terms) if terms else 0.0


def effective_channel(err_var, no, *, noisy_channel: bool):
    r"""Turn a channel estimate and its error into an estimate with uncorrelated error, and that error into noise.

    A least-squares channel estimate is the channel plus an independent error of variance :math:`\epsilon`. For
    :math:`\operatorname{E}|h|^2 = 1` this means :math:`h = g \hat h + e` with :math:`g = 1 / (1 + \epsilon)` and an
    error of variance :math:`g \epsilon` that is uncorrelated with the estimate. An MMSE channel estimate has g = 1.

    Parameters
    ----------
    err_var : tf.Tensor, [num_tx_ant, batch, num_res], real
    no : tf.Tensor, [batch, 1], real
    noisy_channel : bool
        Whether the estimate is one of least squares.

    Returns
    -------
    gain : tf.Tensor, [num_tx_ant, batch, num_res]
    no_real : tf.Tensor, [batch, num_res]
        Noise variance of a real observation, error of the channel included.
    """
    gain = exact_inverse(1 + err_var) if noisy_channel else tf.ones_like(err_var)
    return gain, (no + tf.reduce_mean(gain * err_var, 0)) / 2  # each antenna has 1 / num_tx_ant of the power


def scaled_channel(h_hat, gain):
    """Channel estimate [batch, num_rx_ant, num_tx_ant, num_res] times the gain of each transmit antenna."""
    return h_hat * to_complex(tf.transpose(gain, [1, 0, 2]))[:, None]


class LinearRecovery:
    r"""Least squares or linear MMSE on each resource element, weighted by the error of the channel estimate.

    With g and :math:`\sigma^2` of `effective_channel`, p the variance of an unknown and c the diagonal of the inverse
    Gram matrix, ridge included,

    - least squares on :math:`\hat h` recovers :math:`g x` plus noise, its error variance is :math:`c \sigma^2 + (1 -
      g)^2 p`;
    - MMSE is least squares on :math:`g \hat h` with the ridge :math:`\sigma^2 / p`. It shrinks numbers by
      :math:`1 - c \sigma^2 / p` and has the error variance :math:`c \sigma^2`; divided by the shrinkage it is unbiased;
    - MMSE for complex symbols that are real in truth spreads their power p over real and imaginary part, so that the
      ridge is :math:`\lambda = 2 \sigma^2 / p`. With G the inverse Gram matrix, ridge included, the error variance of
      the real part is :math:`\sigma^2 (G_{ii} + \lambda \sum_k \Re G_{ik}^2)`.

    Parameters
    ----------
    num_reals : int
        Number of real unknowns on a resource element.
    num_kept : int
        Number of leading unknowns that are wanted; the others are imaginary parts that were never sent.
    prior_variance : float
        Variance of a wanted unknown.
    kind : {"ls", "lmmse", "lmmse-unbiased"}
    noisy_channel : bool
        Whether the channel estimate is one of least squares.

    Source: S. M. Kay, *Fundamentals of Statistical Signal Processing: Estimation Theory*, 1993, chapters 4 and 12.
    """

    def __init__(self, *, num_reals: int, num_kept: int, prior_variance: float, kind: str, noisy_channel: bool):
        self._num_reals, self._num_kept, self._prior_variance = num_reals, num_kept, prior_variance
        self._kind, self._noisy_channel = kind, noisy_channel

    def __call__(self, y, h_hat, err_var, no):
        """Recover the transmitted reals.

        Parameters
        ----------
        y : tf.Tensor, [num_rx_ant, batch, num_res], complex
        h_hat : tf.Tensor, [batch, num_rx_ant, num_tx_ant, num_res], complex
            Channel estimate, phase mask included. The batch comes first: the matrices of an example then stay in the
            processor's cache for all their products.
        err_var : tf.Tensor, [num_tx_ant, batch, num_res], real
            Variance of the error of `h_hat`.
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        reals, variance : tf.Tensor, [num_kept, batch, num_res]
            Estimates and their error variance.
        """
        gain, no_real = effective_channel(err_var, no, noisy_channel=self._noisy_channel)
        y = tf.transpose(y, [1, 0, 2])
        if self._kind == "ls":
            x, spread = self._solve(h_hat, y)
            gain = self._of_reals(gain)
            return x[: self._num_kept], (spread * no_real + (1 - gain) ** 2 * self._prior_variance)[: self._num_kept]
        ridge = no_real / (self._prior_variance * (self._num_kept / self._num_reals))
        h = scaled_channel(h_hat, gain)
        if self._num_kept < self._num_reals:
            return self._keep_real(h, y, ridge, no_real)
        x, spread = self._solve(h, y, ridge)
        shrinkage = tf.maximum(1 - spread * ridge, 1e-6) if self._kind == "lmmse-unbiased" else 1.0
        return (x / shrinkage)[: self._num_kept], (spread / shrinkage * no_real)[: self._num_kept]

    def _keep_real(self, h, y, ridge, no_real):
        x, inverse = least_squares(h, y, ridge, whole=True)
        x, spread = tf.math.real(x), tf.math.real(tf.stack([inverse[i, i] for i in range(self._num_kept)]))
        error = spread + ridge * tf.reduce_sum(tf.math.real(inverse**2), 1)
        if self._kind == "lmmse-unbiased":
            shrinkage = tf.maximum(1 - spread * ridge, 1e-6)
            left = tf.maximum(error - 2 * ridge * spread**2, 1e-6 * error)  # by rounding less than nothing
            x, error = x / shrinkage, left / shrinkage**2
        return x, error * no_real

    def _solve(self, h, y, ridge=0.0):
        x, spread = least_squares(h, y, ridge, real=self._num_reals == h.shape[2])
        if x.dtype.is_complex:
            x = tf.concat([tf.math.real(x), tf.math.imag(x)], 0)
        return x, self._of_reals(spread)

    def _of_reals(self, rows):
        """Real and imaginary part of an unknown have the same statistics."""
        return tf.tile(rows, [self._num_reals // rows.shape[0], 1, 1])
