"""TensorFlow's digital link as a PyTorch module; bits carry no gradient."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bridge.tensors import to_numpy
from phy import DigitalLink


class BitChannel(nn.Module):
    """Bytes through a `DigitalLink`.

    Parameters
    ----------
    link : DigitalLink

    Examples
    --------
    >>> channel = BitChannel(DigitalLink(LinkConfig()))
    >>> received, arrived = channel(payloads, snr_db=10.0)
    """

    def __init__(self, link: DigitalLink):
        super().__init__()
        if not isinstance(link, DigitalLink):
            raise TypeError(f"link must be a DigitalLink, got {type(link).__name__}")
        self.link = link

    @torch.compiler.disable
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        payloads: torch.Tensor,
        snr_db: float | Sequence[float] | np.ndarray | torch.Tensor = 10.0,
        realisation: Sequence[int] | np.ndarray | torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Send payloads of one size.

        Parameters
        ----------
        payloads : torch.Tensor, [batch, num_bytes], uint8, any device
        snr_db : float, or one per example, [dB]
        realisation : one whole number per example, optional

        Returns
        -------
        received : torch.Tensor, [batch, num_bytes], uint8
            Bytes; zero where a payload was lost.
        arrived : torch.Tensor, [batch], bool
            False for a declared loss.
        """
        if not isinstance(payloads, torch.Tensor):
            raise TypeError(f"payloads must be a torch.Tensor, got {type(payloads).__name__}")
        if payloads.requires_grad or (isinstance(snr_db, torch.Tensor) and snr_db.requires_grad):
            raise TypeError(
                "no gradient passes through a digital link; detach payloads and snr_db, or take a TokenChannel"
            )
        if payloads.is_meta:
            raise ValueError("payloads are on the meta device, where tensors have no numbers; move the model first")
        if payloads.dtype != torch.uint8 or payloads.ndim != 2:
            kind, shape = payloads.dtype, tuple(payloads.shape)
            raise ValueError(f"payloads must be uint8 of shape [batch, num_bytes], got {kind} of shape {shape}")
        sent = [row.tobytes() for row in payloads.cpu().numpy()]
        answers = self.link(sent, snr_db=to_numpy(snr_db), realisation=to_numpy(realisation))
        num_bytes = payloads.shape[1]
        whole = [answer if answer is not None and len(answer) == num_bytes else None for answer in answers]
        octets = b"".join(bytes(num_bytes) if answer is None else answer for answer in whole)
        received = torch.tensor(list(octets), dtype=torch.uint8, device=payloads.device).reshape(payloads.shape)
        arrived = torch.tensor([answer is not None for answer in whole], dtype=torch.bool, device=payloads.device)
        return received, arrived

    def extra_repr(self) -> str:
        """Main options of the link, for a printed model."""
        link, config = self.link, self.link.config
        return (
            f"{config.channel}, {config.num_tx_ant}x{config.num_rx_ant} antennas, {2**link.bits_per_symbol}-QAM, "
            f"code_rate={link.code_rate:g}, estimator={config.estimator!r}"
        )
