"""Statistics of training codes, and the linear MMSE recovery that uses them."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import tensorflow as tf

from phy.recovery.linear import effective_channel, real_matrix, scaled_channel

MAX_SIZE = 4096  # numbers per example; a larger covariance does not fit into memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CodePrior:
    """Mean, covariance and a sparsifying basis of codes, learned from training codes only.

    Attributes
    ----------
    mean : np.ndarray, [num_tokens, width]
    covariance : np.ndarray, [size, size], size = num_tokens * width
    basis : np.ndarray, [size, size]
        Orthonormal columns in which the centred codes are as sparse as they get.
    activity, wide, narrow : np.ndarray, [size]
        Law of each coefficient in that basis: zero-mean Gaussian of variance `wide` with probability `activity`, else
        of variance `narrow`.
    """

    mean: np.ndarray
    covariance: np.ndarray
    basis: np.ndarray
    activity: np.ndarray
    wide: np.ndarray
    narrow: np.ndarray

    @classmethod
    def fit(cls, codes, *, basis: str = "pca") -> "CodePrior":
        r"""Learn from codes of the training split.

        The covariance is the sample covariance S shrunk towards a multiple of the identity, :math:`(1 - \rho) S +
        \rho \operatorname{tr}(S) / d \, I`, with the oracle-approximating ρ. It stays invertible with fewer examples
        than numbers.

        Parameters
        ----------
        codes : array, [examples, num_tokens, width]
        basis : {"pca", "dictionary"}
            Eigenvectors of the covariance, or an orthonormal dictionary fitted to keep the codes in few coefficients.

        Raises
        ------
        ValueError
            If there are fewer than two examples, too many numbers per example, or NaN among them.

        Source: Y. Chen et al., "Shrinkage algorithms for MMSE covariance estimation", IEEE Trans. Signal Process.
        58(10), 2010, equation 23; C. Bao, J.-F. Cai, H. Ji, "Fast sparsity-based orthogonal dictionary learning for
        image restoration", ICCV 2013.
        """
        codes = np.asarray(codes, np.float64)
        if codes.ndim != 3 or len(codes) < 2:
            raise ValueError(f"codes must have shape [examples >= 2, num_tokens, width], got {codes.shape}")
        if basis not in ("pca", "dictionary"):
            raise ValueError(f"basis must be one of pca, dictionary; got {basis!r}")
        if not np.isfinite(codes).all():
            raise ValueError("codes hold NaN or infinite values; check the encoder that made them")
        flat = codes.reshape(len(codes), -1)
        _check_size(flat.shape[1])
        mean = flat.mean(0)
        centred = flat - mean
        covariance = _shrunk_covariance(centred)
        columns = np.linalg.eigh(covariance)[1][:, ::-1]
        if basis == "dictionary":
            columns = _orthonormal_dictionary(centred, columns)
        activity, wide, narrow = _two_gaussians(centred @ columns)
        return cls(
            mean=mean.reshape(codes.shape[1:]),
            covariance=covariance,
            basis=columns,
            activity=activity,
            wide=wide,
            narrow=narrow,
        )

    @classmethod
    def white(cls, num_tokens: int, width: int) -> "CodePrior":
        """Prior before any code was seen: mean zero, unit variance, the codes' own coordinates as basis.

        The law of a number is one Gaussian, hence `vamp` is no better than the linear estimate. `omp` and `fista` look
        for few, or small, numbers under any law.

        Raises
        ------
        ValueError
            If there are too many numbers per example.
        """
        size = num_tokens * width
        _check_size(size)
        one = np.ones(size)
        return cls(
            mean=np.zeros((num_tokens, width)),
            covariance=np.eye(size),
            basis=np.eye(size),
            activity=one / 2,
            wide=one,
            narrow=one,
        )

    @property
    def variances(self) -> np.ndarray:
        """Variance of each coefficient."""
        return self.activity * self.wide + (1 - self.activity) * self.narrow

    def save(self, path: str | Path) -> None:
        """Write to a NumPy archive without pickled objects."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> "CodePrior":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return cls(**{field.name: archive[field.name] for field in fields(cls)})


def best_terms_error(coefficients: np.ndarray, num_terms: int) -> float:
    """Share of the energy outside the `num_terms` largest coefficients of each example."""
    energy = np.sort(np.asarray(coefficients, np.float64) ** 2, -1)
    return float(energy[..., : energy.shape[-1] - num_terms].sum() / energy.sum())


def gini(coefficients: np.ndarray) -> float:
    """Gini index of the magnitudes, averaged over examples: 0 for equal ones, towards 1 for a single one.

    Source: N. Hurley, S. Rickard, "Comparing measures of sparsity", IEEE Trans. Inf. Theory 55(10), 2009.
    """
    size = np.sort(np.abs(np.asarray(coefficients, np.float64)), -1)
    n = size.shape[-1]
    rank = (n - np.arange(1, n + 1) + 0.5) / n
    return float(np.mean(1 - 2 * (size * rank).sum(-1) / size.sum(-1)))


