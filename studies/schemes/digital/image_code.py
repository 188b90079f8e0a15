"""Images in as many bytes as a link carries, by a codec of still images.

The part that all images of a size have in common is not sent: of a file only the coded picture is. A byte in front of
it names the size, and the quality where the decoder has to know it; from these the receiver writes the rest of the
file. It knows the camera's format.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

SHRINKS = (1, 2, 3, 4)  # of width and height; with 64 qualities they fill a byte


class Codec(Protocol):
    """A codec of still images.

    Attributes
    ----------
    name : str
        Name of the codec: `tokenlink train images --codec NAME`, and NAME_errors.json.
    qualities : sequence of int
        From the smallest files to the largest.
    num_told : int
        How many qualities the byte in front tells apart: all of them, or one if the decoder needs none.
    """

    name: str
    qualities: Sequence[int]
    num_told: int

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return what is sent of an image."""
        ...

    def decode(self, sent: bytes, size: tuple[int, int], quality: int) -> Image.Image:
        """Return the image of what was sent; its size is (width, height).

        Raises
        ------
        OSError or ValueError
            If it is none.
        """
        ...


def compress(codec: Codec, image: np.ndarray, num_bytes: int) -> bytes:
    """Return the rendition of an image, uint8 [height, width, 3], with the least error in a number of bytes.

    Nothing is returned if no rendition fits.
    """
    original, best, least = Image.fromarray(image), b"", np.inf
    for number, shrink in enumerate(SHRINKS):
        fits, too_large, sent = -1, len(codec.qualities), b""  # files grow with quality
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            coded = _coded(codec, image.tobytes(), original.size, shrink, codec.qualities[middle])
            if 1 + len(coded) <= num_bytes:
                fits, sent = middle, coded
            else:
                too_large = middle
        if fits < 0:
            continue
        payload = bytes([number * codec.num_told + fits % codec.num_told]) + sent
        error = rendition_error(codec, image, payload)
        if error < least:
            best, least = payload, error
    return best


@functools.lru_cache(maxsize=2**15)  # searches at other SNRs begin with the same qualities
def _coded(codec: Codec, pixels: bytes, size: tuple[int, int], shrink: int, quality: int) -> bytes:
    """Return what is sent of an image of a size (width, height), made smaller."""
    image = Image.frombytes("RGB", size, pixels)
    small = image if shrink == 1 else image.resize(_shrunk(size, shrink), Image.Resampling.LANCZOS)
    return codec.encode(small, quality)


def decompress(codec: Codec, payload: bytes, size: tuple[int, int]) -> np.ndarray:
    """Return the image of a payload, uint8 [height, width, 3], at its original size (width, height).

    Raises
    ------
    ValueError
        If it holds no image.
    """
    if not payload.rstrip(b"\0"):
        raise ValueError("the payload is empty: nothing fitted")
    number, told = divmod(payload[0], codec.num_told)
    if number >= len(SHRINKS):
        raise ValueError(f"the payload names size {number}, there are {len(SHRINKS)}")
    try:
        image = codec.decode(payload[1:], _shrunk(size, SHRINKS[number]), codec.qualities[told]).convert("RGB")
    except OSError as error:  # the decoder's word for a damaged file
        raise ValueError(f"the payload is no image: {error}") from error
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))


def rendition_error(codec: Codec, image: np.ndarray, payload: bytes) -> float:
    """Return the mean squared error of an image's rendition; infinite for an empty payload."""
    if not payload:
        return np.inf
    rendition = decompress(codec, payload, (image.shape[1], image.shape[0]))
    return float(np.mean((rendition.astype(float) - image) ** 2))


# --- what bytes are worth ----------------------------------------------------------------------------------------


def left_out(codec: Codec, num_bytes: float) -> float:
    """Return the mean share of an image's variance that a number of bytes leaves out, as it was measured."""
    sizes, shares = _errors(codec.name)
    return float(np.interp(num_bytes, sizes, shares, left=1.0))  # fewer bytes are no image


def measure_errors(
    codec: Codec, images: Sequence[np.ndarray], sizes: Sequence[int], path: Path | None = None
) -> dict[int, float]:
    """Measure the shares of the images' variance around their mean that payloads of some sizes leave out; keep them."""
    from semantic.model_files import write_atomically

    variance = np.var(np.stack(images).astype(float), axis=0).mean()
    shares = {}
    for size in sizes:
        missing = [rendition_error(codec, image, compress(codec, image, size)) for image in images]
        shares[size] = float(np.mean(np.minimum(missing, variance)) / variance)
    write_atomically(path or errors_path(codec.name), (json.dumps(shares, indent=1) + "\n").encode())
    return shares


def errors_path(name: str) -> Path:
    """Return the file of the shares that a codec's payloads leave out, by bytes; of validation images."""
    return Path(__file__).with_name(f"{name}_errors.json")


@functools.cache
def _errors(name: str) -> tuple[list[int], list[float]]:
    shares = {int(size): share for size, share in json.loads(errors_path(name).read_text()).items()}
    return list(shares), list(shares.values())


def _shrunk(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    return -(-size[0] // shrink), -(-size[1] // shrink)
