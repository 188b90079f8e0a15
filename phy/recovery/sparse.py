"""Sparse recovery over all resource elements of an example at once, in the basis of a `CodePrior`.

The unknowns are the coefficients z of the centred code, c = μ + U z. A resource element sees its numbers of c through
its own matrix, hence the whole observation is a block-diagonal matrix times U. All three solvers take observations with
unit noise. Without a prior, `CodePrior.white` takes its place: the basis is then the code's own coordinates.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.recovery.linear import effective_channel, scaled_channel
from phy.recovery.prior import CodePrior, pad_rows, to_rows, whitened


class BlockOperator:
    """Small blocks on the diagonal times a basis: the whole matrix A is never formed.

    Parameters
    ----------
    blocks : tf.Tensor, [batch, num_res, rows, reals], real
    basis : tf.Tensor, [num_res * reals, size], real

    Attributes
    ----------
    energy : tf.Tensor, [batch, size]
        Squared norms of the columns of A.
    """

    def __init__(self, blocks, basis):
        self._num_res, self._rows, self._reals = blocks.shape[1:]
        size, gram = basis.shape[1], tf.matmul(blocks, blocks, transpose_a=True)
        # resource elements last: sums over a block then run over long rows
        self._blocks, self._gram = tf.transpose(blocks, [0, 2, 3, 1]), tf.transpose(gram, [0, 2, 3, 1])
        parts = tf.transpose(tf.reshape(basis, [self._num_res, self._reals, size]), [1, 0, 2])
        self._basis = tf.reshape(parts, [self._reals * self._num_res, size])
        self._basis_t = tf.transpose(self._basis)
        first, second = np.tril_indices(self._reals)  # the Gram matrices are symmetric
        twice = tf.constant(2.0 - (first == second), basis.dtype)[:, None, None]
        pairs = tf.reshape(twice * tf.gather(parts, first) * tf.gather(parts, second), [-1, size])
        gram = tf.reshape(self._gram, [-1, self._reals**2, self._num_res])
        gram = tf.gather(gram, self._reals * first + second, axis=1)
        self.energy = tf.reshape(gram, [-1, pairs.shape[0]]) @ pairs

    def adjoint(self, r):
        """A^T r, [batch, size], for r of shape [batch, num_res * rows]."""
        r = tf.linalg.matrix_transpose(tf.reshape(r, [-1, self._num_res, self._rows]))
        return self._to_coefficients(tf.reduce_sum(self._blocks * r[:, :, None], 1))

    def normal(self, z):
        """A^T A z, [batch, size]: one product with each of the small Gram matrices."""
        return self._seen(z @ self._basis_t)

    def normal_columns(self, chosen):
        """One column of A^T A for each example, [batch, size]."""
        return self._seen(tf.gather(self._basis_t, chosen))

    def _seen(self, code):
        code = tf.reshape(code, [-1, 1, self._reals, self._num_res])
        return self._to_coefficients(tf.reduce_sum(self._gram * code, 2))

    def _to_coefficients(self, code):
        return tf.reshape(code, [-1, self._reals * self._num_res]) @ self._basis


def omp(operator, y, *, max_terms: int, tolerance: float = 0.0):
    r"""Orthogonal matching pursuit: take the column most like the residual, project, repeat.

    Columns are compared by their normalised correlation. The orthonormal directions q that the chosen ones span are
    never formed. A column of :math:`A^T A` holds the products of the new column with those before, and the combination
    of columns that makes q also makes :math:`A^T q`, by which the correlations change. :math:`A^T A` squares the
    condition number. For that reason a column is passed over if it is a combination of the chosen ones within the root
    of the precision, and the coefficients are refined once by the remaining correlations.

    Parameters
    ----------
    operator : BlockOperator
    y : tf.Tensor, [batch, rows], real
    max_terms : int
    tolerance : float
        Residual energy at which an example is done.

    Returns
    -------
    z : tf.Tensor, [batch, size]
    spread : tf.Tensor, [batch, size]
        Diagonal of the inverse Gram matrix of the chosen columns, 0 elsewhere.

    Source: Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, "Orthogonal matching pursuit", Asilomar 1993; R. Rubinstein,
    M. Zibulevsky, M. Elad, "Efficient implementation of the K-SVD algorithm using batch orthogonal matching pursuit",
    Technion CS-2008-08.
    """
    matched, size, tiny = operator.adjoint(y), operator.energy.shape[1], tf.constant(1e-30, y.dtype)
    least = np.sqrt(np.finfo(y.dtype.as_numpy_dtype).eps)  # share of a column's energy that has to be new
    batch, weight = tf.shape(y)[0], tf.math.rsqrt(tf.maximum(operator.energy, tiny))
    columns = tf.zeros([batch, max_terms], tf.int64)  # in order of choice
    nothing = tf.zeros([batch, max_terms], y.dtype)
    made = tf.zeros([batch, 0, size + max_terms], y.dtype)  # A^T q, and q in terms of the columns in order of choice

    def more(step, left, *_):
        return tf.logical_and(step < max_terms, tf.reduce_any(left > tolerance))

    def add(step, left, likeness, weight, columns, z, spread, made):
        chosen = tf.argmax(tf.abs(likeness) * weight, 1)[:, None]
        position = tf.one_hot(step, max_terms, dtype=y.dtype)
        new = tf.concat([operator.normal_columns(chosen[:, 0]), tf.broadcast_to(position, tf.shape(z))], 1)
        new -= tf.linalg.matvec(made, tf.gather(made, chosen, axis=2, batch_dims=1)[..., 0], transpose_a=True)
        energy, whole = (tf.gather(part, chosen, axis=1, batch_dims=1) for part in (new, operator.energy))
        counts = tf.cast(tf.logical_and(left > tolerance, energy > tiny + least * whole), y.dtype)
        norm = tf.math.rsqrt(tf.maximum(energy, tiny)) * counts
        projection, new = norm * tf.gather(likeness, chosen, axis=1, batch_dims=1), norm * new
        recipe = new[:, size:]
        return (
            step + 1,
            left - projection**2,
            likeness - projection * new[:, :size],
            weight * tf.one_hot(chosen[:, 0], size, on_value=0, off_value=1, dtype=y.dtype),  # never again
            columns + chosen * tf.cast(position, tf.int64),
            z + projection * recipe,
            spread + recipe**2,
            tf.concat([made, new[:, None]], 1),
        )

    start = (tf.constant(0), tf.reduce_sum(y**2, 1, keepdims=True), matched, weight, columns, nothing, nothing, made)
    shapes = (*(part.shape for part in start[:7]), tf.TensorShape([None, None, size + max_terms]))
    *_, columns, z, spread, made = tf.while_loop(more, add, start, shape_invariants=shapes)
    index = tf.stack([tf.broadcast_to(tf.range(batch, dtype=tf.int64)[:, None], tf.shape(columns)), columns], 2)

    def scattered(terms):
        return tf.scatter_nd(index, terms, tf.cast(tf.stack([batch, size]), tf.int64))

    recipes = made[:, :, size:]
    missed = tf.gather(matched - operator.normal(scattered(z)), columns, axis=1, batch_dims=1)
    z += tf.linalg.matvec(recipes, tf.linalg.matvec(recipes, missed), transpose_a=True)
    return scattered(z), scattered(spread)


def fista(operator, y, *, penalty, step, iterations: int):
    r"""Minimise :math:`\tfrac12 \|A z - y\|^2 + \sum_i \lambda_i |z_i|` by accelerated proximal gradient steps.

    Parameters
    ----------
    operator : BlockOperator
    y : tf.Tensor, [batch, rows], real
    penalty : tf.Tensor, broadcastable to [batch, size]
        The weights λ.
    step : tf.Tensor, [batch, 1]
        Not above the inverse of the largest eigenvalue of A^T A.
    iterations : int

    Returns
    -------
    z : tf.Tensor, [batch, size]

    Source: A. Beck, M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems",
    SIAM J. Imaging Sci. 2(1), 2009.
    """
    momentum = [1.0]
    for _ in range(iterations):
        momentum.append((1 + np.sqrt(1 + 4 * momentum[-1] ** 2)) / 2)
    reach = tf.constant([(m - 1) / following for m, following in pairwise(momentum)], y.dtype)

    matched, threshold = operator.adjoint(y), penalty * step

    def improve(i, z, ahead):
        moved = ahead - step * (operator.normal(ahead) - matched)
        new = moved - tf.clip_by_value(moved, -threshold, threshold)
        return i + 1, new, new + reach[i] * (new - z)

    start = tf.zeros_like(matched)
    return tf.while_loop(lambda i, *_: i < iterations, improve, (tf.constant(0), start, start))[1]


def vamp(values, vectors, share, matched, basis, law, *, iterations: int):
    r"""Vector approximate message passing between the block-diagonal observation and independent coefficients.

    One half is the linear MMSE estimate of the code for white Gaussian messages. The basis is orthonormal, hence it
    needs only the eigenvalues of each resource element's own small Gram matrix, for any number of coefficients. The
    other half is the posterior mean of each coefficient under its two-Gaussian law.

    Parameters
    ----------
    values, vectors : tf.Tensor, [batch, num_res, reals], [batch, num_res, reals, reals]
        Eigenvalues and eigenvectors of the noise-weighted Gram matrices.
    share : tf.Tensor, [batch, num_res, reals]
        Energy of each eigenvector on numbers in use; the last resource element may carry fewer.
    matched : tf.Tensor, [batch, num_res, reals]
        Matched filter of the centred code.
    basis : tf.Tensor, [size, num_res * reals]
        Transposed, orthonormal rows.
    law : tuple of tf.Tensor, [size]
        Activity, wide and narrow variance.
    iterations : int

    Returns
    -------
    z, variance : tf.Tensor, [batch, size]

    Source: S. Rangan, P. Schniter, A. K. Fletcher, "Vector approximate message passing", IEEE Trans. Inf. Theory
    65(10), 2019.
    """
    activity, wide, narrow = law
    size = basis.shape[0]
    projected = tf.linalg.matvec(vectors, matched, transpose_a=True)
    low, high = 1e-6, 1e8

    def exchange(i, message, precision, *_):
        incoming = tf.reshape(message @ basis, tf.shape(matched))
        spread = 1 / (values + precision[..., None])
        weighted = projected + precision[..., None] * tf.linalg.matvec(vectors, incoming, transpose_a=True)
        code = tf.reshape(tf.linalg.matvec(vectors, spread * weighted), [-1, basis.shape[1]])
        certainty = size / tf.reduce_sum(spread * share, [1, 2])[:, None]
        onward = tf.clip_by_value(certainty - precision, low, high)
        message = (certainty * tf.matmul(code, basis, transpose_b=True) - precision * message) / onward
        z, variance = _posterior(message, 1 / onward, *law)
        certainty = 1 / tf.reduce_mean(variance, 1, keepdims=True)
        precision = tf.clip_by_value(certainty - onward, low, high)
        return i + 1, (certainty * z - onward * message) / precision, precision, z, variance

    nothing = tf.zeros([tf.shape(matched)[0], size], matched.dtype)
    precision = tf.ones_like(nothing[:, :1]) / tf.reduce_mean(activity * wide + (1 - activity) * narrow)
    start = (tf.constant(0), nothing, precision, nothing, nothing)
    return tf.while_loop(lambda i, *_: i < iterations, exchange, start)[3:]


def expected_variance(values, share, variances):
    """Error variance of each coefficient as state evolution predicts it for Gaussian coefficients.

    Parameters
    ----------
    values, share : see `vamp`
    variances : tf.Tensor, [size]

    Returns
    -------
    tf.Tensor, [batch, size]
    """
    size = variances.shape[0]
    precision = tf.ones_like(values[:, 0, :1]) / tf.reduce_mean(variances)
    posterior = variances
    for _ in range(8):
        spread = tf.reduce_sum(share / (values + precision[..., None]), [1, 2])[:, None]
        onward = tf.maximum(size / spread - precision, 1e-6)
        posterior = 1 / (1 / variances + onward)
        precision = tf.maximum(1 / tf.reduce_mean(posterior, 1, keepdims=True) - onward, 1e-6)
    return posterior


class Coefficients(NamedTuple):
    """Everything that a solver knows of the coefficients before anything is received.

    Attributes
    ----------
    basis : tf.Tensor, [num_res * reals, size]
        Orthonormal columns.
    variances : tf.Tensor, [size]
    law : tuple of tf.Tensor, [size]
        Activity, wide and narrow variance; see `CodePrior`.
    used : tf.Tensor, [num_res, 1, reals]
        1 where a resource element carries a number, 0 where the last one is empty.
    """

    basis: tf.Tensor
    variances: tf.Tensor
    law: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    used: tf.Tensor

    def modes(self, a):
        """Eigenvalues and eigenvectors of the Gram matrices of `a`, and the eigenvectors' energy on numbers in use."""
        values, vectors = tf.linalg.eigh(tf.matmul(a, a, transpose_a=True))
        return tf.nn.relu(values), vectors, tf.reduce_sum(vectors**2 * tf.linalg.matrix_transpose(self.used), 2)


