"""Reader of GQA's file layout: questions about photographs, keyed by their id.

Expected below the folder: ``images/ID.jpg`` and ``SPLIT_questions.json``, there or in ``questions/``, as GQA's archives
unpack: the split is ``val_balanced``, ``testdev_balanced`` and so on. GQA's test and challenge splits have no answers.

Source: D. A. Hudson, C. D. Manning, "GQA: a new dataset for real-world visual reasoning and compositional question
answering", CVPR 2019.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from semantic.data.images import MAX_BYTES, path_below, read_image
from semantic.foreign_files import check_split, first_problem, parse_json, read_regular, short, whole_characters
from semantic.tasks import normalize_answer

NO_TYPE = "no type"  # family of the questions that come without one
MAX_JSON_BYTES = 4 * 2**30


def _answers_something(text: str) -> str:
    """Refuse an answer of which nothing is left to compare."""
    if not normalize_answer(text):
        raise ValueError(f"{text!r:.80} is no answer")
    return text


Text = Annotated[str, AfterValidator(whole_characters)]


class Types(BaseModel, frozen=True, strict=True):
    """What a question asks for; GQA has two more classifications."""

    structural: Literal["choose", "compare", "logical", "query", "verify"]


class QuestionRecord(BaseModel, frozen=True, strict=True):
    """One question as GQA's files have it; other keys are left alone."""

    image: Annotated[str, Field(validation_alias="imageId"), StringConstraints(pattern=r"^n?[0-9]{1,12}$")]
    question: Text
    answer: Annotated[Text, AfterValidator(_answers_something)]
    full_answer: Annotated[Text | None, Field(validation_alias="fullAnswer")] = None
    types: Types | None = None


@dataclass(frozen=True)
class Question:
    """One question about one image, with the answer that is counted as right."""

    id: str
    image_index: int
    question: str
    answer: str
    full_answer: str | None
    family: str


class GqaDataset:
    """The questions and images of one split.

    Answers are compared as GQA's own evaluation does, word for word, after lower case and without outer space or final
    full stop: GQA's are written so. The family of a question is its structural type.

    Parameters
    ----------
    folder : Path or str
        ``~`` is expanded.
    split : str
        What stands before ``_questions.json``: val_balanced, testdev_balanced, train_balanced, val_all.

    Attributes
    ----------
    questions : list of Question
        In the order of the file. Images are numbered by their ids in alphabetical order.

    Raises
    ------
    FileNotFoundError
        If the split's question file is absent.
    ValueError
        If the file holds no questions, or one twice, or a question lacks a key or has a wrong one. The message names
        the file and the question's id.
    """

    def __init__(self, folder: Path | str, split: str = "val_balanced") -> None:
        self.folder, self.split = Path(folder).expanduser(), split
        check_split(split)
        self._images_folder = self.folder / "images"
        name = f"{split}_questions.json"
        places = [self.folder / name, self.folder / "questions" / name]
        self._questions_path = next((path for path in places if path.exists()), places[0])
        if not self._questions_path.exists():
            raise FileNotFoundError(
                f"neither {places[0]} nor {places[1]} exists; unpack GQA's questions and images there"
            )
        content = read_regular(self._questions_path, MAX_JSON_BYTES)
        self._hash = hashlib.sha256(content)
        whole = parse_json(self._questions_path, content, unique_keys=True)
        if not isinstance(whole, dict) or not whole:
            raise ValueError(f"{self._questions_path} is not in GQA's layout: no JSON object of questions by their id")
        records = {key: self._record(key, record) for key, record in whole.items()}
        self.image_ids = sorted({record.image for record in records.values()})
        numbers = {image: number for number, image in enumerate(self.image_ids)}
        self.questions = [
            Question(
                id=key,
                image_index=numbers[record.image],
                question=record.question,
                answer=normalize_answer(record.answer),
                full_answer=record.full_answer,
                family=record.types.structural if record.types else NO_TYPE,
            )
            for key, record in records.items()
        ]

    def _record(self, key: str, content: Any) -> QuestionRecord:
        where = f"{self._questions_path}: question {short(key)}"
        try:
            whole_characters(key)
            if isinstance(content, Mapping) and "answer" not in content and "imageId" in content:
                raise ValueError(
                    "it has no answer; GQA's test and challenge splits have none: use split='val_balanced' or "
                    "'testdev_balanced'"
                )
            return QuestionRecord.model_validate(content)
        except ValidationError as error:
            raise ValueError(f"{where}: {first_problem(error)}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def __len__(self) -> int:
        return len(self.questions)

    def image(self, image_index: int) -> np.ndarray:
        """Return an image as uint8 [height, width, 3].

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it is no JPEG or PNG image of 4096 x 4096 pixels at most. The message names the
            file and a question about it.
        """
        try:
            return read_image(self._path(image_index))
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{error} (image of {self._question_about(image_index)})") from error

    @property
    def data_hash(self) -> str:
        """SHA-256 of the question file and, in order, of every image that a question refers to."""
        return self._data_hash

    @cached_property
    def _data_hash(self) -> str:
        digest = self._hash.copy()
        for index in range(len(self.image_ids)):
            try:
                digest.update(read_regular(self._path(index), MAX_BYTES))
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f"{error} (image of {self._question_about(index)})") from error
        return digest.hexdigest()

    def _path(self, image_index: int) -> Path:
        return path_below(self._images_folder, f"{self.image_ids[image_index]}.jpg")

    def _question_about(self, image_index: int) -> str:
        asked = next(question.id for question in self.questions if question.image_index == image_index)
        return f"question {short(asked)} of the {self.split} split"
