"""The codecs that images are sent with: JPEG, and AVIF, which keeps more of an image in as many bytes."""

import functools
import io
from collections.abc import Sequence

from PIL import Image

from studies.schemes.digital.image_code import Codec

SCAN = 0xDA  # JPEG's marker behind whose segment the entropy-coded part begins
FRAME = 0x32  # header of AV1's unit that holds a whole picture and tells its own length


class Jpeg:
    """JPEG's baseline code; the entropy-coded part alone is sent."""

    name = "jpeg"
    qualities: Sequence[int] = (*range(1, 33), *range(34, 97, 2))  # 64 of them
    num_told = len(qualities)

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the entropy-coded part of a file and the marker at its end."""
        return _behind_head(_jpeg(image, quality))[1]

    def decode(self, sent: bytes, size: tuple[int, int], quality: int) -> Image.Image:
        """Put the head that all images of a size and quality share in front, and open the file."""
        return Image.open(io.BytesIO(_jpeg_head(size, quality) + sent))


class Avif:
    """AV1's still pictures; the coded frame alone is sent. Its own header has the quality.

    Source: AV1 Bitstream & Decoding Process Specification, section 5.3: units ("OBU") of a header byte, a length in
    groups of seven bits, and content.
    """

    name = "avif"
    qualities: Sequence[int] = range(91)
    num_told = 1

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the content of a file's frame, without zeros at its end: what it is padded with is none of it."""
        head, frame = _avif_parts(_avif(image, quality))
        if head != _avif_head(image.size):
            raise ValueError(f"AVIF files of {image.size} pixels differ in more than their frames")
        return frame.rstrip(b"\0")

    def decode(self, sent: bytes, size: tuple[int, int], quality: int) -> Image.Image:
        """Put the head that all images of a size share in front, with the lengths that it names, and open the file."""
        frame = sent.rstrip(b"\0")
        unit = bytes([FRAME]) + _seven_bits(len(frame)) + frame
        head = bytearray(_avif_head(size))
        start = head.index(b"mdat") + 4
        length = len(head) - start + len(unit)
        head[start - 8 : start - 4] = (8 + length).to_bytes(4, "big")
        extent = head.index(b"iloc") - 4 + int.from_bytes(head[head.index(b"iloc") - 4 : head.index(b"iloc")], "big")
        head[extent - 4 : extent] = length.to_bytes(4, "big")
        image = Image.open(io.BytesIO(bytes(head) + unit))
        try:
            image.load()
        except RuntimeError as error:  # Pillow's word for what AV1's decoder refuses
            raise ValueError(f"the frame is no picture: {error}") from error
        return image


CODECS: dict[str, Codec] = {codec.name: codec for codec in (Jpeg(), Avif())}


# --- JPEG --------------------------------------------------------------------------------------------------------


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


@functools.cache
def _jpeg_head(size: tuple[int, int], quality: int) -> bytes:
    return _behind_head(_jpeg(Image.new("RGB", size), quality))[0]


def _behind_head(jpeg: bytes) -> tuple[bytes, bytes]:
    """Split a file where its entropy-coded part begins."""
    at = 2  # behind the marker of the file's start; then segments: 0xFF, marker, length in two bytes, content
    while True:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        at += 2 + length
        if marker == SCAN:
            return jpeg[:at], jpeg[at:]


# --- AVIF --------------------------------------------------------------------------------------------------------


def _avif(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=quality, subsampling="4:2:0", codec="aom", speed=6, max_threads=1)
    return buffer.getvalue()


@functools.cache
def _avif_head(size: tuple[int, int]) -> bytes:
    return _avif_parts(_avif(Image.new("RGB", size), 50))[0]


def _avif_parts(avif: bytes) -> tuple[bytes, bytes]:
    """Split a file into what precedes its frame, lengths set to zero, and the frame's content."""
    head = bytearray(avif[: avif.index(b"mdat") + 4])
    at = len(head)
    while avif[at] != FRAME:
        length, behind = _read_seven_bits(avif, at + 1)
        at = behind + length
    head += avif[len(head) : at]
    start, behind = head.index(b"mdat"), head.index(b"iloc")
    extent = behind - 4 + int.from_bytes(head[behind - 4 : behind], "big")
    head[start - 4 : start] = head[extent - 4 : extent] = bytes(4)
    length, start = _read_seven_bits(avif, at + 1)
    return bytes(head), avif[start : start + length]


def _seven_bits(number: int) -> bytes:
    """Write a number in groups of seven bits, the lowest first; the eighth bit says that more follow."""
    groups = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _read_seven_bits(data: bytes, at: int) -> tuple[int, int]:
    """Read such a number; return it and where it ends."""
    number, shift = 0, 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return number, at
