"""Reader of easy-VQA: questions about images of one coloured shape each, from its Python package or a folder like its.

Expected below the folder: ``SPLIT/questions.json``, a list of ``[question, answer, image]``, and
``SPLIT/images/IMAGE.png``. There are the splits ``train`` and ``test``. The split ``val`` is every tenth image of the
training images, 9, 19, 29 and so on; ``train`` is the rest of them.

Source: V. Zhou, "easy-VQA", 2019, https://github.com/vzhou842/easy-VQA (MIT licence).
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from semantic.data.images import MAX_BYTES, path_below, read_image
from semantic.foreign_files import first_problem, parse_json, read_regular, short, whole_characters
from semantic.tasks import normalize_answer

FAMILIES = OPEN, YES_NO = ("open", "yes/no")
FILES = {"train": "train", "val": "train", "test": "test"}  # split: folder of its questions and images
HELD_OUT = 10  # of so many training images the last one belongs to `val`
MAX_JSON_BYTES = 2**30


def _says_something(text: str) -> str:
    """Refuse a text of which nothing is left to compare or to ask."""
    if not normalize_answer(whole_characters(text)):
        raise ValueError(f"{text!r:.80} says nothing")
    return text


Text = Annotated[str, Field(strict=True), AfterValidator(_says_something)]
RECORD = TypeAdapter(tuple[Text, Text, Annotated[int, Field(strict=True, ge=0, lt=10**9)]])
KEYS = ("question", "answer", "image")  # by their place in a record


@dataclass(frozen=True)
class Question:
    """One question about one image."""

    image_index: int
    question: str
    answer: str
    family: str


class EasyVqaDataset:
    """The questions and images of one split.

    Answers are single words, compared without regard to case. The family of a question is `yes/no` if that is what its
    answer is, else `open`: three of four are answered by yes or no, most of them without a look at the image.

    Parameters
    ----------
    folder : Path, str or None
        ``~`` is expanded. None: the data of the installed package.
    split : str
        train, val or test.

    Attributes
    ----------
    questions : list of Question
        In the order of the file.

    Raises
    ------
    FileNotFoundError
        If the split's question file is absent, or if no folder is given and the package is not installed.
    ValueError
        If there is no such split, or no question of it, or one is not in the layout. The message names the file and the
        question.
    """

    def __init__(self, folder: Path | str | None, split: str = "test") -> None:
        if split not in FILES:
            raise ValueError(f"easy-VQA's splits are {', '.join(FILES)}; got {split!r}")
        self.folder = installed_folder() if folder is None else Path(folder).expanduser()
        self.split = split
        part = self.folder / FILES[split]
        self._images_folder, self._questions_path = part / "images", part / "questions.json"
        if not self._questions_path.exists():
            raise FileNotFoundError(
                f"{self._questions_path} does not exist; give easy-VQA's folder `data`, which holds train and test"
            )
        content = read_regular(self._questions_path, MAX_JSON_BYTES)
        self._hash = hashlib.sha256(split.encode() + content)
        records = parse_json(self._questions_path, content)
        if not isinstance(records, list):
            raise ValueError(f"{self._questions_path} is not in easy-VQA's layout: no JSON list of questions")
        questions = [self._question(number, record) for number, record in enumerate(records)]
        self.questions = [question for question in questions if self._has(question.image_index)]
        if not self.questions:
            raise ValueError(f"{self._questions_path} holds no questions of the split {split}")

    def _has(self, image: int) -> bool:
        """Return whether an image of the split's file belongs to the split."""
        is_held_out = image % HELD_OUT == HELD_OUT - 1
        return self.split == "test" or is_held_out == (self.split == "val")

    def _question(self, number: int, record: Any) -> Question:
        try:
            if not isinstance(record, list) or len(record) != len(KEYS):
                raise ValueError(f"got {short(record)}")
            question, answer, image = RECORD.validate_python(tuple(record))
        except ValidationError as error:
            place, _, problem = first_problem(error).partition(": ")
            raise self._refusal(number, f"{KEYS[int(place)]}: {problem}") from error
        except ValueError as error:
            raise self._refusal(number, str(error)) from error
        answer = normalize_answer(answer)
        return Question(image, question, answer, YES_NO if answer in ("yes", "no") else OPEN)

    def _refusal(self, number: int, problem: str) -> ValueError:
        return ValueError(f"{self._questions_path}: question {number}: {problem}; a record is [{', '.join(KEYS)}]")

    def __len__(self) -> int:
        return len(self.questions)

    def image(self, image_index: int) -> np.ndarray:
        """Return an image as uint8 [height, width, 3].

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it is no JPEG or PNG image of 4096 x 4096 pixels at most.
        """
        return read_image(self._path(image_index))

    @property
    def data_hash(self) -> str:
        """SHA-256 of the split's name, the question file and, in order, every image of the split."""
        return self._data_hash

    @cached_property
    def _data_hash(self) -> str:
        digest = self._hash.copy()
        for index in sorted({question.image_index for question in self.questions}):
            digest.update(read_regular(self._path(index), MAX_BYTES))
        return digest.hexdigest()

    def _path(self, image_index: int) -> Path:
        return path_below(self._images_folder, f"{image_index}.png")


def installed_folder() -> Path:
    """Return the folder of data of the installed package, whose code is not run.

    Raises
    ------
    FileNotFoundError
        If it is not installed.
    """
    package = importlib.util.find_spec("easy_vqa")
    if package is None or package.origin is None:
        raise FileNotFoundError(
            "the package easy-vqa is not installed; give the folder of its data, or "
            "pip install -c constraints.txt -e '.[easy-vqa]'"
        )
    return Path(package.origin).parent / "data"
