"""Uncertainty of accuracies: Wilson intervals, exact McNemar tests, clusters, corrections for many tests."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit
from scipy.stats import binomtest


def wilson_interval(
    num_correct: ArrayLike, num_questions: ArrayLike, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    r"""Wilson score interval of a proportion.

    .. math:: \frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}

    Parameters
    ----------
    num_correct, num_questions : array_like of int, broadcastable
    confidence : float, between 0 and 1

    Returns
    -------
    low, high : numpy.ndarray, float64
        NaN where there are no questions.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    k, n = np.broadcast_arrays(np.asarray(num_correct, dtype=float), np.asarray(num_questions, dtype=float))
    if np.any((k < 0) | (k > n)):
        raise ValueError(f"num_correct must lie between 0 and num_questions, got {num_correct} of {num_questions}")
    z = ndtri(0.5 + confidence / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At k = 0 and k = n the limits are exactly 0 and 1; rounding would leave 1e-17 on the wrong side.
    return np.where(k == 0, 0.0, centre - half) + 0 * p, np.where(k == n, 1.0, centre + half) + 0 * p


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same questions and fades.

    Attributes
    ----------
    difference : accuracy of the first less that of the second
    low, high : 95 % interval of the difference, bootstrapped over images
    only_first, only_second : questions that only one of them answers right
    p_value : exact two-sided McNemar test of equal accuracy
    """

    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> tuple[int, int, float]:
    """Exact two-sided McNemar test on paired outcomes.

    Parameters
    ----------
    first, second : array_like of 0 and 1, [num_questions]

    Returns
    -------
    only_first, only_second : int
        Discordant pairs.
    p_value : float
        1 where there are none.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947.
    """
    first, second = _paired(first, second)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    discordant = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def cluster_bootstrap(
    values: ArrayLike, clusters: ArrayLike, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean whose samples come in clusters, such as the questions on one image.

    Whole clusters are drawn with replacement, as many as there are; the mean is over the drawn samples.

    Parameters
    ----------
    values : array_like, [num_samples]
    clusters : array_like, [num_samples]
        Label of the cluster that each sample belongs to.
    confidence : float, between 0 and 1
    num_resamples : int
    seed : int

    Returns
    -------
    low, high : float

    Source: A. C. Davison and D. V. Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8.
    """
    values, clusters = np.asarray(values, dtype=float), np.asarray(clusters)
    if values.shape != clusters.shape or values.ndim != 1 or not len(values):
        raise ValueError(
            f"values and clusters must be equally long lists, got shapes {values.shape} and {clusters.shape}"
        )
    _, label = np.unique(clusters, return_inverse=True)
    total, size = np.bincount(label, weights=values), np.bincount(label)
    num_clusters = len(size)
    times_drawn = np.random.default_rng(seed).multinomial(
        num_clusters, np.full(num_clusters, 1 / num_clusters), num_resamples
    )  # [num_resamples, num_clusters]
    means = times_drawn @ total / (times_drawn @ size)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def clustered_variance(values: ArrayLike, levels: Sequence[ArrayLike]) -> float:
    r"""Variance of a mean whose samples share what belongs to one image, to one fade or to one training.

    Levels may be nested, such as fades of one question each within images, or crossed, such as trainings and images.
    With G the labels of the levels in a set S taken together, and :math:`r_i` a sample less the mean,

    .. math:: V = \sum_{S \ne \emptyset} (-1)^{|S| + 1} V_S, \qquad
        V_S = \frac{1}{n^2} \frac{G}{G - 1} \sum_g \Big(\sum_{i \in g} r_i\Big)^2

    and at least the largest of a single level's. Levels with one label tell nothing and are left out.

    Parameters
    ----------
    values : array_like, [num_samples]
    levels : sequence of array_like, [num_samples]
        Label of each sample on each level, the samples' own included where nothing else sets them apart.

    Source: A. C. Cameron, J. B. Gelbach, D. L. Miller, "Robust inference with multiway clustering", Journal of Business
    and Economic Statistics 29, 2011.
    """
    values = np.asarray(values, dtype=float)
    labels = [np.unique(np.asarray(level), return_inverse=True)[1] for level in levels]
    if values.ndim != 1 or not len(values) or any(label.shape != values.shape for label in labels):
        raise ValueError(
            f"values and levels must be equally long lists, got shapes {values.shape} and "
            f"{[label.shape for label in labels]}"
        )
    labels = [label for label in labels if label.max() > 0]
    if not labels:
        return float("nan")
    rest, total = values - values.mean(), 0.0
    single = []
    for size in range(1, len(labels) + 1):
        for chosen in itertools.combinations(labels, size):
            _, joint = np.unique(functools.reduce(_together, chosen), return_inverse=True)
            sums = np.bincount(joint, weights=rest)
            variance = len(sums) / (len(sums) - 1) * float(sums @ sums) / len(values) ** 2
            total -= (-1) ** size * variance
            single += [variance] if size == 1 else []
    return max(total, *single)


def clustered_interval(
    outcomes: ArrayLike, levels: Sequence[ArrayLike], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of a proportion whose outcomes come in clusters: Wilson's, for as many questions as they are worth.

    The outcomes are worth the number of independent ones with the variance of `clustered_variance`, and no more than
    they are. With few labels on a level, such as three trainings, the quantile is Student's.

    Parameters
    ----------
    outcomes : array_like of 0 and 1, [num_outcomes]
    levels : sequence of array_like, [num_outcomes]
    confidence : float, between 0 and 1

    Returns
    -------
    low, high : float
    """
    outcomes = np.asarray(outcomes, dtype=float)
    mean, variance = float(outcomes.mean()), clustered_variance(outcomes, levels)
    worth = float(len(outcomes))
    if variance > 0:
        worth = min(worth, mean * (1 - mean) / variance)
    wider = ndtri(0.5 + confidence / 2) / _student(levels, confidence)
    low, high = wilson_interval(mean * worth * wider**2, worth * wider**2, confidence)
    return float(low), float(high)


def clustered_mean_interval(
    values: ArrayLike, levels: Sequence[ArrayLike], confidence: float = 0.95
) -> tuple[float, float]:
    r"""Interval of a mean whose samples come in clusters, such as differences of paired outcomes.

    .. math:: \bar x \pm t_{G - 1} \sqrt V

    with the variance V of `clustered_variance`, and Student's quantile for the number G of labels on the level that has
    the fewest.

    Parameters
    ----------
    values : array_like, [num_samples]
    levels : sequence of array_like, [num_samples]
    confidence : float, between 0 and 1

    Returns
    -------
    low, high : float
    """
    values = np.asarray(values, dtype=float)
    half = _student(levels, confidence) * np.sqrt(clustered_variance(values, levels))
    return float(values.mean() - half), float(values.mean() + half)


def _student(levels: Sequence[ArrayLike], confidence: float) -> float:
    """Return Student's quantile for as many labels as the level with the fewest has; levels with one tell nothing."""
    fewest = min((count for level in levels if (count := len(np.unique(np.asarray(level)))) > 1), default=2)
    return float(stdtrit(fewest - 1, 0.5 + confidence / 2))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct the p-values of many tests for their number; NaN stays, and counts for none.

    That any of the rejections at a level is wrong then has at most this probability, whatever the tests have to do with
    each other.

    Parameters
    ----------
    p_values : array_like, of any shape

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
    1979.
    """
    p_values = np.asarray(p_values, dtype=float)
    flat = p_values.ravel()
    order = np.argsort(flat)[: np.isfinite(flat).sum()]  # NaN comes last
    corrected = np.full(flat.shape, np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(order), 0, -1) * flat[order]))
    return corrected.reshape(p_values.shape)


def compare(first: ArrayLike, second: ArrayLike, images: ArrayLike) -> Comparison:
    """Compare two systems on the same questions and fades; `images` says which image each question is about."""
    first, second = _paired(first, second)
    only_first, only_second, p_value = mcnemar(first, second)
    gain = first.astype(float) - second.astype(float)
    low, high = cluster_bootstrap(gain, images)
    return Comparison(float(gain.mean()), low, high, only_first, only_second, p_value)


def _together(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return one label for each pair of labels."""
    return first * (second.max() + 1) + second


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired outcomes must be equally long lists, got shapes {first.shape} and {second.shape}")
    for outcomes in (first, second):
        if not np.isin(outcomes, (0, 1)).all():
            raise ValueError(f"outcomes must be 0 or 1, got {np.unique(outcomes)}; is a point missing?")
    return first.astype(bool), second.astype(bool)
