"""Vector approximate message passing: the posterior of coefficients that are rare, or of two sizes."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.recovery.prior import CodePrior


class Law(NamedTuple):
    """Two-Gaussian law of each coefficient, see `CodePrior`.

    Attributes
    ----------
    activity, wide, narrow : tf.Tensor, [size], real
    """

    activity: tf.Tensor
    wide: tf.Tensor
    narrow: tf.Tensor

    @classmethod
    def of(cls, prior: CodePrior):
        """Law of a prior, kept from the extremes at which one coefficient would decide the precision of all."""
        least = 1e-10 * np.max(prior.variances) + 1e-30
        parts = np.clip(prior.activity, 1e-3, 1 - 1e-3), np.maximum(prior.wide, least), np.maximum(prior.narrow, least)
        return cls(*(tf.constant(part, tf.float64) for part in parts))

    @property
    def variance(self):
        """Variance of each coefficient, [size]."""
        return self.activity * self.wide + (1 - self.activity) * self.narrow

    def posterior(self, seen, noise):
        """Mean and variance of coefficients seen in Gaussian noise, and the log density of `seen` over (2π)^(-1/2)."""
        total_wide, total_narrow = self.wide + noise, self.narrow + noise
        is_wide = tf.math.log(self.activity) - 0.5 * (tf.math.log(total_wide) + seen**2 / total_wide)
        is_narrow = tf.math.log(1 - self.activity) - 0.5 * (tf.math.log(total_narrow) + seen**2 / total_narrow)
        member = tf.sigmoid(is_wide - is_narrow)
        gain_wide, gain_narrow = self.wide / total_wide, self.narrow / total_narrow
        gain = member * gain_wide + (1 - member) * gain_narrow
        between = member * (1 - member) * ((gain_wide - gain_narrow) * seen) ** 2
        return gain * seen, gain * noise + between, tf.reduce_logsumexp(tf.stack([is_wide, is_narrow]), 0)


class Modes(NamedTuple):
    """Eigenvalues and eigenvectors of the noise-weighted Gram matrices of the resource elements.

    Attributes
    ----------
    values, vectors : tf.Tensor, [batch, num_res, reals], [batch, num_res, reals, reals]
    share : tf.Tensor, [batch, num_res, reals]
        Energy of each eigenvector on numbers in use; the last resource element may carry fewer.
    """

    values: tf.Tensor
    vectors: tf.Tensor
    share: tf.Tensor

    @classmethod
    def of(cls, a, used):
        """Modes of matrices `a`, see `Observer`; `used`, [num_res, reals], is 1 where a number is sent, else 0."""
        values, vectors = tf.linalg.eigh(tf.matmul(a, a, transpose_a=True))
        return cls(tf.nn.relu(values), vectors, tf.reduce_sum(vectors**2 * used[..., None], 2))


def vamp(modes, a, y, basis, law, *, iterations: int, damping: float, tolerance: float = 1e-4):
    r"""Vector approximate message passing between the block-diagonal observation and independent coefficients.

    One half is the linear MMSE estimate of the code for white Gaussian messages. The basis is orthonormal, hence it
    needs only the eigenvalues of each resource element's own small Gram matrix, for any number of coefficients. The
    other half is the posterior mean of each coefficient under its two-Gaussian law. Messages move only part of the way
    to their new values: undamped, they may swing ever further.

    Both halves as one Gaussian model with every coefficient's own correction have a density of the observations, the
    Bethe approximation. It is true where the iteration has come to rest. Elsewhere the means of the halves differ; with
    the unrest δ, their mean squared difference over their variance, d/2 log(1 + δ) is taken off its logarithm.

    Parameters
    ----------
    modes : Modes
    a, y : see `Observer`
    basis : tf.Tensor, [num_res * reals, size]
        Orthonormal columns.
    law : Law
    iterations : int
        At most.
    damping : float
        Share of a new message that is taken over, 1 for all of it.
    tolerance : float
        Unrest at which an example is done.

    Returns
    -------
    z, variance : tf.Tensor, [batch, size]
    evidence : tf.Tensor, [batch]
        Logarithm of the density of the observations, up to the constant of `GaussianPosterior`.

    Source: S. Rangan, P. Schniter, A. K. Fletcher, "Vector approximate message passing", IEEE Trans. Inf. Theory
    65(10), 2019; A. K. Fletcher et al., "Expectation consistent approximate inference: generalizations and
    convergence", ISIT 2016.
    """
    size, first = basis.shape[1], 1 / tf.reduce_mean(law.variance)
    matched = tf.linalg.matvec(modes.vectors, tf.linalg.matvec(a, y, transpose_a=True), transpose_a=True)

    def observe(message, precision):
        """Linear half: its estimate, certainty, and the message to the coefficients."""
        spread = 1 / (modes.values + precision[..., None])
        incoming = tf.reshape(tf.matmul(message, basis, transpose_b=True), tf.shape(matched))
        turned = tf.linalg.matvec(modes.vectors, incoming, transpose_a=True)
        code = tf.linalg.matvec(modes.vectors, spread * (matched + precision[..., None] * turned))
        z = tf.reshape(code, [-1, basis.shape[0]]) @ basis
        certainty = size / tf.reduce_sum(spread * modes.share, [1, 2])[:, None]
        onward = tf.clip_by_value(certainty - precision, 1e-9 * first, 1e15 * first)
        return z, certainty, (certainty * z - precision * message) / onward, onward

    def unrest(linear, certainty, z):
        return tf.reduce_mean(certainty * (linear - z) ** 2, 1, keepdims=True)

    def exchange(i, moving, message, precision):
        linear, certainty, seen, onward = observe(message, precision)
        z, variance, _ = law.posterior(seen, 1 / onward)
        moving = tf.minimum(moving, tf.cast(unrest(linear, certainty, z) > tolerance, z.dtype))
        certainty = 1 / tf.reduce_mean(variance, 1, keepdims=True)
        new = tf.clip_by_value(certainty - onward, 1e-6 * first, 1e15 * first)
        message += damping * moving * ((certainty * z - onward * seen) / new - message)
        return i + 1, moving, message, precision * (new / precision) ** (damping * moving)

    def more(i, moving, *_):
        return tf.logical_and(i < iterations, tf.reduce_any(moving > 0))

    nothing = tf.zeros([tf.shape(y)[0], size], y.dtype)
    one = tf.ones_like(nothing[:, :1])
    *_, message, precision = tf.while_loop(more, exchange, (tf.constant(0), one, nothing, first * one))
    linear, certainty, seen, onward = observe(message, precision)
    z, variance, log_density = law.posterior(seen, 1 / onward)

    incoming = tf.reshape(tf.matmul(message, basis, transpose_b=True), tf.shape(matched))
    residual = y - tf.linalg.matvec(a, incoming)
    back = tf.linalg.matvec(modes.vectors, tf.linalg.matvec(a, residual, transpose_a=True), transpose_a=True)
    total = 1 / precision + 1 / onward
    evidence = (
        tf.reduce_sum(back**2 / (modes.values + precision[..., None]), [1, 2])
        - tf.reduce_sum(residual**2, [1, 2])
        - tf.reduce_sum(tf.math.log1p(modes.values / precision[..., None]), [1, 2])
        + tf.reduce_sum(2 * log_density + tf.math.log(total) + (seen - message) ** 2 / total, 1)
        - size * tf.math.log1p(unrest(linear, certainty, z)[:, 0])
    )
    return z, variance, evidence / 2