def solve_omp(a, y, coefficients: Coefficients):
    """Take terms by `omp` until the residual is no larger than the noise.

    Parameters
    ----------
    a : tf.Tensor, [batch, num_res, rows, reals], real
        Matrices of the resource elements, for unit noise.
    y : tf.Tensor, [batch, num_res, rows], real
        Observations of the centred code.
    coefficients : Coefficients

    Returns
    -------
    z, variance : tf.Tensor, [batch, size]
        Coefficients and their error variance.
    """
    rows = y.shape[1] * y.shape[2]
    operator, y = BlockOperator(a, coefficients.basis), tf.reshape(y, [-1, rows])
    z, spread = omp(operator, y, max_terms=min(rows, coefficients.basis.shape[1]) // 2, tolerance=float(rows))
    values, _, share = coefficients.modes(a)
    return z, tf.where(spread > 0, spread, expected_variance(values, share, coefficients.variances))


def solve_fista(a, y, coefficients: Coefficients):
    """Posterior mode for Laplace coefficients, by `fista`; arguments and results as for `solve_omp`."""
    energy = tf.reduce_sum(a**2, [2, 3])  # of a block: at least its largest eigenvalue
    step = 1 / tf.reduce_max(energy, 1, keepdims=True)
    operator, y = BlockOperator(a, coefficients.basis), tf.reshape(y, [-1, y.shape[1] * y.shape[2]])
    z = fista(operator, y, penalty=tf.sqrt(2 / coefficients.variances), step=step, iterations=200)
    values, _, share = coefficients.modes(a)
    return z, expected_variance(values, share, coefficients.variances)


def solve_vamp(a, y, coefficients: Coefficients):
    """Posterior mean under the two-Gaussian laws, by `vamp`; arguments and results as for `solve_omp`."""
    matched = tf.linalg.matvec(a, y, transpose_a=True)
    return vamp(*coefficients.modes(a), matched, tf.transpose(coefficients.basis), coefficients.law, iterations=15)


class SparseRecovery:
    """Recover the coefficients of a code in the basis of its prior.

    The error variance of `solve_vamp` is its own posterior variance. That of `solve_fista`, and of the terms that
    `solve_omp` left out, is the one of Gaussian coefficients with the same variances. These are approximations, within
    a factor of two where the tests measure them.

    Parameters
    ----------
    grid : TokenGrid
    prior : CodePrior
    solve : callable
        One of `solve_omp`, `solve_fista`, `solve_vamp`.
    noisy_channel : bool
        See `LinearRecovery`.
    dtype : tf.DType, real
    """

    def __init__(self, *, grid, prior: CodePrior, solve, noisy_channel: bool, dtype: tf.DType):
        self._grid, self._solve, self._noisy_channel = grid, solve, noisy_channel
        self._mean = tf.constant(pad_rows(prior.mean.reshape(-1, 1), grid)[:, 0], dtype)
        used = pad_rows(np.ones((prior.mean.size, 1)), grid)
        self._coefficients = Coefficients(
            basis=tf.constant(pad_rows(prior.basis, grid), dtype),
            variances=tf.constant(prior.variances, dtype),
            law=tuple(tf.constant(part, dtype) for part in (prior.activity, prior.wide, prior.narrow)),
            used=tf.constant(used.reshape(grid.num_res, 1, grid.reals_per_re), dtype),
        )

    def __call__(self, y, h_hat, err_var, no):
        """Recover the transmitted reals; arguments and results as for `LinearRecovery`."""
        gain, no_real = effective_channel(err_var, no, noisy_channel=self._noisy_channel)
        a, y = whitened(y, scaled_channel(h_hat, gain), no_real, self._grid)
        a *= self._grid.scale * self._coefficients.used  # acts on codes now
        y -= tf.linalg.matvec(a, tf.reshape(self._mean, [self._grid.num_res, -1]))
        z, variance = self._solve(a, y, self._coefficients)
        basis, scale = self._coefficients.basis, self._grid.scale
        flat = self._mean + tf.matmul(z, basis, transpose_b=True)
        spread = tf.matmul(variance, basis**2, transpose_b=True)
        return scale * to_rows(flat, self._grid), scale**2 * to_rows(spread, self._grid)


def _posterior(message, noise, activity, wide, narrow):
    """Mean and variance of coefficients seen as `message` in Gaussian noise."""
    total_wide, total_narrow = wide + noise, narrow + noise
    log_odds = tf.math.log(activity / (1 - activity)) - 0.5 * tf.math.log(total_wide / total_narrow)
    member = tf.sigmoid(log_odds + 0.5 * message**2 * (1 / total_narrow - 1 / total_wide))
    gain_wide, gain_narrow = wide / total_wide, narrow / total_narrow
    mean = (member * gain_wide + (1 - member) * gain_narrow) * message
    second = member * (gain_wide * noise + (gain_wide * message) ** 2)
    second += (1 - member) * (gain_narrow * noise + (gain_narrow * message) ** 2)
    return mean, tf.maximum(second - mean**2, 1e-12)
