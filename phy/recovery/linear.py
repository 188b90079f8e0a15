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


def least_squares(a, y):
    r"""Minimise :math:`\|a x - y\|` on every resource element by modified Gram-Schmidt.

    The loop over the unknowns is written out, and each of its operations runs over all resource elements at once.
    Orthogonalising the matrix itself instead of forming its Gram matrix keeps single precision usable where antennas
    are nearly dependent. The same column operations turn an identity below the matrix into the inverse of its
    triangular factor.

    Parameters
    ----------
    a : tf.Tensor, [rows, unknowns, batch, num_res], real, rows >= unknowns
    y : tf.Tensor, [rows, batch, num_res], real

    Returns
    -------
    x : tf.Tensor, [unknowns, batch, num_res]
    inverse_gram : tf.Tensor, [unknowns, batch, num_res]
        Diagonal of :math:`(a^T a)^{-1}`: the variance of x per unit of noise variance.

    Source: Å. Björck, *Numerical Methods for Least Squares Problems*, 1996, section 2.4.
    """
    rows, unknowns = a.shape[:2]
    identity = tf.eye(unknowns, dtype=a.dtype)[:, :, None, None]
    a = tf.concat([a, tf.broadcast_to(identity, [unknowns, unknowns, *tf.unstack(tf.shape(y)[1:])])], 0)
    x = inverse_gram = tf.zeros([], a.dtype)
    for _ in range(unknowns):
        column, a = a[:, 0], a[:, 1:]
        column *= tf.math.rsqrt(tf.maximum(tf.reduce_sum(column[:rows] ** 2, 0), 1e-30))  # no rank: large, not NaN
        a -= column[:, None] * tf.reduce_sum(column[:rows, None] * a[:rows], 0)
        projection = tf.reduce_sum(column[:rows] * y, 0)
        y -= column[:rows] * projection
        x += column[rows:] * projection
        inverse_gram += column[rows:] ** 2
    return x, inverse_gram


class LinearRecovery:
    """Least squares on each resource element, with the noise that the channel estimate adds.

    Parameters
    ----------
    num_reals : int
        Real unknowns to solve for on a resource element.
    num_kept : int
        The first `num_kept` are wanted; the others take up noise (imaginary parts that were never sent).
    """

    def __init__(self, *, num_reals: int, num_kept: int):
        self._num_reals, self._num_kept = num_reals, num_kept

    def __call__(self, y, h_hat, err_var, no):
        """Recover the transmitted reals.

        Parameters
        ----------
        y : tf.Tensor, [num_rx_ant, batch, num_res], complex
        h_hat : tf.Tensor, [num_rx_ant, num_tx_ant, batch, num_res], complex
            Including the phase mask.
        err_var : tf.Tensor, broadcastable to [num_tx_ant, batch, num_res], real
            Variance of the error of `h_hat`.
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        reals, variance : tf.Tensor, [num_kept, batch, num_res]
        """
        no_eff = no + tf.reduce_mean(err_var, 0)  # each antenna has 1 / num_tx_ant of the power
        a = real_matrix(h_hat, num_reals=self._num_reals)
        x, inverse_gram = least_squares(a, tf.concat([tf.math.real(y), tf.math.imag(y)], 0))
        return x[: self._num_kept], inverse_gram[: self._num_kept] * no_eff / 2
