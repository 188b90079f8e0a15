"""Data sets: the protocol, one file per layout, the shipped test split."""

from collections.abc import Callable
from pathlib import Path

from semantic.data.clevr import ClevrDataset
from semantic.data.dataset import Dataset, Question
from semantic.data.easy_vqa import EasyVqaDataset
from semantic.data.gqa import GqaDataset

__all__ = [
    "DATASETS",
    "ClevrDataset",
    "Dataset",
    "EasyVqaDataset",
    "GqaDataset",
    "Question",
    "load_dataset",
    "shipped_split",
]

Reader = Callable[[Path, str], Dataset]  # of a folder and a split

DATASETS: dict[str, Reader] = {"clevr": ClevrDataset, "easy-vqa": EasyVqaDataset, "gqa": GqaDataset}
SHIPPED, SHIPPED_SPLIT, SHIPPED_LAYOUT = Path(__file__).parent / "clevr-mini", "test", "clevr"


def shipped_split() -> ClevrDataset:
    """Return the test split that ships with the project: rendered scenes that no training has seen."""
    return ClevrDataset(SHIPPED, SHIPPED_SPLIT)


def load_dataset(folder: Path | str | None, split: str, layout: str = "clevr") -> Dataset:
    """Load one split of a data set.

    Parameters
    ----------
    folder : Path, str or None
        Folder of the data set; ``~`` is expanded. None: the shipped split, or in layout easy-vqa the package's data.
    split : str
        Name of the split, as the files have it.
    layout : str
        Layout of the folder: a key of `DATASETS`.

    Raises
    ------
    ValueError
        If the layout is unknown, or if a split other than the shipped one is asked for without a folder.
    FileNotFoundError
        If the folder has no such split.
    """
    if layout not in DATASETS:
        raise ValueError(f"data layout must be one of {', '.join(DATASETS)}; got {layout!r}")
    if layout == "easy-vqa" and folder is None:
        return EasyVqaDataset(None, split)
    if folder is not None:
        return DATASETS[layout](Path(folder).expanduser(), split)
    if (split, layout) != (SHIPPED_SPLIT, SHIPPED_LAYOUT):
        raise ValueError(
            f"without a folder only the shipped split can be read: {SHIPPED_SPLIT!r} in layout {SHIPPED_LAYOUT!r}; got "
            f"split {split!r} in layout {layout!r}. Give the folder that holds it"
        )
    return shipped_split()
