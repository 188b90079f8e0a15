"""Images by DeepJSCC over the analog link."""

from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.carriers.analog import make_channel, send
from studies.schemes.encoders.image_codes import load_deepjscc
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from bridge import TokenChannel
    from semantic.deepjscc import DeepJSCC
    from studies.questions import Batch
    from studies.workbench import Workbench

BATCH_SIZE = 50  # images in one pass through DeepJSCC's decoder


class Images:
    """DeepJSCC's numbers over the analog link, and the image that its decoder makes of them.

    Parameters
    ----------
    channel : TokenChannel
    network : DeepJSCC
    """

    crosses_link = True

    def __init__(self, channel: "TokenChannel", network: "DeepJSCC"):
        self.channel, self.network = channel, network

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the network's weights."""
        return {"image_code": self.network.model_hash}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Send over the analog link, and decode images."""
        import torch

        from semantic.deepjscc import to_images

        assert codes is not None
        sent = codes[batch.numbers]
        codes_hat, error_var = send(self.channel, sent, snr_db, batch.numbers)
        with torch.no_grad():
            received = (torch.as_tensor(part).split(BATCH_SIZE) for part in (codes_hat, error_var))
            parts = [to_images(self.network.decode(*part)) for part in zip(*received, strict=True)]
        peaks = self.channel.link.peak_power(sent)
        items = list(np.concatenate(parts))
        return Delivery(items=items, codes=sent, codes_hat=codes_hat, error_var=error_var, peaks=peaks)

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of one image."""
        return ledger_scalars(self.channel.link.ledger(num_tokens=self.network.num_tokens, width=self.network.width))


def images(workbench: "Workbench", weights: str) -> Images:
    """Build the carrier of images."""
    return Images(make_channel(workbench.config.link), load_deepjscc(workbench.weights(weights)))
