"""Loading without a word: the terminal belongs to the program that loads."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Switch transformers' progress bars off within the block; the user's own setting holds again afterwards."""
    if not logging.is_progress_bar_enabled():
        yield
        return
    downloads_shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()  # those of downloads too
    try:
        yield
    finally:
        logging.enable_progress_bar()
        if not downloads_shown:
            disable_progress_bars()
