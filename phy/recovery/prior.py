"""Statistics of training codes, and the linear MMSE recovery that uses them."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.optimize import isotonic_regression

from phy.recovery.linear import effective_channel, real_matrix, scaled_channel

MAX_SIZE = 4096  # numbers per example; a larger covariance does not fit into memory
LEAST_VARIANCE = 1e-9  # of a direction over the mean one: training saw too little to be surer than that
MAX_SNR = 1e10  # of the received numbers; above it, solutions in double precision would be rounding errors


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

        The covariance has the eigenvectors of the sample covariance. Its eigenvalues are the variances of examples that
        had no part in the eigenvectors they are measured along, by tenfold cross-validation, made monotone. The sample
        eigenvalues would be too small where they are small, and the estimate of a code surer than it is. Folds are runs
        of consecutive examples: keep related ones, such as the codes of one image, together.

        The law of a coefficient is fitted to the same unseen examples for principal components, to all examples for a
        dictionary; its variance is that of the covariance.

        Parameters
        ----------
        codes : array, [examples, num_tokens, width]
        basis : {"pca", "dictionary"}
            Eigenvectors of the covariance, or an orthonormal dictionary fitted to keep the codes in few coefficients.

        Raises
        ------
        ValueError
            If there are fewer than two examples, too many numbers per example, or NaN among them.

        Source: D. Bartz, "Cross-validation based nonlinear shrinkage", arXiv:1611.00798, 2016; C. Bao, J.-F. Cai,
        H. Ji, "Fast sparsity-based orthogonal dictionary learning for image restoration", ICCV 2013.
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
        centred = flat - flat.mean(0)
        covariance, columns, coefficients = _principal_components(flat)
        if basis == "dictionary":
            columns = _orthonormal_dictionary(centred, columns)
            coefficients = centred @ columns
        activity, wide, narrow = _two_gaussians(coefficients)
        scale = np.sum(columns * (covariance @ columns), 0) / (activity * wide + (1 - activity) * narrow)
        return cls(
            mean=flat.mean(0).reshape(codes.shape[1:]),
            covariance=covariance,
            basis=columns,
            activity=activity,
            wide=scale * wide,
            narrow=scale * narrow,
        )

    @classmethod
    def gaussian(cls, mean, covariance) -> "CodePrior":
        """Prior of Gaussian codes, with the eigenvectors of their covariance as basis.

        Parameters
        ----------
        mean : array, [num_tokens, width]
        covariance : array, [size, size]
        """
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        _check_size(mean.size)
        if covariance.shape != (mean.size, mean.size) or not np.isfinite(covariance).all():
            raise ValueError(
                f"covariance must be finite, of shape {(mean.size, mean.size)} for codes of shape {mean.shape}; got "
                f"{covariance.shape}"
            )
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        values = np.maximum(values[::-1], 0)
        return cls(
            mean=mean,
            covariance=covariance,
            basis=vectors[:, ::-1],
            activity=np.ones(mean.size),
            wide=values,
            narrow=values,
        )

    @classmethod
    def white(cls, num_tokens: int, width: int) -> "CodePrior":
        """Prior before any code was seen: mean zero, unit variance, the codes' own coordinates as basis.

        The law of a number is a guess: one in five carries 84 % of the energy. `omp`, `fista` and `vamp` weigh it for
        each example against a Gaussian. A bolder guess finds no more and is surer of it than it should be.

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
            activity=0.2 * one,
            wide=4.2 * one,
            narrow=0.2 * one,
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
        """Read what `save` wrote, in double precision.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, or holds no prior; the message names the file.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no prior {path}")
        names = [field.name for field in fields(cls)]
        try:
            with zipfile.ZipFile(path) as archive:  # unpacked, no array exceeds the largest covariance
                if max(member.file_size for member in archive.infolist()) > 8 * MAX_SIZE**2 + 1024:
                    raise ValueError("an array in it is larger than any prior's")
            with np.load(path, allow_pickle=False) as archive:
                prior = cls(**{name: np.asarray(archive[name], np.float64) for name in names})
        except Exception as error:  # of zip, of zlib, of NumPy's header: whatever half a file looks like
            raise ValueError(f"{path} is no prior, or is damaged: {type(error).__name__}: {error}") from error
        if problem := prior._problem():
            raise ValueError(f"{path} holds no prior: {problem}; `tokenlink train prior` writes one")
        return prior

    def _problem(self) -> str:
        """Say which array cannot be that of a prior; empty if all can."""
        if self.mean.ndim != 2 or not 1 <= self.mean.size <= MAX_SIZE:
            return f"mean has shape {self.mean.shape}, it needs [num_tokens, width] of at most {MAX_SIZE} numbers"
        size = self.mean.size
        for name, shape in {"covariance": 2, "basis": 2, "activity": 1, "wide": 1, "narrow": 1}.items():
            if getattr(self, name).shape != (size,) * shape:
                return f"{name} has shape {getattr(self, name).shape}, it needs {(size,) * shape} as mean has"
        for field in fields(self):
            if not np.isfinite(getattr(self, field.name)).all():
                return f"{field.name} holds NaN or infinite values"
        scale = np.abs(self.covariance).max()
        if np.abs(self.covariance - self.covariance.T).max() > 1e-6 * scale or np.diag(self.covariance).min() < 0:
            return "covariance is not symmetric, or a variance in it is negative"
        if np.abs((self.basis**2).sum(0) - 1).max() > 1e-6:
            return "the columns of basis are not of length one"
        if min(self.activity.min(), 1 - self.activity.max(), self.wide.min(), self.narrow.min()) < 0:
            return "activity has to lie between 0 and 1, wide and narrow must not be negative"
        return ""


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
    """Linear MMSE over all resource elements of an example at once, with the mean and covariance of a `CodePrior`.

    Computed in double precision, in which no code of up to `MAX_SNR` meets a singular matrix.

    Parameters
    ----------
    grid : TokenGrid
    prior : CodePrior
    noisy_channel : bool
        See `LinearRecovery`.
    unbiased : bool
        Whether to undo the shrinkage of each number towards its mean.
    dtype : tf.DType, real
        Of the results.
    """

    def __init__(self, *, grid, prior: CodePrior, noisy_channel: bool, unbiased: bool, dtype: tf.DType):
        self._grid, self._unbiased, self._dtype = grid, unbiased, dtype
        self._observe = Observer(grid=grid, prior=prior, noisy_channel=noisy_channel)
        self._posterior = GaussianPosterior(grid, prior)

    def __call__(self, y, h_hat, err_var, no):
        """Recover the transmitted reals; arguments and results as for `LinearRecovery`."""
        estimate = self._posterior(*self._observe(y, h_hat, err_var, no))
        flat, variance = estimate.flat, estimate.variance
        if self._unbiased:
            flat, variance = flat / estimate.kept, variance / estimate.kept
        flat, variance = tf.cast(self._observe.mean + flat, self._dtype), tf.cast(variance, self._dtype)
        scale = self._grid.scale
        return scale * to_rows(flat, self._grid), scale**2 * to_rows(variance, self._grid)


class GaussianEstimate(NamedTuple):
    """Posterior of the centred numbers of a code, Gaussian by its prior.

    Attributes
    ----------
    flat, variance : tf.Tensor, [batch, num_res * reals_per_re]
    kept : tf.Tensor, same shape
        Share of each number that the mean of its estimate keeps.
    evidence : tf.Tensor, [batch]
        Logarithm of the density of the observations, up to a constant, for codes of the example's likeliest scale.
    """

    flat: tf.Tensor
    variance: tf.Tensor
    kept: tf.Tensor
    evidence: tf.Tensor


class GaussianPosterior:
    r"""Estimate the centred numbers of a code from observations with unit noise.

    With the prior's covariance C, the matrices of the resource elements as one block-diagonal A, and :math:`L L^T =
    A C A^T + I`,

    .. math:: \hat c = T^T L^{-1} y, \qquad \operatorname{cov} = C - T^T T, \qquad T = L^{-1} A C

    No inverse of C is needed: it may be singular. The factor is as large as the number of observations, which starved
    antennas make small.

    Parameters
    ----------
    grid : TokenGrid
    prior : CodePrior

    Source: S. M. Kay, *Fundamentals of Statistical Signal Processing: Estimation Theory*, 1993, chapter 12.
    """

    def __init__(self, grid, prior: CodePrior):
        covariance = pad_rows(pad_rows(prior.covariance, grid).T, grid)
        self._covariance = tf.constant(covariance.reshape(grid.num_res, grid.reals_per_re, -1), tf.float64)
        self._variance = tf.constant(np.diag(covariance), tf.float64)
        values, vectors = np.linalg.eigh(prior.covariance)
        precision = np.sum(vectors**2 / np.maximum(values, 1e-12 * values[-1] + 1e-300), 1)
        self._precision = tf.constant(pad_rows(precision[:, None], grid)[:, 0], tf.float64)

    def __call__(self, a, y) -> GaussianEstimate:
        """Estimate; `a` and `y` as `Observer` returns them."""
        num_res, rows, reals = a.shape[1:]
        size = num_res * rows

        def solve(example):
            a, y = example
            seen = tf.reshape(a @ self._covariance, [size, -1])  # A C
            inner = tf.einsum("nrj,rij->nri", tf.reshape(seen, [size, num_res, reals]), a)
            lower = tf.linalg.cholesky(tf.reshape(inner, [size, size]) + tf.eye(size, dtype=a.dtype))
            half, white = (tf.linalg.triangular_solve(lower, part) for part in (seen, tf.reshape(y, [size, 1])))
            # A loud or quiet example is no reason to doubt an estimate that hardly depends on loudness: what counts is
            # the density at the likeliest scale, less the price of a parameter.
            energy = tf.reduce_sum(white**2)
            fit = tf.minimum(energy, size * (1 + tf.math.log(tf.maximum(energy / size, 0.05))) + np.log(size))
            evidence = -tf.reduce_sum(tf.math.log(tf.linalg.diag_part(lower))) - fit / 2
            return tf.linalg.matvec(half, white[:, 0], transpose_a=True), tf.reduce_sum(half**2, 0), evidence

        flat, explained, evidence = tf.map_fn(solve, (a, y), fn_output_signature=(a.dtype,) * 3)
        # Rounding of the difference can take all of it. It cannot be less than with all other numbers known.
        energy = tf.reshape(tf.reduce_sum(a**2, 2), tf.shape(flat))
        variance = tf.maximum(self._variance - explained, tf.math.divide_no_nan(1.0, self._precision + energy))
        kept = tf.maximum(tf.math.divide_no_nan(explained, self._variance), 1e-6)
        return GaussianEstimate(flat, tf.where(self._variance > 0, variance, 0), kept, evidence)


class Observer:
    """Turn what is received into observations, with unit noise, of the centred numbers of a code.

    An example whose signal, channel or noise is not finite tells nothing: its matrices become zero, and every estimate
    from them the mean of the prior with the variance of the prior. This is the exact answer where noise has overflowed,
    the declared variance says so, and the other examples of a batch are not lost.

    Parameters
    ----------
    grid : TokenGrid
    prior : CodePrior
    noisy_channel : bool
        See `LinearRecovery`.

    Attributes
    ----------
    mean : tf.Tensor, [num_res * reals_per_re], float64
    """

    def __init__(self, *, grid, prior: CodePrior, noisy_channel: bool):
        self._grid, self._noisy_channel = grid, noisy_channel
        self.mean = tf.constant(pad_rows(prior.mean.reshape(-1, 1), grid)[:, 0], tf.float64)
        used = pad_rows(np.ones((prior.mean.size, 1)), grid)
        self._used = tf.constant(grid.scale * used.reshape(grid.num_res, 1, grid.reals_per_re), tf.float64)
        self._power = float(grid.scale**2 * np.trace(prior.covariance) / prior.mean.size)

    def __call__(self, y, h_hat, err_var, no):
        """Observe; arguments as for `LinearRecovery`.

        Returns
        -------
        a : tf.Tensor, [batch, num_res, rows, reals_per_re], float64
            No more rows than numbers: a factor of the Gram matrix stands for more of them.
        y : tf.Tensor, [batch, num_res, rows], float64
        """
        y, h_hat = tf.cast(y, tf.complex128), tf.cast(h_hat, tf.complex128)
        gain, no_real = effective_channel(
            tf.cast(err_var, tf.float64), tf.cast(no, tf.float64), noisy_channel=self._noisy_channel
        )
        a = tf.transpose(real_matrix(scaled_channel(h_hat, gain), num_reals=self._grid.reals_per_re), [0, 3, 1, 2])
        y = tf.transpose(tf.concat([tf.math.real(y), tf.math.imag(y)], 0), [1, 2, 0])
        received = self._power * tf.reduce_mean(tf.reduce_sum(a**2, 3), [1, 2])
        whitener = tf.math.rsqrt(tf.maximum(no_real, received[:, None] / MAX_SNR + 1e-200))[..., None]
        a, y = a * whitener[..., None], y * whitener
        finite = tf.reduce_all(tf.math.is_finite(a), [1, 2, 3]) & tf.reduce_all(tf.math.is_finite(y), [1, 2])
        a, y = tf.where(finite[:, None, None, None], a, 0) * self._used, tf.where(finite[:, None, None], y, 0)
        y -= tf.linalg.matvec(a, tf.reshape(self.mean, [self._grid.num_res, -1]))
        rows, reals = a.shape.as_list()[2:]
        return _fewest_rows(a, y) if rows > reals else (a, y)


def _fewest_rows(a, y):
    """Triangular matrices with the same Gram matrices, and observations to match."""
    gram, matched = tf.matmul(a, a, transpose_a=True), tf.linalg.matvec(a, y, transpose_a=True)
    least = 1e-14 * tf.linalg.trace(gram)[..., None, None] + 1e-200
    lower = tf.linalg.cholesky(gram + least * tf.eye(a.shape[3], dtype=a.dtype))
    return tf.linalg.matrix_transpose(lower), tf.linalg.triangular_solve(lower, matched[..., None])[..., 0]


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


def _principal_components(flat, folds=10):
    """Cross-validated covariance, its eigenvectors in falling order, and the coefficients of unseen examples."""
    n = len(flat)
    fold = np.arange(n) * min(folds, n) // n
    unseen = np.empty_like(flat)
    for k in range(fold[-1] + 1):
        seen = flat[fold != k]
        vectors = np.linalg.eigh(np.cov(seen.T, bias=True).reshape(flat.shape[1], -1))[1]
        unseen[fold == k] = (flat[fold == k] - seen.mean(0)) @ vectors
    values = isotonic_regression(np.mean(unseen**2, 0)).x
    values = np.maximum(values, LEAST_VARIANCE * values.mean())
    vectors = np.linalg.eigh(np.cov(flat.T, bias=True).reshape(flat.shape[1], -1))[1]
    return vectors * values @ vectors.T, vectors[:, ::-1], unseen[:, ::-1]


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
    power = squares.mean(0)
    power = np.maximum(power, LEAST_VARIANCE * power.mean() + 1e-30)
    activity, wide, narrow = np.full_like(power, 0.5), 1.5 * power, 0.5 * power
    for _ in range(rounds):
        odds = (1 - activity) / activity * np.sqrt(wide / narrow)
        member = 1 / (1 + odds * np.exp(np.minimum(squares * (0.5 / wide - 0.5 / narrow), 0)))
        activity = np.clip(member.mean(0), 0.01, 0.99)
        wide = np.maximum((member * squares).mean(0) / activity, 1e-4 * power)
        narrow = np.maximum(((1 - member) * squares).mean(0) / (1 - activity), 1e-4 * power)
        wide, narrow = np.maximum(wide, narrow), np.minimum(wide, narrow)
    return activity, wide, narrow
