"""Which questions a study asks, in which order, and in which batches: all decided by the seed alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from semantic.data.dataset import Dataset, Question


def choose_questions(questions: "Sequence[Question]", num_questions: int, seed: int) -> np.ndarray:
    """Choose questions evenly over the families, at random within each, and sort them by image.

    Families that run out leave their share to the others. Sorted by image, a batch can reuse what it knows of an image.

    Parameters
    ----------
    questions : all questions of the split
    num_questions : how many to choose
    seed : decides the choice

    Returns
    -------
    numpy.ndarray, [num_questions], int64
        Indices into `questions`. The question at position i is *number i of the study*, and meets realisation i of the
        channel in every scheme and at every SNR.

    Raises
    ------
    ValueError
        If the split has fewer questions.
    """
    if not 0 < num_questions <= len(questions):
        raise ValueError(
            f"num_questions={num_questions}: the split has {len(questions)}. Lower num_questions, or point data.folder "
            "at a larger split (`tokenlink scenes` renders it)."
        )
    rng = np.random.default_rng(seed)
    families = sorted({question.family for question in questions})
    members = {family: [i for i, question in enumerate(questions) if question.family == family] for family in families}
    queues = [rng.permutation(members[family]) for family in families]
    # Round by round, one question of each family: the first num_questions of that order are even over the families.
    rounds = sorted((turn, family, index) for family, queue in enumerate(queues) for turn, index in enumerate(queue))
    chosen = [int(index) for _, _, index in rounds[:num_questions]]
    return np.array(sorted(chosen, key=lambda i: (questions[i].image_index, i)), dtype=np.int64)


@dataclass(frozen=True)
class Batch:
    """Some consecutive questions of a study; images are loaded only if asked for."""

    start: int
    questions: "tuple[Question, ...]"
    dataset: "Dataset"

    @property
    def numbers(self) -> np.ndarray:
        """The questions' numbers in the study, which are also the numbers of the fades they meet: int64, [batch]."""
        return np.arange(self.start, self.start + len(self.questions), dtype=np.int64)

    @property
    def texts(self) -> list[str]:
        """The detailed questions."""
        return [question.question for question in self.questions]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and colours of the first question's image."""
        return self.dataset.image(self.questions[0].image_index).shape

    @property
    def images(self) -> list[np.ndarray]:
        """The questions' images, uint8 [height, width, 3]; one that several questions share is loaded once."""
        loaded = {index: self.dataset.image(index) for index in {question.image_index for question in self.questions}}
        return [loaded[question.image_index] for question in self.questions]


def batches(dataset: "Dataset", chosen: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """Cut the chosen questions into batches whose borders depend on nothing but `batch_size`."""
    for start in range(0, len(chosen), batch_size):
        indices = chosen[start : start + batch_size]
        yield Batch(start, tuple(dataset.questions[index] for index in indices), dataset)
