"""Images of others: regular files of a bounded size below one folder, JPEG or PNG, of bounded sides."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from semantic.foreign_files import read_regular

FORMATS = ("JPEG", "PNG")
MAX_BYTES = 50 * 2**20
MAX_SIDE = 4096  # [pixels]


def path_below(folder: Path, name: str) -> Path:
    """Return the path of a file by its name relative to a folder; links may not lead out of it.

    Raises
    ------
    ValueError
        If they do.
    """
    path = folder / name
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ValueError(f"{path} cannot be resolved: {error}") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise ValueError(f"{path} lies outside of {folder}; copy it there, a link is not enough")
    return path


def read_image(path: Path) -> np.ndarray:
    """Read an image as uint8 [height, width, 3].

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no image that is read here; sides are looked at before anything is decoded.
    """
    content = io.BytesIO(read_regular(path, MAX_BYTES))
    try:
        image = Image.open(content, formats=FORMATS)
    except Exception as error:  # PIL has no exception of its own: SyntaxError and struct.error are among them
        raise ValueError(f"{path} is no {' or '.join(FORMATS)} image: {_reason(error)}") from error
    with image:
        if max(image.size) > MAX_SIDE:
            raise ValueError(
                f"{path} has {image.width} x {image.height} pixels, {MAX_SIDE} x {MAX_SIDE} is the most that is "
                "decoded; make it smaller"
            )
        try:
            return np.asarray(image.convert("RGB"))
        except Exception as error:
            raise ValueError(f"{path} is a damaged {image.format} image: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).replace(" <_io.BytesIO", " <").partition(" <")[0] or type(error).__name__
