"""Where things are kept that one run may use of another."""

import os
from pathlib import Path

from studies.config import expanded


def cache_folder() -> Path:
    """Return the user's cache folder: TOKENLINK_CACHE, or `tokenlink` in XDG_CACHE_HOME or in `~/.cache`."""
    if chosen := os.environ.get("TOKENLINK_CACHE"):
        return Path(expanded(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenlink"
