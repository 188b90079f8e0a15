"""The interface of a data set: questions about images, of which every study and training reads no more than this."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Question(Protocol):
    """One question about one image."""

    @property
    def image_index(self) -> int:
        """Number of the image, as `Dataset.image` takes it."""
        ...

    @property
    def question(self) -> str:
        """The detailed question."""
        ...

    @property
    def answer(self) -> str:
        """The right answer."""
        ...

    @property
    def family(self) -> str:
        """Name of the question's kind; studies ask equally many of each and report each on its own."""
        ...


class Dataset(Protocol):
    """One split of a data set."""

    @property
    def questions(self) -> Sequence[Question]:
        """Every question of the split, in a fixed order."""
        ...

    @property
    def data_hash(self) -> str:
        """Hash of everything that an outcome may depend on: questions, answers and images."""
        ...

    def image(self, image_index: int) -> np.ndarray:
        """Return an image as uint8 [height, width, 3]; every image may have a size of its own."""
        ...
