"""Reader of CLEVR's file layout: the real data set's folders and those that `tokenlink scenes` writes.

Expected below the folder: ``images/SPLIT/*`` and ``questions/CLEVR_SPLIT_questions.json``. Training on scenes also
reads ``scenes/CLEVR_SPLIT_scenes.json``. CLEVR's public test split has no answers; use ``val`` there.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semantic.tasks import FAMILIES, family, normalize_answer

NO_PROGRAM = "no program"  # family of the questions that come without a functional program


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

    Parameters
    ----------
    folder : Path or str
    split : str
        Name of the split in the file names: train, val, test.

    Raises
    ------
    FileNotFoundError
        If the split's question file is absent.
    ValueError
        If the file holds no questions, or if a question lacks a key or is of an unknown family.
    """

    def __init__(self, folder: Path | str, split: str = "test") -> None:
        self.folder, self.split = Path(folder), split
        path = self.folder / "questions" / f"CLEVR_{split}_questions.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; give a folder in CLEVR's layout, or draw one: "
                f"tokenlink scenes --out {self.folder} --split {split} --count 500"
            )
        content = path.read_bytes()
        self._hash = hashlib.sha256(content)
        self.questions = [self._question(i, record) for i, record in enumerate(_list_in(path, content, "questions"))]

    def _question(self, index: int, record: dict[str, Any]) -> Question:
        missing = [key for key in ("image_index", "image_filename", "question", "answer") if key not in record]
        if missing:
            way_out = "; CLEVR's public test split has no answers: use split='val'" if missing == ["answer"] else ""
            raise ValueError(f"question {index} of the {self.split} split has no {' and no '.join(missing)}{way_out}")
        program = record.get("program") or ()
        try:
            name = family(program) if program else NO_PROGRAM
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"the program of question {index} of the {self.split} split has a node without a function"
            ) from error
        if name not in (*FAMILIES, NO_PROGRAM):
            raise ValueError(f"question {index} of the {self.split} split is of unknown family {name!r}")
        return Question(
            index=index,
            image_index=record["image_index"],
            image_filename=record["image_filename"],
            question=record["question"],
            answer=normalize_answer(str(record["answer"])),
            family=name,
            program=tuple(program),
        )

    def __len__(self) -> int:
        return len(self.questions)

    @cached_property
    def _filenames(self) -> dict[int, str]:
        return {q.image_index: q.image_filename for q in self.questions}

    def image(self, image_index: int) -> np.ndarray:
        """Return an image as uint8 [height, width, 3]."""
        path = self.folder / "images" / self.split / self._filenames[image_index]
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    @cached_property
    def scenes(self) -> list[dict[str, Any]]:
        """The scenes, in CLEVR's layout.

        Raises
        ------
        FileNotFoundError
            If the split has no scene file. Questions can be asked without one; training on scenes needs it.
        """
        path = self.folder / "scenes" / f"CLEVR_{self.split}_scenes.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist. Training on CLEVR scenes draws its own questions from the scenes' objects, so "
                "it needs this file; questions can be asked without it"
            )
        return _list_in(path, path.read_bytes(), "scenes")

    @property
    def data_hash(self) -> str:
        """SHA-256 of the question file and, in order, of every image that a question refers to."""
        return self._data_hash

    @cached_property
    def _data_hash(self) -> str:
        digest = self._hash.copy()
        for index in sorted(self._filenames):
            digest.update((self.folder / "images" / self.split / self._filenames[index]).read_bytes())
        return digest.hexdigest()


def _list_in(path: Path, content: bytes, key: str) -> list[dict[str, Any]]:
    """Return the list that a file of CLEVR's holds under a key."""
    try:
        records = json.loads(content)[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in CLEVR's layout: no JSON object with a list {key!r}") from error
    if not isinstance(records, list):
        raise ValueError(f"{path} is not in CLEVR's layout: {key!r} is no list")
    return records
