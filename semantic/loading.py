"""Loading without a word: the terminal belongs to the program that loads."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Switch transformers' progress bars off within the block; the user's own setting holds again afterwards."""
    shown, without_downloads = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logging.disable_progress_bar()  # the hub's too
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
            if without_downloads:
                disable_progress_bars()
