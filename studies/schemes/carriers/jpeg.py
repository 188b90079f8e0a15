"""The image as JPEG over the digital link, in two slots of resource elements.

At each of four sizes the best quality that fits is tried, and the rendition with the smallest error is sent. At each
SNR the MCS has the least expected error, and a higher SNR brings a finer image; the fixed curve shows the cliff.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.digital.jpeg_code import compress, decompress, rendition_error
from studies.schemes.digital.payload_link import IMAGE_RES, payload_link
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from phy.link_adaptation import Mcs, PayloadLink
    from semantic.data.dataset import Dataset
    from studies.questions import Batch
    from studies.workbench import Workbench

NUM_SAMPLES = 16  # images that tell what a byte is worth
DESIGN_SNR_DB = 10.0  # of the fixed curve


class JpegImages:
    """Each question's image as a JPEG payload.

    Parameters
    ----------
    link : PayloadLink
    choose_mcs : callable
        Returns the MCS at an SNR.
    """

    crosses_link = True

    def __init__(self, link: "PayloadLink", choose_mcs: "Callable[[float], Mcs]"):
        self.link, self._choose_mcs = link, choose_mcs

    def determined_by(self) -> dict[str, Any]:
        """Return nothing: link and code follow from configuration, questions and source."""
        return {}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Compress the images to what the link carries, send them, and return those that arrive."""
        mcs, images = self._choose_mcs(snr_db), batch.images
        capacity = self.link.capacity(mcs)
        compressed: dict[int, bytes] = {}  # an image that several questions share is compressed once
        for question, image in zip(batch.questions, images, strict=True):
            if question.image_index not in compressed:
                compressed[question.image_index] = compress(image, capacity)
        payloads = [compressed[question.image_index].ljust(capacity, b"\0") for question in batch.questions]
        items: list[np.ndarray | None] = [None] * len(images)
        undetected = np.zeros(len(images), bool)
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        for size in sorted(set(sizes)):  # the receiver knows the camera's format
            chosen = [index for index, other in enumerate(sizes) if other == size]
            read = functools.partial(decompress, size=size)
            received = self.link.send([payloads[i] for i in chosen], mcs, snr_db, batch.numbers[chosen], read)
            undetected[chosen] = received.undetected
            for index, item in zip(chosen, received.items, strict=True):
                items[index] = item
        return Delivery(items=items, lost=np.array([item is None for item in items]), undetected=undetected)

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of the budget."""
        return ledger_scalars(self.link.ledger())


def sample_error(dataset: "Dataset") -> Callable[[int], float]:
    """Return the mean share of an image's variance that a number of bytes leaves out, in a sample of the data's images.

    The variance is that around the images' mean, which the receiver knows; around each image's own where sizes differ.
    """
    indices = np.unique([question.image_index for question in dataset.questions])
    images = [dataset.image(index) for index in indices[:: -(-len(indices) // NUM_SAMPLES)].tolist()]
    if len({image.shape for image in images}) == 1:
        variance = np.var(np.stack(images).astype(float), axis=0).mean()
    else:
        variance = np.mean([np.var(image.astype(float), axis=(0, 1)).mean() for image in images])

    @functools.cache
    def error(num_bytes: int) -> float:
        if not variance:  # equal images: there is nothing to send
            return 0.0
        missing = [rendition_error(image, compress(image, num_bytes)) for image in images]
        return float(np.mean(np.minimum(missing, variance)) / variance)

    return error


def adapted(workbench: "Workbench", weights: str) -> JpegImages:
    """Build the carrier that adapts to the SNR."""
    link, error = payload_link(workbench, IMAGE_RES), sample_error(workbench.dataset)
    return JpegImages(link, lambda snr_db: link.adapted(snr_db, error))


def fixed(workbench: "Workbench", weights: str) -> JpegImages:
    """Build the carrier made for 10 dB."""
    link, error = payload_link(workbench, IMAGE_RES), sample_error(workbench.dataset)
    return JpegImages(link, lambda snr_db: link.adapted(DESIGN_SNR_DB, error))
