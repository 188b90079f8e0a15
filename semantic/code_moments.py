"""What a receiver knows of codes before anything arrives, and what it believes afterwards."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

RANK = 48  # directions that are kept; five tokens of 64 numbers have 95 % of their variance in 36
MAX_SIZE = 4096  # numbers of an example; a larger covariance does not fit into memory, and is taken for diagonal
MOMENTUM = 0.02  # of the running moments
REFRESH = 20  # training batches from one eigendecomposition to the next
LEAST_VARIANCE = 1e-3  # of a number beside the kept directions, as a share of the mean variance


class CodeMoments(nn.Module):
    r"""Mean and covariance of codes, and the linear MMSE estimate under them.

    The covariance is kept as a factor F of few columns and a variance d for each number. For codes received as c plus
    an error of variance v for each number, with :math:`s = 1 / (d + v)`,

    .. math:: \hat c = \mu + (F F^T + D)(F F^T + D + V)^{-1} (c + e - \mu), \qquad
        (F F^T + S^{-1})^{-1} = S - S F (I + F^T S F)^{-1} F^T S

    In training the moments run along with the codes. Before any code was seen, codes have mean zero, unit variance and
    no covariance; the estimate then is that of the link's `lmmse`.

    Parameters
    ----------
    size : int
        Numbers of an example, those of all its tokens.

    Attributes
    ----------
    num_observed : int
        Training batches that the running moments have seen.

    Source: S. M. Kay, *Fundamentals of Statistical Signal Processing: Estimation Theory*, 1993, chapter 12.
    """

    mean: Tensor
    factor: Tensor
    variance: Tensor
    covariance: Tensor | None

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        is_small = size <= MAX_SIZE
        f32 = torch.float32  # whatever torch's default is
        self.register_buffer("mean", torch.zeros(size, dtype=f32))
        self.register_buffer("factor", torch.zeros(size, min(RANK, size) if is_small else 0, dtype=f32))
        self.register_buffer("variance", torch.ones(size, dtype=f32))
        self.register_buffer("covariance", torch.eye(size, dtype=f32) if is_small else None, persistent=False)
        self.num_observed = 0

    @torch.no_grad()
    def observe(self, codes: Float[Tensor, "batch numbers"]) -> None:
        """Let the moments follow a batch of codes, of all tokens or of the first ones."""
        if not self.num_observed and self.factor.any():  # a training that goes on
            self.num_observed = round(1 / MOMENTUM)
            if self.covariance is not None:
                self.covariance.copy_(self.factor @ self.factor.T + self.variance.diag())
        size, weight = codes.shape[1], max(MOMENTUM, 1 / (self.num_observed + 2))
        self.mean[:size].lerp_(codes.mean(0), weight)
        centred = codes - self.mean[:size]
        if self.covariance is None:
            self.variance[:size].lerp_(centred.square().mean(0), weight)
        else:
            self.covariance[:size, :size].lerp_(centred.T @ centred / len(codes), weight)
            if self.num_observed % REFRESH == 0:
                self._factorise(self.covariance)
        self.num_observed += 1

    @torch.no_grad()
    def measure(self, codes: Float[Tensor, "examples numbers"]) -> None:
        """Take the moments of codes, whatever was observed before."""
        self.mean.copy_(codes.mean(0))
        centred = codes - self.mean
        if self.covariance is None:
            self.variance.copy_(centred.square().mean(0))
        else:
            self._factorise(centred.T @ centred / len(codes))
        self.num_observed = 0

    def _factorise(self, covariance: Tensor) -> None:
        """Keep the strongest directions, and beside them the rest of each number's variance."""
        values, vectors = torch.linalg.eigh(covariance)
        rank, total = self.factor.shape[1], covariance.diagonal()
        self.factor.copy_(vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt())
        self.variance.copy_(torch.maximum(total - self.factor.square().sum(1), LEAST_VARIANCE * total.mean()))

    def estimate(
        self,
        codes_hat: Float[Tensor, "batch numbers"],
        error_var: Float[Tensor, "batch numbers"],
        scale: Tensor | float = 1.0,
    ) -> Float[Tensor, "batch numbers"]:
        """Return the linear MMSE estimate of codes.

        Parameters
        ----------
        codes_hat : [batch, numbers]
            Codes and an error that does not depend on them, as unbiased recovery returns; of all tokens or of the first
            ones.
        error_var : [batch, numbers]
            Variance of the error.
        scale : float or scalar tensor
            Amplitude of these codes over those that were observed.
        """
        size = codes_hat.shape[1]
        mean, factor, variance = scale * self.mean[:size], scale * self.factor[:size], scale**2 * self.variance[:size]
        off = codes_hat - mean
        weight = 1 / (variance + error_var)
        weighted = weight[..., None] * factor  # [batch, numbers, rank]
        inner = torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device) + factor.T @ weighted
        lower = torch.linalg.cholesky(inner)
        seen = torch.cholesky_solve((weighted.mT @ off[..., None]), lower)
        white = weight * off - (weighted @ seen)[..., 0]
        return mean + (white @ factor) @ factor.T + variance * white

    @property
    def prior_variance(self) -> Float[Tensor, " numbers"]:
        """Variance of each number of the codes."""
        return self.factor.square().sum(1) + self.variance

    def dense(self) -> Float[Tensor, "numbers numbers"]:
        """Return the covariance, in double precision."""
        factor = self.factor.double()
        return factor @ factor.T + self.variance.double().diag()

    def scaled(self, scale: Tensor | float) -> "CodeMoments":
        """Return the moments of codes of so many times the amplitude."""
        other = CodeMoments(self.size)
        other.mean.copy_(scale * self.mean)
        other.factor.copy_(scale * self.factor)
        other.variance.copy_(scale**2 * self.variance)
        return other

    def observation(
        self, codes_hat: Float[Tensor, "batch numbers"], error_var: Float[Tensor, "batch numbers"]
    ) -> tuple[Float[Tensor, "batch numbers"], Float[Tensor, "batch numbers"]]:
        r"""Turn a posterior into codes with independent errors, from which `estimate` leads back to it.

        A recovery that knows the codes' covariance returns their posterior mean z. Its errors depend on each other, and
        to take z for received codes would count the covariance twice. With the prior variance p and the posterior
        variance q of a number, and with :math:`v = q p / (p - q)`,

        .. math:: y = z + V (F F^T + D)^{-1} (z - \mu)

        has z as its linear MMSE estimate.

        Parameters
        ----------
        codes_hat, error_var : [batch, numbers]
            Posterior mean and variance.

        Returns
        -------
        codes_hat, error_var : [batch, numbers]
        """
        prior = self.prior_variance
        known = (1 - error_var / prior).clamp(1e-4, 1)  # share of the variance
        var = error_var / known
        off = (codes_hat - self.mean).double()
        pulled = torch.linalg.solve(self.dense(), off.T).T
        return (codes_hat + var * pulled).to(codes_hat.dtype), var


class Running:
    """What a training that goes on needs of moments, beside what is stored with the weights."""

    def __init__(self, moments: CodeMoments) -> None:
        self.moments = moments

    def state_dict(self) -> dict[str, Any]:
        """Return the running covariance, and the number of batches in it."""
        return {"covariance": self.moments.covariance, "num_observed": self.moments.num_observed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there."""
        if self.moments.covariance is not None:
            self.moments.covariance.copy_(state_dict["covariance"])
        self.moments.num_observed = state_dict["num_observed"]


def log_deviation(error_var: Tensor) -> Tensor:
    """Logarithm of an error's standard deviation, from 0 at unit deviation; bounded, as a network's input should be."""
    return 0.5 * error_var.clamp(1e-4, 1e4).log() / math.log(10)
