"""Recovery of the codes from the received signal, and the one table of its kinds."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from phy.recovery.linear import LinearRecovery
from phy.recovery.prior import CodePrior, PriorRecovery
from phy.recovery.sparse import SparseRecovery, solve_fista, solve_omp, solve_vamp

__all__ = ["RECOVERIES", "CodePrior", "LinearRecovery", "PriorRecovery", "SparseRecovery", "build_recovery"]


class Recipe(NamedTuple):
    """How one kind of recovery is built.

    Attributes
    ----------
    build : callable
        Takes `config` (LinkConfig), `grid` (TokenGrid) and `prior` (CodePrior or None). Returns a function of y, h_hat,
        err_var and no, which answers as `LinearRecovery` does.
    takes_prior : bool
        Whether it can use a `CodePrior`.
    """

    build: Callable[..., Callable[..., Any]]
    takes_prior: bool = False


def build_recovery(config, grid, prior: CodePrior | None):
    """Build the recovery that `config.recovery` names.

    Parameters
    ----------
    config : LinkConfig
    grid : TokenGrid
    prior : CodePrior or None

    Raises
    ------
    ValueError
        If the prior was fitted to codes of another shape.
    """
    if prior is not None and prior.mean.shape != (grid.num_tokens, grid.width):
        raise ValueError(
            f"the prior was fitted to codes of shape {prior.mean.shape}, these are {(grid.num_tokens, grid.width)}; "
            "fit one to codes of the same encoder"
        )
    return RECOVERIES[config.recovery].build(config, grid, prior)


def _linear(config, grid, prior, *, kind):
    """Real unknowns: widely linear for codes on one real dimension."""
    return _each_element(config, grid, num_reals=config.reals_per_re, kind=kind)


def _complex_linear(config, grid, prior, *, kind):
    """Complex unknowns, though the codes may be real."""
    return _each_element(config, grid, num_reals=2 * config.num_tx_ant, kind=kind)


def _each_element(config, grid, *, num_reals, kind):
    return LinearRecovery(
        num_reals=num_reals,
        num_kept=config.reals_per_re,
        prior_variance=grid.scale**2,
        kind=kind,
        noisy_channel=config.has_noisy_estimate,
    )


def _lmmse(config, grid, prior, *, kind):
    """Linear MMSE for codes of unit power; with a prior, for its mean and covariance."""
    if prior is None:
        return _linear(config, grid, prior, kind=kind)
    return PriorRecovery(
        grid=grid,
        prior=prior,
        noisy_channel=config.has_noisy_estimate,
        unbiased=kind == "lmmse-unbiased",
        dtype=_real_dtype(config),
    )


def _sparse(config, grid, prior, *, solve):
    """Few, or small, coefficients in the basis of the prior; in the code's own coordinates without one."""
    return SparseRecovery(
        grid=grid,
        prior=CodePrior.white(grid.num_tokens, grid.width) if prior is None else prior,
        solve=solve,
        noisy_channel=config.has_noisy_estimate,
        dtype=_real_dtype(config),
    )


def _real_dtype(config):
    return tf.float32 if config.precision == "single" else tf.float64


RECOVERIES = {
    "ls": Recipe(partial(_linear, kind="ls")),
    "complex-ls": Recipe(partial(_complex_linear, kind="ls")),
    "lmmse": Recipe(partial(_lmmse, kind="lmmse"), takes_prior=True),
    "lmmse-unbiased": Recipe(partial(_lmmse, kind="lmmse-unbiased"), takes_prior=True),
    "complex-lmmse": Recipe(partial(_complex_linear, kind="lmmse")),
    "complex-lmmse-unbiased": Recipe(partial(_complex_linear, kind="lmmse-unbiased")),
    "omp": Recipe(partial(_sparse, solve=solve_omp), takes_prior=True),
    "fista": Recipe(partial(_sparse, solve=solve_fista), takes_prior=True),
    "vamp": Recipe(partial(_sparse, solve=solve_vamp), takes_prior=True),
}
