"""Fades on disk, named by everything that determines them, for later runs and other processes."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np


class FadeStore:
    """One HDF5 file for each block of fades, under the hash of the facts that determine it.

    A file is written under another name and then renamed in one step. Any number of processes may share the folder, and
    none reads half a block.

    Parameters
    ----------
    folder : str or Path
        Folder of the files; created with the first block.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, facts: dict) -> Path:
        """Path of the block that `facts` determine: plain numbers and strings by name."""
        return self.folder / f"{hashlib.sha256(_json(facts).encode()).hexdigest()[:32]}.h5"

    def load(self, facts: dict) -> dict[str, np.ndarray] | None:
        """Arrays by name, or None if the block was never saved.

        Raises
        ------
        ValueError
            If the file is no such block.
        """
        path = self.path(facts)
        if not path.exists():
            return None
        try:
            with h5py.File(path) as file:
                stored, arrays = file.attrs["facts"], {name: _read(data) for name, data in file.items()}
        except (OSError, KeyError) as error:
            raise ValueError(f"{path} cannot be read as a block of fades; delete it to have it made again") from error
        if stored != _json(facts):
            raise ValueError(f"{path} holds other fades than its name says; delete it to have them made again")
        return arrays

    def save(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Save a block; complex arrays become pairs of reals in a last axis, which every HDF5 reader understands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".part")
        os.close(handle)
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["facts"] = _json(facts)
                for name, array in arrays.items():
                    pairs = np.ascontiguousarray(array)[..., None].view(np.real(array).dtype)
                    file.create_dataset(name, data=pairs).attrs["complex"] = int(np.iscomplexobj(array))
            os.replace(temporary, self.path(facts))
        finally:
            Path(temporary).unlink(missing_ok=True)


def _read(data):
    pairs = data[...]
    return pairs.view(np.complex64 if data.attrs["complex"] else pairs.dtype)[..., 0]


def _json(facts):
    return json.dumps(facts, sort_keys=True)