class PriorRecovery:
    r"""Linear MMSE over all resource elements of an example at once, with the mean and covariance of a `CodePrior`.

    With the covariance :math:`F F^T`, the noise-weighted Gram matrices G of the resource elements as one block-diagonal
    matrix and the matched filter b,

    .. math:: \hat c = \mu + F (I + F^T G F)^{-1} F^T (b - G \mu), \qquad
        \operatorname{cov} = F (I + F^T G F)^{-1} F^T

    Parameters
    ----------
    grid : TokenGrid
    prior : CodePrior
    noisy_channel : bool
        See `LinearRecovery`.
    unbiased : bool
        Whether to undo the shrinkage of each number towards its mean.
    dtype : tf.DType, real
    """

    def __init__(self, *, grid, prior: CodePrior, noisy_channel: bool, unbiased: bool, dtype: tf.DType):
        self._grid, self._noisy_channel, self._unbiased = grid, noisy_channel, unbiased
        values, vectors = np.linalg.eigh(prior.covariance)
        factor = vectors * np.sqrt(np.maximum(values, 0))
        self._factor = tf.constant(grid.scale * pad_rows(factor, grid), dtype)  # [num_res * reals_per_re, size]
        self._mean = tf.constant(grid.scale * pad_rows(prior.mean.reshape(-1, 1), grid)[:, 0], dtype)
        self._variance = tf.constant(grid.scale**2 * pad_rows(np.diag(prior.covariance)[:, None], grid)[:, 0], dtype)

    def __call__(self, y, h_hat, err_var, no):
        """Recover the transmitted reals; arguments and results as for `LinearRecovery`."""
        gain, no_real = effective_channel(err_var, no, noisy_channel=self._noisy_channel)
        a, y = whitened(y, scaled_channel(h_hat, gain), no_real, self._grid)
        gram, matched = tf.matmul(a, a, transpose_a=True), tf.linalg.matvec(a, y, transpose_a=True)

        def solve(example):
            gram, matched = example
            factor = tf.reshape(self._factor, [self._grid.num_res, self._grid.reals_per_re, -1])
            weighted = tf.reshape(gram @ factor, tf.shape(self._factor))
            mean = tf.reshape(self._mean, tf.shape(matched))
            residual = tf.reshape(matched - tf.linalg.matvec(gram, mean), [-1, 1])
            size = tf.shape(self._factor)[1]
            inner = tf.eye(size, dtype=gram.dtype) + tf.matmul(self._factor, weighted, transpose_a=True)
            lower = tf.linalg.cholesky(inner)
            half = tf.linalg.triangular_solve(lower, tf.transpose(self._factor))
            estimate = self._mean + tf.linalg.matvec(half, (half @ residual)[:, 0], transpose_a=True)
            return estimate, tf.reduce_sum(half**2, 0)

        flat, variance = tf.map_fn(solve, (gram, matched), fn_output_signature=(gram.dtype, gram.dtype))
        if self._unbiased:
            kept = tf.maximum(1 - tf.math.divide_no_nan(variance, self._variance), 1e-6)
            flat, variance = self._mean + (flat - self._mean) / kept, variance / kept
        return to_rows(flat, self._grid), to_rows(variance, self._grid)


def whitened(y, h, no_real, grid):
    """Real observations with unit noise: matrices [batch, num_res, rows, reals] and vectors [batch, num_res, rows]."""
    a = real_matrix(h, num_reals=grid.reals_per_re) / tf.sqrt(no_real)[:, None, None]
    a = tf.transpose(a, [0, 3, 1, 2])
    y = tf.transpose(tf.concat([tf.math.real(y), tf.math.imag(y)], 0) / tf.sqrt(no_real), [1, 2, 0])
    return a, y


def pad_rows(matrix, grid):
    """Rows for the numbers of an example; rows of zeros fill the last resource element."""
    padded = np.zeros((grid.num_res * grid.reals_per_re, matrix.shape[1]))
    padded[: len(matrix)] = matrix
    return padded


def to_rows(flat, grid):
    """[batch, num_res * reals_per_re] to [reals_per_re, batch, num_res]."""
    return tf.transpose(tf.reshape(flat, [-1, grid.num_res, grid.reals_per_re]), [2, 0, 1])


def _check_size(size):
    if size > MAX_SIZE:
        raise ValueError(f"a prior over {size} numbers per example is too large, the limit is {MAX_SIZE}")


def _shrunk_covariance(centred):
    n, size = centred.shape
    sample = centred.T @ centred / n
    trace, square = np.trace(sample), np.sum(sample**2)
    spread = square - trace**2 / size
    above = (1 - 2 / size) * square + trace**2
    below = (n + 1 - 2 / size) * spread
    rho = 1.0 if below <= above else above / below
    return (1 - rho) * sample + rho * trace / size * np.eye(size)


def _orthonormal_dictionary(centred, columns, rounds=30):
    """Alternate between keeping large coefficients and the rotation that fits them best."""
    for _ in range(rounds):
        coefficients = centred @ columns
        threshold = 1.5 * np.sqrt(np.mean(coefficients**2))
        kept = np.where(np.abs(coefficients) > threshold, coefficients, 0)
        left, _, right = np.linalg.svd(centred.T @ kept)
        columns = left @ right
    return columns


def _two_gaussians(coefficients, rounds=40):
    """Expectation maximisation for a mixture of a wide and a narrow zero-mean Gaussian, for each coefficient."""
    squares = coefficients[: 2**13] ** 2
    power = np.maximum(squares.mean(0), 1e-12)
    activity, wide, narrow = np.full_like(power, 0.5), 1.5 * power, 0.5 * power
    for _ in range(rounds):
        odds = (1 - activity) / activity * np.sqrt(wide / narrow)
        member = 1 / (1 + odds * np.exp(np.minimum(squares * (0.5 / wide - 0.5 / narrow), 0)))
        activity = np.clip(member.mean(0), 0.01, 0.99)
        wide = np.maximum((member * squares).mean(0) / activity, 1e-4 * power)
        narrow = np.maximum(((1 - member) * squares).mean(0) / (1 - activity), 1e-4 * power)
        wide, narrow = np.maximum(wide, narrow), np.minimum(wide, narrow)
    return activity, wide, narrow
