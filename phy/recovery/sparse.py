"""Sparse recovery over all resource elements of an example at once, in the basis of a `CodePrior`.

The unknowns are the coefficients z of the centred code, c = μ + U z. A resource element sees its numbers of c through
its own matrix, hence the whole observation is a block-diagonal matrix times U. All three solvers take observations with
unit noise. Without a prior, `CodePrior.white` takes its place: the basis is then the code's own coordinates.

A solver can be wrong: its law of the coefficients may not be that of the codes, or it may not converge. For this reason
`SparseRecovery` also computes the linear estimate, and takes of the solver's what the observations support.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.recovery.prior import CodePrior, GaussianPosterior, Observer, pad_rows, to_rows
from phy.recovery.vamp import Law, Modes, vamp


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


class Terms(NamedTuple):
    """Terms that `pursue` chose, and their least-squares coefficients.

    Attributes
    ----------
    columns : tf.Tensor, [batch, max_terms], int64
        In order of choice; 0 where none was.
    z : tf.Tensor, [batch, max_terms]
    recipes : tf.Tensor, [batch, steps, max_terms]
        Orthonormal directions in terms of the columns: the inverse Gram matrix of these is R^T R.
    size : int
        Number of coefficients to choose from.
    """

    columns: tf.Tensor
    z: tf.Tensor
    recipes: tf.Tensor
    size: int

    def scatter(self, parts):
        """Put what belongs to terms, [batch, max_terms], into [batch, size]."""
        batch = tf.shape(self.columns, tf.int64)[0]
        rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(self.columns))
        return tf.scatter_nd(tf.stack([rows, self.columns], 2), parts, [batch, self.size])

    def shrunk(self, variances):
        r"""Posterior mean of coefficients with zero mean and these variances, [size], float64.

        With the inverse Gram matrix P and the variances V it is :math:`V (V + P)^{-1}` times the least-squares ones.
        """
        variances, recipes = tf.gather(variances, self.columns), tf.cast(self.recipes, tf.float64)
        inner = tf.matmul(recipes, recipes, transpose_a=True) + tf.linalg.diag(variances)
        z = tf.linalg.cholesky_solve(tf.linalg.cholesky(inner), tf.cast(self.z, tf.float64)[..., None])
        return tf.cast(variances * z[..., 0], self.z.dtype)


def pursue(operator, y, *, max_terms: int, tolerance=0.0) -> Terms:
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
    tolerance : float or tf.Tensor, [batch, 1]
        Residual energy at which an example is done.

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

    def add(step, left, likeness, weight, columns, z, made):
        chosen = tf.argmax(tf.abs(likeness) * weight, 1)[:, None]
        position = tf.one_hot(step, max_terms, dtype=y.dtype)
        new = tf.concat([operator.normal_columns(chosen[:, 0]), tf.broadcast_to(position, tf.shape(z))], 1)
        new -= tf.linalg.matvec(made, tf.gather(made, chosen, axis=2, batch_dims=1)[..., 0], transpose_a=True)
        energy, whole = (tf.gather(part, chosen, axis=1, batch_dims=1) for part in (new, operator.energy))
        counts = tf.cast(tf.logical_and(left > tolerance, energy > tiny + least * whole), y.dtype)
        norm = tf.math.rsqrt(tf.maximum(energy, tiny)) * counts
        projection, new = norm * tf.gather(likeness, chosen, axis=1, batch_dims=1), norm * new
        return (
            step + 1,
            left - projection**2,
            likeness - projection * new[:, :size],
            weight * tf.one_hot(chosen[:, 0], size, on_value=0, off_value=1, dtype=y.dtype),  # never again
            columns + chosen * tf.cast(position, tf.int64),
            z + projection * new[:, size:],
            tf.concat([made, new[:, None]], 1),
        )

    start = (tf.constant(0), tf.reduce_sum(y**2, 1, keepdims=True), matched, weight, columns, nothing, made)
    shapes = (*(part.shape for part in start[:6]), tf.TensorShape([None, None, size + max_terms]))
    *_, columns, z, made = tf.while_loop(more, add, start, shape_invariants=shapes)
    terms = Terms(columns=columns, z=z, recipes=made[:, :, size:], size=size)
    missed = tf.gather(matched - operator.normal(terms.scatter(z)), columns, axis=1, batch_dims=1)
    return terms._replace(
        z=z + tf.linalg.matvec(terms.recipes, tf.linalg.matvec(terms.recipes, missed), transpose_a=True)
    )


def omp(operator, y, *, max_terms: int, tolerance=0.0):
    """`pursue` without a prior; the same arguments.

    Returns
    -------
    z : tf.Tensor, [batch, size]
        Least-squares coefficients of the chosen terms.
    spread : tf.Tensor, [batch, size]
        Diagonal of the inverse Gram matrix of the chosen columns, 0 elsewhere.
    """
    terms = pursue(operator, y, max_terms=max_terms, tolerance=tolerance)
    return terms.scatter(terms.z), terms.scatter(tf.reduce_sum(terms.recipes**2, 1))


def fista(operator, y, *, penalty, step, iterations: int, start=None):
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
    start : tf.Tensor, [batch, size], optional
        By default zero.

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

    start = tf.zeros_like(matched) if start is None else start
    return tf.while_loop(lambda i, *_: i < iterations, improve, (tf.constant(0), start, start))[1]


class Reference(NamedTuple):
    """What the observations say of the coefficients, by all that the prior knows: its covariance and its law.

    Attributes
    ----------
    linear, mean : tf.Tensor, [batch, size]
        The linear MMSE estimate, and the mean of it and of the one by `vamp`, each weighted by its probability.
    variance : tf.Tensor, [batch, num_res * reals]
        Error variance that the mean has, of the numbers of the code.
    """

    linear: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor


def solve_omp(a, y, basis, law: Law, reference: Reference):
    """Take terms by `omp` until the residual is no larger than noise or rounding; shrink them by their wide variance.

    Parameters
    ----------
    a, y : tf.Tensor, [batch, num_res, rows, reals], [batch, num_res, rows]
        See `Observer`; in the precision in which to solve.
    basis : tf.Tensor, [num_res * reals, size], same dtype
    law : Law
    reference : Reference

    Returns
    -------
    z : tf.Tensor, [batch, size]
        Coefficients.
    """
    del reference
    rows = y.shape[1] * y.shape[2]
    operator, y = BlockOperator(a, basis), tf.reshape(y, [-1, rows])
    rounding = 10 * np.finfo(y.dtype.as_numpy_dtype).eps * tf.reduce_sum(y**2, 1, keepdims=True)
    terms = pursue(
        operator, y, max_terms=-(-min(rows, basis.shape[1]) // 2), tolerance=tf.maximum(rounding, float(rows))
    )
    return terms.scatter(terms.shrunk(law.wide))


def solve_fista(a, y, basis, law: Law, reference: Reference):
    """Posterior mode for Laplace coefficients, by `fista`; arguments and results as for `solve_omp`.

    The penalty falls in four stages, from one under which nearly all coefficients are zero, to that of the noise, but
    not below 0.003 of the first. With less, the steps of a stage would no longer suffice: a weak penalty leaves the
    directions undecided that the observations leave undecided, and the more so the higher the SNR.
    """
    del reference
    energy = tf.reduce_sum(a**2, [2, 3])  # of a block: at least its largest eigenvalue
    step = 1 / tf.maximum(tf.reduce_max(energy, 1, keepdims=True), 1e-30)
    operator, y = BlockOperator(a, basis), tf.reshape(y, [-1, y.shape[1] * y.shape[2]])
    penalty = tf.cast(tf.sqrt(2 / law.variance), y.dtype)
    likeness = tf.sort(tf.abs(operator.adjoint(y)) / penalty, axis=1)
    first = 0.3 * likeness[:, likeness.shape[1] // 2, None]
    z = None
    for share in (1, 0.15, 0.02, 0.003):
        weight = penalty * tf.maximum(share * first, 1)
        z = fista(operator, y, penalty=weight, step=step, iterations=50, start=z)
    return z


def solve_vamp(a, y, basis, law: Law, reference: Reference):
    """Posterior mean: what the reference says; arguments and results as for `solve_omp`."""
    del a, y, basis, law
    return reference.mean


class SparseRecovery:
    r"""Recover the coefficients of a code in the basis of its prior, and know how wrong they are.

    Two models compete for each example: a Gaussian with the prior's covariance, whose posterior mean is the linear
    estimate, and independent coefficients with the prior's law, whose posterior `vamp` finds. The densities of the
    observations under both weigh their means; m is the weighted one, and the linear one :math:`z_0`. This reference
    judges the estimate z of a solver. It is taken over as far as it leads towards m,

    .. math:: \hat z = z_0 + t (z - z_0), \qquad
        t = \min(1, \max(0, \langle m - z_0, z - z_0 \rangle / \|z - z_0\|^2)),

    and the error variance is that of the reference plus the square of :math:`\hat z - m`. An estimate that the
    observations do not support leaves the linear one. With `solve_vamp` the estimate is m.

    Source: J. A. Hoeting et al., "Bayesian model averaging: a tutorial", Statistical Science 14(4), 1999.

    Parameters
    ----------
    grid : TokenGrid
    prior : CodePrior
    solve : callable
        One of `solve_omp`, `solve_fista`, `solve_vamp`.
    noisy_channel : bool
        See `LinearRecovery`.
    dtype : tf.DType, real
        Of the solver and the results; the reference is computed in double precision.
    """

    def __init__(self, *, grid, prior: CodePrior, solve, noisy_channel: bool, dtype: tf.DType):
        self._grid, self._solve, self._dtype = grid, solve, dtype
        self._observe = Observer(grid=grid, prior=prior, noisy_channel=noisy_channel)
        self._gaussian, self._law = GaussianPosterior(grid, prior), Law.of(prior)
        self._basis, self._basis_of_solver = (tf.constant(pad_rows(prior.basis, grid), t) for t in (tf.float64, dtype))
        used = pad_rows(np.ones((prior.mean.size, 1)), grid)
        self._used = tf.constant(used.reshape(grid.num_res, grid.reals_per_re), tf.float64)

    def __call__(self, y, h_hat, err_var, no):
        """Recover the transmitted reals; arguments and results as for `LinearRecovery`."""
        a, y = self._observe(y, h_hat, err_var, no)
        reference = self._refer(a, y)
        a, y = tf.cast(a, self._dtype), tf.cast(y, self._dtype)
        z = tf.cast(self._solve(a, y, self._basis_of_solver, self._law, reference), tf.float64)
        finite = tf.reduce_all(tf.math.is_finite(z), 1, keepdims=True)  # single precision overflows for huge codes
        whole, way = (part - reference.linear for part in (reference.mean, tf.where(finite, z, reference.linear)))
        share = tf.reduce_sum(whole * way, 1) / (tf.reduce_sum(way**2, 1) + 1e-200)
        z = reference.linear + tf.clip_by_value(share, 0, 1)[:, None] * way
        variance = reference.variance + self._code(z - reference.mean) ** 2
        flat, variance = tf.cast(self._observe.mean + self._code(z), self._dtype), tf.cast(variance, self._dtype)
        variance = tf.minimum(variance, 0.5 * self._dtype.max)  # squares of huge numbers overflow
        scale = self._grid.scale
        return scale * to_rows(flat, self._grid), scale**2 * to_rows(variance, self._grid)

    def _refer(self, a, y):
        gaussian = self._gaussian(a, y)
        linear = gaussian.flat @ self._basis
        z, spread, evidence = vamp(Modes.of(a, self._used), a, y, self._basis, self._law, iterations=50, damping=0.7)
        weight = tf.sigmoid(evidence - gaussian.evidence)[:, None]
        variance = weight * tf.matmul(spread, self._basis**2, transpose_b=True) + (1 - weight) * gaussian.variance
        variance += weight * (1 - weight) * self._code(z - linear) ** 2
        return Reference(linear, linear + weight * (z - linear), variance)

    def _code(self, z):
        return tf.matmul(z, self._basis, transpose_b=True)
