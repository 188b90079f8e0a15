"""Reader of CLEVR's file layout: the real data set's folders and those that `tokenlink scenes` writes.

Expected below the folder: ``images/SPLIT/*``, ``questions/CLEVR_SPLIT_questions.json`` and, for training the embedded
pair, ``scenes/CLEVR_SPLIT_scenes.json``. CLEVR's public test split has no answers; use ``val`` there.
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


@dataclass(frozen=True)
class Question:
    """One question about one image, with the answer that is counted as right."""

    index: int
    image_index: int
    image_filename: str
    question: str
    answer: str
    family: str
    program: tuple[dict[str, Any], ...]


class ClevrDataset:
    """The questions, images and scenes of one split.

    Parameters
    ----------
    folder : Path or str
    split : str
        As in the file names: train, val, test.

    Raises
    ------
    FileNotFoundError
        If the split's question file is absent.
    ValueError
        If a question has no answer or program.
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
        self.questions = [self._question(i, record) for i, record in enumerate(json.loads(content)["questions"])]

    def _question(self, index: int, record: dict[str, Any]) -> Question:
        if "answer" not in record or "program" not in record:
            raise ValueError(
                f"question {index} of the {self.split} split has no answer or program; CLEVR's public test split has "
                "none: use split='val'"
            )
        name = family(record["program"])
        if name not in FAMILIES:
            raise ValueError(f"question {index} of the {self.split} split is of unknown family {name!r}")
        return Question(
            index=index,
            image_index=record["image_index"],
            image_filename=record["image_filename"],
            question=record["question"],
            answer=normalize_answer(str(record["answer"])),
            family=name,
            program=tuple(record["program"]),
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
        """Return the scenes, in CLEVR's layout."""
        return json.loads((self.folder / "scenes" / f"CLEVR_{self.split}_scenes.json").read_text())["scenes"]

    @cached_property
    def data_hash(self) -> str:
        """Return the SHA-256 of the question file and, in order, of every image that a question refers to."""
        digest = self._hash.copy()
        for index in sorted(self._filenames):
            digest.update((self.folder / "images" / self.split / self._filenames[index]).read_bytes())
        return digest.hexdigest()
