"""Records of CLEVR's files, checked one by one: what a question or a scene has to hold before it is read."""

import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, model_validator

from semantic.foreign_files import whole_characters
from semantic.tasks import ATTRIBUTES, DIRECTIONS, answers_to, check_program, normalize_answer

_NUMBER = re.compile(r"0|[1-9][0-9]?")
ANSWERS = frozenset({"yes", "no", *(value for values in ATTRIBUTES.values() for value in values)})  # and numbers


def _inside(name: str) -> str:
    """Refuse a file name that leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or path == PurePosixPath():
        raise ValueError(f"{name!r} has to be a name below images/SPLIT, neither absolute nor with '..'")
    return name


Index = Annotated[int, Field(ge=0, le=2**31)]
Text = Annotated[str, AfterValidator(whole_characters)]
FileName = Annotated[Text, Field(max_length=4096), AfterValidator(_inside)]


class Node(BaseModel, frozen=True, strict=True):
    """One step of a program; CLEVR's generator calls its function "type", its value "side_inputs"."""

    function: Annotated[str, Field(validation_alias=AliasChoices("function", "type"))]
    inputs: list[Index]
    value_inputs: Annotated[
        list[str], Field(default_factory=list, validation_alias=AliasChoices("value_inputs", "side_inputs"))
    ]


class QuestionRecord(BaseModel, frozen=True, strict=True):
    """One question as CLEVR's files have it; other keys are left alone."""

    image_index: Index
    image_filename: FileName
    question: Text
    answer: bool | int | str
    program: list[Node] | None = None

    @cached_property
    def words(self) -> str:
        """The answer in words; CLEVR's generator writes true and false."""
        if isinstance(self.answer, bool):
            return "yes" if self.answer else "no"
        return normalize_answer(str(self.answer))

    @cached_property
    def nodes(self) -> tuple[dict[str, Any], ...]:
        """The program, in CLEVR's published layout."""
        return tuple(
            {"function": node.function, "inputs": node.inputs, "value_inputs": node.value_inputs}
            for node in self.program or ()
        )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.words not in ANSWERS and not _NUMBER.fullmatch(self.words):
            raise ValueError(
                f"the answer {self.answer!r:.80} is none of CLEVR's: yes, no, a number, an attribute's value"
            )
        if self.program:
            kind = check_program(self.nodes)
            if not answers_to(kind, self.words):
                raise ValueError(f"the answer {self.words!r} is none that its program can give, which ends in a {kind}")
        return self


class Thing(BaseModel, frozen=True, strict=True):
    """One object of a scene; coordinates are left alone."""

    size: str
    color: str
    material: str
    shape: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, values in ATTRIBUTES.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} {getattr(self, name)!r:.80} is none of {', '.join(values)}")
        return self


class SceneRecord(BaseModel, frozen=True, strict=True):
    """What an executor of programs reads of a scene."""

    image_index: Index
    objects: list[Thing]
    relationships: dict[str, list[list[Index]]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        number = len(self.objects)
        for side in DIRECTIONS:
            lists = self.relationships.get(side)
            if lists is None or len(lists) != number:
                raise ValueError(f"relationships need a list of objects {side!r} of each of the {number} objects")
            if any(not index < number for of_object in lists for index in of_object):
                raise ValueError(f"relationships {side!r} name an object beyond the {number} that there are")
        return self
