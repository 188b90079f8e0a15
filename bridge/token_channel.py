"""TensorFlow's link as a PyTorch module."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import nn
from torch.autograd import forward_ad

from bridge.autograd import Exact, StraightThrough
from bridge.tensors import to_numpy, to_tf, to_torch
from phy import AnalogLink, LinkConfig

_GRADIENTS = ("straight-through", "exact")
_PRECISIONS = {"single": torch.float32, "double": torch.float64}
_SHOWN = ("channel", "num_tx_ant", "num_rx_ant", "modulation", "estimator", "recovery")  # of every printed channel


class TokenChannel(nn.Module):
    """Codes through an `AnalogLink`, with a gradient.

    Parameters
    ----------
    link : AnalogLink
    gradient : {"straight-through", "exact"}
        `straight-through` hands the gradient of the recovered codes to the codes unchanged. `exact` pulls it back
        through the link (`AnalogLink.vjp`). Both agree for least squares with the perfect channel.

    Notes
    -----
    The module has no parameters and ignores `.to()`. It does the same in training and in evaluation, because fades and
    noise are no regularisation. Copies and pickles count realisations from the same number. DataLoader workers and
    distributed ranks therefore need numbers of their own. Workers must be spawned, not forked.

    Examples
    --------
    >>> channel = TokenChannel(AnalogLink(LinkConfig()))
    >>> codes_hat, error_var = channel(codes, snr_db=10.0)
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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Send codes and recover them.

        Parameters
        ----------
        codes : torch.Tensor, [batch, num_tokens, width], floating, any device
            Codes; cast to the link's precision on the way and back at the end.
        snr_db : float, or one per example, [dB]
        realisation : one whole number per example, optional
            Number of the fade and noise that an example meets; see `AnalogLink`. Gradient checkpointing needs it: its
            second forward pass would meet other fades otherwise.

        Returns
        -------
        codes_hat : torch.Tensor
            Recovered codes; shape, device and dtype of `codes`.
        error_var : torch.Tensor
            Error variance that the link declares for each of them; same shape, no gradient.
        """
        options = self._options(codes, snr_db, realisation)
        output: Any = None  # of the link, whose variances need no node in PyTorch's graph

        def send(sent: tf.Tensor) -> tf.Tensor:
            nonlocal output
            output = self.link(sent, **options)
            return output.codes_hat

        def send_for_gradient(sent: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor | None]]:
            nonlocal output
            output, pull_back = self.link.vjp(sent, **options)
            return output.codes_hat, pull_back

        precise = codes.to(_PRECISIONS[self.link.config.precision])
        if (torch.is_grad_enabled() and codes.requires_grad) or forward_ad.unpack_dual(codes).tangent is not None:
            if self.gradient == "exact":
                codes_hat = Exact.apply(precise, send_for_gradient).to(codes.dtype)
            else:
                codes_hat = StraightThrough.apply(precise, send).to(codes.dtype)
        else:  # without a node of PyTorch's graph, which costs more than crossing twice
            codes_hat = to_torch(send(to_tf(precise)), device=codes.device, dtype=codes.dtype)
        return codes_hat, to_torch(output.error_var, device=codes.device, dtype=codes.dtype)

    def _options(self, codes: torch.Tensor, snr_db: Any, realisation: Any) -> dict[str, Any]:
        """Check the arguments of a transmission; return those of the link, fresh numbers of realisations included."""
        if not isinstance(codes, torch.Tensor):
            raise TypeError(f"codes must be a torch.Tensor, got {type(codes).__name__}")
        if not codes.is_floating_point():
            raise TypeError(f"codes must be real floating-point numbers, got {codes.dtype}")
        if isinstance(snr_db, torch.Tensor) and snr_db.requires_grad:
            raise TypeError("snr_db gets no gradient from the channel; detach it")

        if realisation is None and codes.ndim:
            realisation = self.link.channel.number(None, len(codes))
        return {"snr_db": to_numpy(snr_db), "realisation": to_numpy(realisation)}

    def extra_repr(self) -> str:
        """Main options of the link, and all others that are not the default, for a printed model and its card."""
        config, default = self.link.config, LinkConfig()
        main = (
            f"{config.channel}, {config.num_tx_ant}x{config.num_rx_ant} antennas, {config.modulation}, "
            f"estimator={config.estimator!r}, recovery={config.recovery!r}, gradient={self.gradient!r}"
        )
        others = [field.name for field in fields(config) if field.name not in _SHOWN]
        changed = [name for name in others if getattr(config, name) != getattr(default, name)]
        return ", ".join([main, *(f"{name}={getattr(config, name)!r}" for name in changed)])
