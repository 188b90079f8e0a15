"""The image of benchmark 1 as JPEG over the digital link, answered at its other end by the sensor's own model.

The noiseless image in two slots of resource elements (19 times those of machine tokens with the shipped weights and
grid), as good as fits: at each of four sizes the best quality, and of these four what differs least from the image.
The MCS is, at each SNR, that with which coarseness and losses cost least, so that a higher SNR brings a finer image.

What all images have in common is not sent: of the JPEG file only the entropy-coded part is. A byte in front of it names
size and quality, from which the receiver writes the rest of the file. It knows the camera's format.
"""

import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from studies.questions import Batch
from studies.schemes.digital.payload_link import DigitalScheme, Mcs, PayloadLink, payload_link
from studies.workbench import Workbench

DATA_RES = 1536  # budget: two slots of twelve data symbols of 64 subcarriers
QUALITIES = (*range(1, 33), *range(34, 97, 2))  # 64 of them
NUM_SAMPLES = 16  # images that tell what a byte is worth
SHRINKS = (1, 2, 3, 4)  # of width and height; with the qualities they fill a byte
SCAN = 0xDA  # marker behind whose segment the entropy-coded part begins


class JpegLdpc(DigitalScheme):
    """JPEG images over the digital link.

    Parameters
    ----------
    agents : AgentLink
    link : PayloadLink
    choose_mcs : the MCS at an SNR
    """

    def __init__(self, agents: Any, link: PayloadLink, choose_mcs: Callable[[float], Mcs]):
        super().__init__(agents, link)
        self._choose_mcs = choose_mcs

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own image, uint8 [batch, height, width, 3]."""
        return np.stack(batch.images)

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> list[np.ndarray | None]:
        """Compress the images to what the link carries, send them, and return those that arrive."""
        assert sent is not None
        mcs = self._choose_mcs(snr_db)
        capacity, size = self.link.capacity(mcs), (sent.shape[2], sent.shape[1])
        compressed: dict[bytes, bytes] = {}
        for image in sent:  # an image that several questions share is compressed once
            if image.tobytes() not in compressed:
                compressed[image.tobytes()] = compress(image, capacity)
        payloads = [compressed[image.tobytes()].ljust(capacity, b"\0") for image in sent]
        return self.link.send(payloads, mcs, snr_db, realisation, lambda payload: decompress(payload, size))

    def answer_arrived(self, batch: Batch, where: list[int], items: list[np.ndarray]) -> list[str]:
        """Let the sensor's own model answer, at the receiver, from the decoded images."""
        return self.agents.sensor.answer(items, [batch.texts[place] for place in where])


def compress(image: np.ndarray, num_bytes: int) -> bytes:
    """Return the best rendition of an image, uint8 [height, width, 3], in so many bytes; none if nothing fits."""
    original, best, least = Image.fromarray(image), b"", np.inf
    for shrink in SHRINKS:
        size = _shrunk(original.size, shrink)
        small = original if shrink == 1 else original.resize(size, Image.Resampling.LANCZOS)
        fits, too_large = -1, len(QUALITIES)  # file size rises with quality
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            enough = 1 + len(_scan(_jpeg(small, QUALITIES[middle]))) <= num_bytes
            fits, too_large = (middle, too_large) if enough else (fits, middle)
        if fits < 0:
            continue
        name = SHRINKS.index(shrink) * len(QUALITIES) + fits
        payload = bytes([name]) + _scan(_jpeg(small, QUALITIES[fits]))
        error = _error(image, payload)
        if error < least:
            best, least = payload, error
    return best


def _error(image: np.ndarray, payload: bytes) -> float:
    """Return the mean squared error of an image's rendition; infinite where there is none."""
    if not payload:
        return np.inf
    return float(np.mean((decompress(payload, (image.shape[1], image.shape[0])).astype(float) - image) ** 2))


def decompress(payload: bytes, size: tuple[int, int]) -> np.ndarray:
    """Return the image of a payload, uint8 [height, width, 3], at its original size (width, height).

    Raises
    ------
    ValueError
        If it holds no image.
    """
    if not payload.rstrip(b"\0"):
        raise ValueError("the payload is empty: nothing fitted")
    shrink, quality = divmod(payload[0], len(QUALITIES))
    header = _header(_shrunk(size, SHRINKS[shrink]), QUALITIES[quality])
    try:
        with Image.open(io.BytesIO(header + payload[1:])) as file:
            image = file.convert("RGB")
    except OSError as error:  # what the decoder says of a damaged file
        raise ValueError(f"the payload is no image: {error}") from error
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def _scan(jpeg: bytes) -> bytes:
    """Return the entropy-coded part of a file and the marker at its end."""
    return jpeg[_scan_start(jpeg) :]


@functools.cache
def _header(size: tuple[int, int], quality: int) -> bytes:
    """Return what stands before the entropy-coded part; it is the same for all images of a size and quality."""
    jpeg = _jpeg(Image.new("RGB", size), quality)
    return jpeg[: _scan_start(jpeg)]


def _scan_start(jpeg: bytes) -> int:
    place = 2  # behind the marker of the file's start; then segments: 0xFF, marker, length in two bytes, content
    while True:
        marker, length = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4], "big")
        place += 2 + length
        if marker == SCAN:
            return place


def _shrunk(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    return -(-size[0] // shrink), -(-size[1] // shrink)


def build(workbench: Workbench) -> JpegLdpc:
    """Build the scheme with the MCS of each SNR."""
    link, error = payload_link(workbench, DATA_RES), sample_error(workbench)
    agents = workbench.agents(workbench.config.models.machine_tokens)
    return JpegLdpc(agents, link, lambda snr_db: link.adapted(snr_db, error))


def sample_error(workbench: Workbench) -> Callable[[int], float]:
    """Return the mean share of an image's variance that so many bytes leave out, in a sample of the data's images."""
    dataset = workbench.dataset
    indices = np.unique([question.image_index for question in dataset.questions])
    images = [dataset.image(index) for index in indices[:: -(-len(indices) // NUM_SAMPLES)].tolist()]
    variance = np.var(np.stack(images).astype(float), axis=0).mean()  # around the mean image, which the receiver knows

    @functools.cache
    def error(num_bytes: int) -> float:
        missing = [_error(image, compress(image, num_bytes)) for image in images]
        return float(np.mean(np.minimum(missing, variance)) / variance)

    return error
