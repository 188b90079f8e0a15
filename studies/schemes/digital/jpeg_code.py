"""JPEG images in as many bytes as a link carries.

The part that all images have in common is not sent: of the JPEG file only the entropy-coded part is. A byte in front of
it names size and quality, from which the receiver writes the rest of the file. It knows the camera's format.
"""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

QUALITIES = (*range(1, 33), *range(34, 97, 2))  # 64 of them
SHRINKS = (1, 2, 3, 4)  # of width and height; with the qualities they fill a byte
SCAN = 0xDA  # marker behind whose segment the entropy-coded part begins
ERRORS = Path(__file__).with_name("jpeg_errors.json")  # shares of variance left out, by bytes; of validation images


def compress(image: np.ndarray, num_bytes: int) -> bytes:
    """Return the rendition of an image, uint8 [height, width, 3], with the least error in a number of bytes.

    Nothing is returned if no rendition fits.
    """
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
        error = rendition_error(image, payload)
        if error < least:
            best, least = payload, error
    return best


def rendition_error(image: np.ndarray, payload: bytes) -> float:
    """Return the mean squared error of an image's rendition; infinite for an empty payload."""
    if not payload:
        return np.inf
    return float(np.mean((decompress(payload, (image.shape[1], image.shape[0])).astype(float) - image) ** 2))


def left_out(num_bytes: float) -> float:
    """Return the mean share of an image's variance that a number of bytes leaves out, as it was measured."""
    sizes, shares = _errors()
    return float(np.interp(num_bytes, sizes, shares, left=1.0))  # fewer bytes are no image


def measure_errors(images: Sequence[np.ndarray], sizes: Sequence[int], path: Path = ERRORS) -> dict[int, float]:
    """Measure the shares of the images' variance around their mean that payloads of some sizes leave out; keep them."""
    variance = np.var(np.stack(images).astype(float), axis=0).mean()
    shares = {}
    for size in sizes:
        missing = [rendition_error(image, compress(image, size)) for image in images]
        shares[size] = float(np.mean(np.minimum(missing, variance)) / variance)
    path.write_text(json.dumps(shares, indent=1) + "\n")
    return shares


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
    except OSError as error:  # the decoder's word for a damaged file
        raise ValueError(f"the payload is no image: {error}") from error
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))


@functools.cache
def _errors() -> tuple[list[int], list[float]]:
    shares = {int(size): share for size, share in json.loads(ERRORS.read_text()).items()}
    return list(shares), list(shares.values())


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def _scan(jpeg: bytes) -> bytes:
    """Return the entropy-coded part of a file and the marker at its end."""
    return jpeg[_scan_start(jpeg) :]


@functools.cache
def _header(size: tuple[int, int], quality: int) -> bytes:
    """Return the file's head, up to the entropy-coded part; all images of a size and quality share it."""
    jpeg = _jpeg(Image.new("RGB", size), quality)
    return jpeg[: _scan_start(jpeg)]


def _scan_start(jpeg: bytes) -> int:
    at = 2  # behind the marker of the file's start; then segments: 0xFF, marker, length in two bytes, content
    while True:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        at += 2 + length
        if marker == SCAN:
            return at


def _shrunk(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    return -(-size[0] // shrink), -(-size[1] // shrink)
