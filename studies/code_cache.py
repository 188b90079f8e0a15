"""Results that no link changes, shared by all runs: codes, and points that never cross a link.

A file is named by the hash of what determines it, as in a run folder, and is believed only if it is what its SHA-256
says. A run copies what it needs and stays whole without the cache.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studies import archive

MAX_BYTES = 4 * 2**30


class CodeCache:
    """A folder of results that runs share. Any number of runs may use it at once.

    Where it cannot be read or written, runs go on without it.

    Parameters
    ----------
    folder : Path
    max_bytes : int
        Size above which `trim` removes what has not been used for longest.
    on_problem : callable
        Called with a sentence, once, if the folder cannot be used.
    """

    def __init__(
        self, folder: Path, max_bytes: int = MAX_BYTES, on_problem: Callable[[str], Any] = lambda problem: None
    ):
        self.folder, self.max_bytes, self._on_problem = folder, max_bytes, on_problem
        self._usable = True

    def fetch(self, key: Mapping[str, Any], into: Path) -> bool:
        """Copy the result that `key` determines into a run's folder; False if it is not here."""
        path = archive.point_path(self.folder, key)

        def copy() -> None:
            archive.write_atomically(into / path.name, path.read_bytes())
            os.utime(path)

        # One that is damaged counts as absent: the run that computes it writes it anew.
        return self._usable and archive.is_done(self.folder, key) and self._tried(copy)

    def keep(self, path: Path) -> None:
        """Copy a result of a run's folder here."""
        self._tried(lambda: archive.write_atomically(self.folder / path.name, path.read_bytes()))

    def trim(self) -> None:
        """Remove what has not been used for longest, until the rest is at most `max_bytes` large."""

        def remove() -> None:
            archive.remove_leftovers(self.folder)
            found = [(path.stat(), path) for path in self.folder.glob("*.h5")]
            excess = sum(stat.st_size for stat, _ in found) - self.max_bytes
            for stat, path in sorted(found, key=lambda item: item[0].st_mtime):
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= stat.st_size

        self._tried(remove)

    def _tried(self, step: Callable[[], None]) -> bool:
        """Take a step; where it fails, say so once, and whether it was taken."""
        if not self._usable:
            return False
        try:
            step()
        except FileNotFoundError:
            return False  # another run removed it in this moment
        except OSError as error:
            self._usable = False
            self._on_problem(f"{error.filename or self.folder}: {error.strerror}; going on without shared codes")
            return False
        return True
