"""Reader of CLEVR's file layout: the real data set's folders and those that `tokenlink scenes` writes.

Expected below the folder: ``images/SPLIT/*`` and ``questions/CLEVR_SPLIT_questions.json``. Training on scenes also
reads ``scenes/CLEVR_SPLIT_scenes.json``. CLEVR's public test split has no answers; use ``val`` there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from semantic.data.images import MAX_BYTES, path_below, read_image
from semantic.data.records import QuestionRecord, SceneRecord
from semantic.foreign_files import check_split, first_problem, parse_json, read_regular, short
from semantic.tasks import execute, family

NO_PROGRAM = "no program"  # family of the questions that come without a functional program
MAX_JSON_BYTES = 4 * 2**30  # of a question or scene file; CLEVR's largest has 1.1 GB
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Question:
    """One question about one image, with the answer that is counted as right."""

    index: int
    image_index: int
    image_filename: str
    question: str
    answer: str
    family: str
    program: tuple[dict[str, Any], ...]  # empty where the file has none


class ClevrDataset:
    """The questions, images and scenes of one split.

    Where there is a scene file, every program is executed on its scene, and has to give the answer of the file.

    Parameters
    ----------
    folder : Path or str
        ``~`` is expanded.
    split : str
        Name of the split in the file names: train, val, test.

    Raises
    ------
    FileNotFoundError
        If the split's question file is absent.
    ValueError
        If the split is no name, or the file holds no questions, or if a question lacks a key, or its answer is none of
        CLEVR's or another than that of its program. The message names the file and the question's number in it, from 0.
    """

    def __init__(self, folder: Path | str, split: str = "test") -> None:
        check_split(split)
        self.folder, self.split = Path(folder).expanduser(), split
        path = self._questions_path = self.folder / "questions" / f"CLEVR_{split}_questions.json"
        self._scenes_path = self.folder / "scenes" / f"CLEVR_{split}_scenes.json"
        self._images_folder = self.folder / "images" / split
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; give a folder in CLEVR's layout, or draw one: "
                f"tokenlink scenes --out {self.folder} --split {split} --count 500"
            )
        content = read_regular(path, MAX_JSON_BYTES)
        self._hash = hashlib.sha256(content)
        records = _list_in(path, content, "questions")
        self.questions = [self._question(index, record) for index, record in enumerate(records)]
        if not self.questions:
            raise ValueError(f"{path} is not in CLEVR's layout: it holds no questions")
        self._filenames = self._names_of_images()
        if self._scenes_path.exists():
            self._check_answers()

    def _question(self, index: int, content: Any) -> Question:
        where = f"question {index} of the {self.split} split"
        if isinstance(content, Mapping):
            missing = [name for name in ("image_index", "image_filename", "question", "answer") if name not in content]
            if missing:
                no_answers = missing == ["answer"] and self.split == "test"
                way_out = "; CLEVR's public test split has no answers: use split='val'" if no_answers else ""
                raise ValueError(f"{self._questions_path}: {where} has no {' and no '.join(missing)}{way_out}")
        record = _validated(content, QuestionRecord, where, self._questions_path)
        nodes = record.nodes
        return Question(
            index=index,
            image_index=record.image_index,
            image_filename=record.image_filename,
            question=record.question,
            answer=record.words,
            family=family(nodes) if nodes else NO_PROGRAM,
            program=nodes,
        )

    def _names_of_images(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for question in self.questions:
            first = names.setdefault(question.image_index, question.image_filename)
            if first != question.image_filename:
                raise ValueError(
                    f"{self._questions_path}: question {question.index} of the {self.split} split calls image "
                    f"{question.image_index} {short(question.image_filename)}, an earlier one {short(first)}"
                )
        return names

    def _check_answers(self) -> None:
        """Execute the programs on the scenes."""
        scenes = {scene["image_index"]: scene for scene in self.scenes}
        for question in self.questions:
            scene = scenes.get(question.image_index)
            if not question.program or scene is None:
                continue
            where = f"{self._questions_path}: question {question.index} of the {self.split} split"
            try:
                given = execute(question.program, scene)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            if given != question.answer:
                raise ValueError(
                    f"{where} has the answer {question.answer!r}, its program gives {given!r} on the scene of image "
                    f"{question.image_index}"
                )

    def __len__(self) -> int:
        return len(self.questions)

    def image(self, image_index: int) -> np.ndarray:
        """Return an image as uint8 [height, width, 3].

        Raises
        ------
        KeyError
            If no question is about an image of this number.
        FileNotFoundError, ValueError
            If there is no such file, or it is no JPEG or PNG image of 4096 x 4096 pixels at most. The message names the
            file and a question about it.
        """
        name = self._filenames[image_index]
        try:
            return read_image(path_below(self._images_folder, name))
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{error} (image of {self._question_about(image_index)})") from error

    def _question_about(self, image_index: int) -> str:
        index = next(question.index for question in self.questions if question.image_index == image_index)
        return f"question {index} of the {self.split} split"

    @cached_property
    def scenes(self) -> list[dict[str, Any]]:
        """The scenes, in CLEVR's layout.

        Raises
        ------
        FileNotFoundError
            If the split has no scene file. Questions can be asked without one; training on scenes needs it.
        ValueError
            If one lacks what a program needs.
        """
        path = self._scenes_path
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist. Training on CLEVR scenes draws its own questions from the scenes' objects, so "
                "it needs this file; questions can be asked without it"
            )
        scenes = _list_in(path, read_regular(path, MAX_JSON_BYTES), "scenes")
        for index, scene in enumerate(scenes):
            _validated(scene, SceneRecord, f"scene {index} of the {self.split} split", path)
        return scenes

    @property
    def data_hash(self) -> str:
        """SHA-256 of the question file and, in order, of every image that a question refers to."""
        return self._data_hash

    @cached_property
    def _data_hash(self) -> str:
        digest = self._hash.copy()
        for index in sorted(self._filenames):
            try:
                digest.update(read_regular(path_below(self._images_folder, self._filenames[index]), MAX_BYTES))
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f"{error} (image of {self._question_about(index)})") from error
        return digest.hexdigest()


def _validated(content: Any, kind: type[Record], where: str, path: Path) -> Record:
    """Return a record of a file; refuse it with its number and the key that is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {where}: {first_problem(error)}") from error


def _list_in(path: Path, content: bytes, key: str) -> list[Any]:
    """Return the list that a file of CLEVR's holds under a key."""
    whole = parse_json(path, content)
    if not isinstance(whole, dict) or not isinstance(whole.get(key), list):
        raise ValueError(f"{path} is not in CLEVR's layout: no JSON object with a list {key!r}")
    return whole[key]
