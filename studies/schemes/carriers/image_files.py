"""The image as a JPEG file, of which nothing is lost: what other payloads are compared with."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from studies.schemes.scheme import PAYLOAD, Delivery, ledger_scalars

if TYPE_CHECKING:
    from studies.questions import Batch
    from studies.workbench import Workbench

QUALITY, SUBSAMPLING = 75, "4:2:0"  # the defaults of most writers


class JpegFile:
    """Each image as a whole JPEG file of quality 75 with halved chroma, header and tables included, at no loss."""

    crosses_link = False

    def determined_by(self) -> dict[str, Any]:
        """Return how the files are made."""
        return {"jpeg": [QUALITY, SUBSAMPLING]}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Deliver each image as it comes out of its file, and the size of the file."""
        images, sizes = [], []
        for image in batch.images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
            images.append(np.asarray(Image.open(buffer).convert("RGB")))
            sizes.append(buffer.tell())
        unknown = np.full(len(sizes), np.nan)
        payload = {name: unknown for name in PAYLOAD}
        payload |= {"payload_bytes": np.array(sizes, float), "payload_bits": 8.0 * np.array(sizes)}
        return Delivery(items=images, payload=payload)

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return NaN: nothing crosses the link."""
        return ledger_scalars(None)


def jpeg_file(workbench: "Workbench", weights: str) -> JpegFile:
    """Build the carrier of JPEG files."""
    return JpegFile()
