"""The image by a codec of still images over the digital link, in two slots of resource elements.

At each of four sizes the best quality that fits is tried, and the rendition with the smallest error is sent. At each
SNR the number of bytes has the least expected error, and a higher SNR brings a finer image; the fixed curve shows the
cliff. What a byte is worth was measured on images of another split (`digital/jpeg_errors.json`, `avif_errors.json`).
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.digital.image_code import Codec, compress, decompress, left_out
from studies.schemes.digital.image_codecs import CODECS
from studies.schemes.digital.payload_link import IMAGE_RES, payload_link
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from phy.link_adaptation import PayloadLink
    from studies.questions import Batch
    from studies.workbench import Workbench

DESIGN_SNR_DB = 10.0  # of the fixed curve


class CodedImages:
    """Each question's image as a payload.

    Parameters
    ----------
    link : PayloadLink
    codec : Codec
    choose_sizes : callable
        Returns the bytes of each payload, int [batch], at an SNR over the fades of given numbers.
    """

    crosses_link = True

    def __init__(self, link: "PayloadLink", codec: Codec, choose_sizes: Callable[[float, np.ndarray], np.ndarray]):
        self.link, self._codec, self._choose_sizes = link, codec, choose_sizes

    def determined_by(self) -> dict[str, Any]:
        """Return the link's options; the rest, and the code, follow from configuration, questions and source."""
        return self.link.options

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Compress the images to what the link carries, send them, and return those that arrive."""
        num_bytes, images = self._choose_sizes(snr_db, batch.numbers).tolist(), batch.images
        keys = [(question.image_index, most) for question, most in zip(batch.questions, num_bytes, strict=True)]
        compressed: dict[tuple[int, int], bytes] = {}  # an image that several questions share is compressed once
        for key, image in zip(keys, images, strict=True):
            if key not in compressed:
                compressed[key] = compress(self._codec, image, key[1]).ljust(key[1], b"\0")
        payloads = [compressed[key] for key in keys]
        items: list[np.ndarray | None] = [None] * len(images)
        undetected, num_transmissions = np.zeros(len(images), bool), np.ones(len(images), np.int64)
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        for size in sorted(set(sizes)):  # the receiver knows the camera's format
            chosen = [index for index, other in enumerate(sizes) if other == size]
            read = functools.partial(decompress, self._codec, size=size)
            received = self.link.send([payloads[i] for i in chosen], snr_db, batch.numbers[chosen], read)
            undetected[chosen], num_transmissions[chosen] = received.undetected, received.num_transmissions
            for index, item in zip(chosen, received.items, strict=True):
                items[index] = item
        return Delivery(
            items=items,
            lost=np.array([item is None for item in items]),
            undetected=undetected,
            payload=self.link.on_air(num_bytes),
            num_transmissions=num_transmissions,
            peaks=self.link.peak_power(num_bytes, batch.numbers),
        )

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of the budget, once."""
        return ledger_scalars(self.link.ledger())


def jpeg(workbench: "Workbench", weights: str) -> CodedImages:
    """Build the carrier of JPEG images that adapts to the SNR."""
    return adapted(payload_link(workbench, IMAGE_RES), CODECS["jpeg"])


def jpeg_fixed(workbench: "Workbench", weights: str) -> CodedImages:
    """Build the carrier of JPEG images made for 10 dB."""
    link, codec = payload_link(workbench, IMAGE_RES), CODECS["jpeg"]
    return CodedImages(link, codec, lambda snr_db, numbers: best_sizes(link, codec, DESIGN_SNR_DB, numbers))


def avif(workbench: "Workbench", weights: str) -> CodedImages:
    """Build the carrier of AVIF images that adapts to the SNR."""
    return adapted(payload_link(workbench, IMAGE_RES), CODECS["avif"])


def avif_small(workbench: "Workbench", weights: str) -> CodedImages:
    """Build the same in as many resource elements as machine tokens take."""
    return adapted(payload_link(workbench), CODECS["avif"])


def avif_small_harq(workbench: "Workbench", weights: str) -> CodedImages:
    """Build the small one with at most one retransmission."""
    return adapted(payload_link(workbench, max_transmissions=2), CODECS["avif"])


def avif_small_cqi(workbench: "Workbench", weights: str) -> CodedImages:
    """Build the small one adapted to each fade."""
    return adapted(payload_link(workbench, cqi=True), CODECS["avif"])


def adapted(link: "PayloadLink", codec: Codec) -> CodedImages:
    """Adapt the bytes of a codec's images to what the link knows: the mean SNR, or the fade."""
    return CodedImages(link, codec, functools.partial(best_sizes, link, codec))


def best_sizes(link: "PayloadLink", codec: Codec, snr_db: float, numbers: np.ndarray) -> np.ndarray:
    """Return the bytes with the least expected share of an image's variance left out; a lost image leaves out all."""
    return link.chosen(snr_db, numbers, lambda num_bytes: -left_out(codec, num_bytes), if_lost=-1.0)
