"""TensorFlow's link as a PyTorch module."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import nn

from bridge.autograd import Exact, StraightThrough
from phy import AnalogLink

_GRADIENTS = {"straight-through": StraightThrough, "exact": Exact}
_PRECISIONS = {"single": torch.float32, "double": torch.float64}


class TokenChannel(nn.Module):
    """Codes through an `AnalogLink`, with a gradient.

    Parameters
    ----------
    link : AnalogLink
    gradient : {"straight-through", "exact"}
        `straight-through` hands the gradient of the recovered codes to the codes unchanged. `exact` runs TensorFlow's
        tape. They agree for least squares with the perfect channel.

    Examples
    --------
    >>> channel = TokenChannel(AnalogLink(LinkConfig()))
    >>> codes_hat = channel(codes, snr_db=10.0)
    """

    def __init__(self, link: AnalogLink, gradient: str = "straight-through"):
        super().__init__()
        if not isinstance(link, AnalogLink):
            raise TypeError(f"link must be an AnalogLink, got {type(link).__name__}")
        if gradient not in _GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(_GRADIENTS)}; got {gradient!r}")
        self.link, self.gradient = link, gradient

    def forward(
        self,
        codes: torch.Tensor,
        snr_db: float | Sequence[float] | np.ndarray | torch.Tensor = 10.0,
        realisation: Sequence[int] | np.ndarray | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Send codes and recover them.

        Parameters
        ----------
        codes : torch.Tensor, [batch, num_tokens, width], floating, any device
            Cast to the link's precision on the way and back at the end.
        snr_db : float, or one per example, [dB]
        realisation : one whole number per example, optional
            Which fade and noise each example meets; see `AnalogLink`. Give it under gradient checkpointing, whose
            second forward pass would otherwise meet other fades.

        Returns
        -------
        codes_hat : torch.Tensor
            Shape, device and dtype of `codes`.
        """
        if not isinstance(codes, torch.Tensor):
            raise TypeError(f"codes must be a torch.Tensor, got {type(codes).__name__}")
        if not codes.is_floating_point():
            raise TypeError(f"codes must be real floating-point numbers, got {codes.dtype}")

        def send(sent: tf.Tensor) -> tf.Tensor:
            return self.link(sent, snr_db=to_numpy(snr_db), realisation=to_numpy(realisation)).codes_hat

        precise = codes.to(_PRECISIONS[self.link.config.precision])
        received = _GRADIENTS[self.gradient].apply(precise, send)
        return received.to(codes.dtype)

    def extra_repr(self) -> str:
        """The facts of the link that a printed model should show."""
        config = self.link.config
        return (
            f"{config.channel}, {config.num_tx_ant}x{config.num_rx_ant} antennas, {config.modulation}, "
            f"estimator={config.estimator!r}, recovery={config.recovery!r}, gradient={self.gradient!r}"
        )


def to_numpy(x: Any) -> Any:
    """Bring a tensor of arguments to NumPy; leave everything else as it is."""
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
