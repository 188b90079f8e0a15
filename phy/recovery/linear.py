"""Linear recovery of the real numbers on each resource element."""

import tensorflow as tf


def real_matrix(h, *, num_reals: int):
    r"""Write complex reception as a real matrix on the real unknowns.

    .. math:: \begin{bmatrix} \Re y \\ \Im y \end{bmatrix} = \begin{bmatrix} \Re H \\ \Im H \end{bmatrix} a,
        \qquad \text{for complex unknowns } a + jb:
        \begin{bmatrix} \Re H & -\Im H \\ \Im H & \Re H \end{bmatrix} \begin{bmatrix} a \\ b \end{bmatrix}

    Parameters
    ----------
    h : tf.Tensor, [num_rx_ant, num_tx_ant, ...], complex
    num_reals : int
        num_tx_ant for real unknowns, twice that for complex ones.

    Returns
    -------
    tf.Tensor, [2 * num_rx_ant, num_reals, ...], real
    """
    real, imag = tf.math.real(h), tf.math.imag(h)
    columns = tf.concat([real, imag], 0)
    return columns if num_reals == h.shape[1] else tf.concat([columns, tf.concat([-imag, real], 0)], 1)


def least_squares(a, y, ridge=0.0):
    r"""Minimise :math:`\|a x - y\|^2 + \lambda \|x\|^2` on every resource element by modified Gram-Schmidt.

    The loop over the unknowns is written out, and each of its operations runs over all resource elements at once.
    Orthogonalising the matrix itself instead of forming its Gram matrix keeps single precision usable where antennas
    are nearly dependent. The same column operations turn an identity below the matrix into the inverse of its
    triangular factor; with the weight :math:`\lambda` that identity is the ridge.

    Parameters
    ----------
    a : tf.Tensor, [rows, unknowns, batch, num_res], real
        With rows >= unknowns where there is no ridge.
    y : tf.Tensor, [rows, batch, num_res], real
    ridge : float or tf.Tensor, broadcastable to [batch, num_res], real
        The weight :math:`\lambda \ge 0`.

    Returns
    -------
    x : tf.Tensor, [unknowns, batch, num_res]
    inverse_gram : tf.Tensor, [unknowns, batch, num_res]
        Diagonal of :math:`(a^T a + \lambda I)^{-1}`.

    Source: Å. Björck, *Numerical Methods for Least Squares Problems*, 1996, section 2.4.
    """
    rows, unknowns = a.shape[:2]
    identity = tf.eye(unknowns, dtype=a.dtype)[:, :, None, None]
    a = tf.concat([a, tf.broadcast_to(identity, [unknowns, unknowns, *tf.unstack(tf.shape(y)[1:])])], 0)
    x = inverse_gram = tf.zeros_like(a[rows:, 0])

    def inner(column, others):
        return tf.reduce_sum(column[:rows] * others[:rows], 0) + ridge * tf.reduce_sum(column[rows:] * others[rows:], 0)

    for _ in range(unknowns):
        column, a = a[:, 0], a[:, 1:]
        column *= tf.math.rsqrt(tf.maximum(inner(column, column), 1e-30))  # without rank: large numbers, but no NaN
        a -= column[:, None] * inner(column[:, None], a)
        projection = inner(column, tf.concat([y, -x], 0))
        y -= column[:rows] * projection
        x += column[rows:] * projection
        inverse_gram += column[rows:] ** 2
    return x, inverse_gram


def effective_channel(err_var, no, *, noisy_channel: bool):
    r"""Turn a channel estimate and its error into an estimate with uncorrelated error, and that error into noise.

    A least-squares channel estimate is the channel plus an independent error of variance :math:`\epsilon`. For
    :math:`\operatorname{E}|h|^2 = 1` that makes :math:`h = g \hat h + e` with :math:`g = 1 / (1 + \epsilon)` and an
    error of variance :math:`g \epsilon` that is uncorrelated with the estimate; an MMSE channel estimate has g = 1.

    Parameters
    ----------
    err_var : tf.Tensor, [num_tx_ant, batch, num_res], real
    no : tf.Tensor, [batch, 1], real
    noisy_channel : bool
        The estimate is one of least squares.

    Returns
    -------
    gain : tf.Tensor, [num_tx_ant, batch, num_res]
    no_real : tf.Tensor, [batch, num_res]
        Noise variance of a real observation, error of the channel included.
    """
    gain = 1 / (1 + err_var) if noisy_channel else tf.ones_like(err_var)
    return gain, (no + tf.reduce_mean(gain * err_var, 0)) / 2  # each antenna has 1 / num_tx_ant of the power


class LinearRecovery:
    r"""Least squares or linear MMSE on each resource element, as good as the channel estimate is.

    With g and :math:`\sigma^2` of `effective_channel`, p the variance of an unknown and c the diagonal of the inverse
    Gram matrix, ridge included,

    - least squares on :math:`\hat h` recovers :math:`g x` plus noise, its error variance is :math:`c \sigma^2 + (1 -
    g)^2 p`; - MMSE is least squares on :math:`g \hat h` with the ridge :math:`\sigma^2 / p`. It shrinks numbers by
      :math:`1 - c \sigma^2 / p` and has the error variance :math:`c \sigma^2`; divided by the shrinkage it is unbiased.

    Parameters
    ----------
    num_reals : int
        Real unknowns to solve for on a resource element.
    num_kept : int
        The first `num_kept` are wanted; the others take up noise (imaginary parts that were never sent).
    prior_variance : float
        Variance of an unknown.
    kind : {"ls", "lmmse", "lmmse-unbiased"}
    noisy_channel : bool
        The channel estimate is one of least squares.

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
        h_hat : tf.Tensor, [num_rx_ant, num_tx_ant, batch, num_res], complex
            Including the phase mask.
        err_var : tf.Tensor, [num_tx_ant, batch, num_res], real
            Variance of the error of `h_hat`.
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        reals, variance : tf.Tensor, [num_kept, batch, num_res]
            Estimates and their error variance.
        """
        gain, no_real = effective_channel(err_var, no, noisy_channel=self._noisy_channel)
        y, kept = tf.concat([tf.math.real(y), tf.math.imag(y)], 0), slice(0, self._num_kept)
        if self._kind == "ls":
            x, spread = least_squares(real_matrix(h_hat, num_reals=self._num_reals), y)
            gain = tf.tile(gain, [self._num_kept // gain.shape[0], 1, 1])
            return x[kept], spread[kept] * no_real + (1 - gain) ** 2 * self._prior_variance
        ridge = no_real / self._prior_variance
        h_hat *= tf.cast(gain, h_hat.dtype)
        x, spread = least_squares(real_matrix(h_hat, num_reals=self._num_reals), y, ridge)
        shrinkage = tf.maximum(1 - spread * ridge, 1e-6) if self._kind == "lmmse-unbiased" else 1.0
        return (x / shrinkage)[kept], (spread / shrinkage * no_real)[kept]
