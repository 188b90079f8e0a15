"""Images as DeepJSCC's real numbers."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from semantic.deepjscc import DeepJSCC
    from studies.questions import Batch
    from studies.workbench import Workbench


class ImageCodes:
    """Images as DeepJSCC's real numbers (the paper's benchmark 2). One that several questions share is encoded once.

    Parameters
    ----------
    network : DeepJSCC
    """

    def __init__(self, network: "DeepJSCC"):
        self.network = network

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the network's weights."""
        return {"image_code": self.network.model_hash}

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the network's weights."""
        return self.determined_by()

    def encode(self, batch: "Batch") -> np.ndarray:
        """Return codes, float32 [batch, num_tokens, width].

        Raises
        ------
        ValueError
            If an image has another size than the network is made for.
        """
        import torch

        from semantic.deepjscc import to_tensor

        images = {question.image_index: image for question, image in zip(batch.questions, batch.images, strict=True)}
        height, width = self.network.image_size
        for image_index, image in images.items():
            if image.shape[:2] != (height, width):
                raise ValueError(
                    f"image {image_index} has {image.shape[0]} x {image.shape[1]} pixels, this DeepJSCC is made for "
                    f"{height} x {width}; leave it out of schemes, or train another (`tokenlink train deepjscc`)"
                )
        with torch.no_grad():
            codes = self.network.encode(to_tensor(list(images.values()))).numpy(force=True)
        row = {image_index: index for index, image_index in enumerate(images)}
        return codes[[row[question.image_index] for question in batch.questions]]

    def prompts(self, questions: list[str]) -> list[str]:
        """Return empty texts: an image code is told nothing."""
        return [""] * len(questions)


@functools.cache
def load_deepjscc(name: str) -> "DeepJSCC":
    """Load an image code: a shipped name, or a folder."""
    from semantic.deepjscc import DeepJSCC

    return DeepJSCC.from_pretrained(name)


def image_codes(workbench: "Workbench", weights: str) -> ImageCodes:
    """Build the encoder of images."""
    return ImageCodes(load_deepjscc(workbench.weights(weights)))
