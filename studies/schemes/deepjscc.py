"""Benchmark 2: the image as analog amplitudes by DeepJSCC, given back at the receiver, to the sensor's own model.

6144 real numbers for an image of 128 x 192 pixels in three colours, one for twelve. Each is a channel use of an
antenna: k/n = 1/12 in the literature's terms, but with one real number per use where there two are sent. With amplitude
modulation and four antennas they take 1536 resource elements, two slots, as much as `jpeg-ldpc` has.

A network made for giving images back, trained through the link of the study's defaults at -5 to 20 dB; the answering
model is the one of `raw-image`, which has not been trained on what DeepJSCC does to images.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from studies.questions import Batch
from studies.schemes.scheme import Scheme, weights_hash
from studies.workbench import Workbench

if TYPE_CHECKING:
    from bridge import TokenChannel
    from phy import Ledger
    from semantic import AgentLink
    from semantic.deepjscc import DeepJSCC

BATCH_SIZE = 50  # images in one pass through the network


class AnalogImage(Scheme):
    """Images over the analog link.

    Parameters
    ----------
    agents : AgentLink
        Whose sensor's own model answers.
    network : DeepJSCC
    channel : TokenChannel
    """

    crosses_link: ClassVar[bool] = True

    def __init__(self, agents: "AgentLink", network: "DeepJSCC", channel: "TokenChannel"):
        self.agents, self.network, self.channel = agents, network, channel

    def determined_by(self) -> dict[str, Any]:
        """Return the hashes of the agents' weights and of the network's."""
        return {"agents": weights_hash(self.agents), **self.encoded_by()}

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the network's weights."""
        return {"image_code": self.network.model_hash}

    def encode(self, batch: Batch) -> np.ndarray:
        """Encode the image of each question; one that several questions share, once."""
        import torch

        from semantic.deepjscc import to_tensor

        images = {question.image_index: image for question, image in zip(batch.questions, batch.images, strict=True)}
        with torch.no_grad():
            codes = self.network.encode(to_tensor(list(images.values()))).numpy(force=True)
        row = {index: place for place, index in enumerate(images)}
        return codes[[row[question.image_index] for question in batch.questions]]

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own image."""
        assert codes is not None
        return codes[batch.numbers]

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> np.ndarray:
        """Send over the analog link, and return the images that the receiver makes of it."""
        import torch

        from semantic.deepjscc import to_images

        codes_hat = self.channel(torch.as_tensor(sent), snr_db=snr_db, realisation=torch.as_tensor(realisation))
        with torch.no_grad():
            return np.concatenate([to_images(self.network.decode(part)) for part in codes_hat.split(BATCH_SIZE)])

    def answer(self, batch: Batch, received: np.ndarray) -> list[str]:
        """Let the sensor's own model answer, at the receiver, from the images."""
        return self.agents.sensor.answer(list(received), batch.texts)

    def ledger(self) -> "Ledger":
        """Return the link's ledger for one image."""
        return self.channel.link.ledger(num_tokens=self.network.num_tokens, width=self.network.width)


def build(workbench: Workbench) -> AnalogImage:
    """Build the scheme from a run's configuration."""
    return build_with(workbench, workbench.config.models.deepjscc)


def build_with(workbench: Workbench, name: str) -> AnalogImage:
    """Build the scheme with the network of that name."""
    agents = workbench.agents(workbench.config.models.machine_tokens)
    return AnalogImage(agents, workbench.deepjscc(name), workbench.channel)
