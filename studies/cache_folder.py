"""Where files lie that save time and that no result needs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return TOKENLINK_CACHE; without it `tokenlink` in XDG_CACHE_HOME, or in ~/.cache."""
    if own := os.environ.get("TOKENLINK_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenlink"
