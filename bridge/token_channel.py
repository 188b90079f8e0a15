"""TensorFlow's link as a PyTorch module."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import nn
from torch.autograd import forward_ad

from bridge.autograd import Exact, StraightThrough
from bridge.tensors import to_tf, to_torch
from phy import AnalogLink

_GRADIENTS = ("straight-through", "exact")
_PRECISIONS = {"single": torch.float32, "double": torch.float64}


class TokenChannel(nn.Module):
    """Codes through an `AnalogLink`, with a gradient.

    Parameters
    ----------
    link : AnalogLink
    gradient : {"straight-through", "exact"}
        `straight-through` hands the gradient of the recovered codes to the codes unchanged. `exact` pulls it back
        through the link (`AnalogLink.vjp`). They agree for least squares with the perfect channel.

    Notes
    -----
    It has no parameters, follows no `.to()`, and does the same in training and in evaluation: its fades and noise are
    the world's, no regularisation. Copies and pickles hand out the same numbers of realisations from then on, so that
    DataLoader workers and distributed ranks have to be given different ones. Workers must be spawned, not forked.

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

    @torch.compiler.disable
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
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
        if isinstance(snr_db, torch.Tensor) and snr_db.requires_grad:
            raise TypeError("snr_db gets no gradient from the channel; detach it")

        if realisation is None and codes.ndim:
            realisation = self.link.channel.number(None, len(codes))
        facts = {"snr_db": to_numpy(snr_db), "realisation": to_numpy(realisation)}

        def send(sent: tf.Tensor) -> tf.Tensor:
            return self.link(sent, **facts).codes_hat

        def send_for_gradient(sent: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor | None]]:
            output, pull_back = self.link.vjp(sent, **facts)
            return output.codes_hat, pull_back

        precise = codes.to(_PRECISIONS[self.link.config.precision])
        if (torch.is_grad_enabled() and codes.requires_grad) or forward_ad.unpack_dual(codes).tangent is not None:
            if self.gradient == "exact":
                return Exact.apply(precise, send_for_gradient).to(codes.dtype)
            return StraightThrough.apply(precise, send).to(codes.dtype)
        # no node of PyTorch's graph, which costs more than crossing twice
        return to_torch(send(to_tf(precise)), device=codes.device, dtype=codes.dtype)

    def extra_repr(self) -> str:
        """The facts of the link that a printed model should show."""
        config = self.link.config
        return (
            f"{config.channel}, {config.num_tx_ant}x{config.num_rx_ant} antennas, {config.modulation}, "
            f"estimator={config.estimator!r}, recovery={config.recovery!r}, gradient={self.gradient!r}"
        )


def to_numpy(x: Any) -> Any:
    """Bring a tensor of arguments to NumPy; leave everything else as it is."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().to("cpu", torch.float64 if x.is_floating_point() else x.dtype).numpy()  # NumPy has no bfloat16
