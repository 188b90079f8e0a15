"""Questions to train agents with: images, vague descriptions, and the detailed questions that share a description.

`Turns` is all that the training knows of a data set. `turns_about` makes them from any `Dataset`; the embedded pair's
own, drawn from scenes, are in `semantic.endpoints.agents`.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from semantic.agent_link import AgentLink
from semantic.data.dataset import Dataset, Question
from semantic.data.packing import Packed, pack
from semantic.image_input import padded

LENGTH = 60  # of an example's packed questions [word pieces]


@dataclass(frozen=True)
class Turn:
    """A batch of examples; each is an image, a vague description, and packed questions of that description."""

    image_tokens: Tensor  # float32 [batch, patches, hidden], as `SensorAgent.see` returns them, padded behind
    descriptions: list[str]
    packed: Packed
    images: list[tuple[int, bool]]  # number of each example's image, and whether it is mirrored
    layouts: Tensor | None = None  # int [batch, 4, patches] of images that are no plain rows of one length


class Turns(Protocol):
    """A source of examples."""

    def draw(self, count: int, rng: random.Random) -> Turn:
        """Draw examples at random."""
        ...

    def each(self, rng: random.Random) -> Iterator[Turn]:
        """Go through the examples once, in batches; `rng` orders the questions within an example."""
        ...


class CachedTurns:
    """Examples of one split; the frozen vision tower has seen every image once.

    Parameters
    ----------
    agents : AgentLink
        Agents that are to be trained. `AgentLink.describe` groups the questions of an image.
    image_tokens : mapping
        Projected features of every image, [patches, hidden] each: of the images under False, of the mirrored ones, if
        there are any, under True.
    questions : sequence
        Detailed questions of every image, in words.
    encoded : sequence
        Ids of the same questions with answer and end.
    sizes : sequence, optional
        Word pieces of every answer; by default one.
    layouts : sequence, optional
        Layout of every image, as `SensorAgent.see` returns it; by default all are plain rows.
    mirror_question : callable, optional
        Encoded question about an image to the one about the mirrored image that has the same answer.
    length : int
        Word pieces per example; questions that do not fit are left out of it.

    Raises
    ------
    ValueError
        If there are no questions, or one alone exceeds the length.
    """

    def __init__(
        self,
        agents: AgentLink,
        image_tokens: Mapping[bool, Sequence[Tensor] | Tensor],
        questions: Sequence[Sequence[str]],
        encoded: Sequence[Sequence[np.ndarray]],
        *,
        sizes: Sequence[Sequence[int]] | None = None,
        layouts: Sequence[Tensor | None] | None = None,
        mirror_question: Callable[[np.ndarray], np.ndarray] | None = None,
        length: int = LENGTH,
    ) -> None:
        self.image_tokens, self.mirror_question, self.length = dict(image_tokens), mirror_question, length
        self.encoded, self.sizes, self.layouts = encoded, sizes, layouts
        longest = max((ids for of_image in encoded for ids in of_image), key=len, default=None)
        if longest is None:
            raise ValueError("there are no questions to train with")
        if len(longest) > length:
            text = agents.task_agent.tokenizer.decode(longest.tolist())
            raise ValueError(
                f"{text!r} has {len(longest)} word pieces, an example holds {length}; raise length, or leave it out"
            )
        self.groups: list[dict[str, list[int]]] = []  # for each image, question numbers by description
        for asked in questions:
            groups: dict[str, list[int]] = {}
            for k, description in enumerate(agents.describe(asked)):
                groups.setdefault(description, []).append(k)
            self.groups.append(groups)

    def draw(self, count: int, rng: random.Random) -> Turn:
        """Draw images evenly, each mirrored in half of the cases, and descriptions by their number of questions."""
        chosen = []
        for _ in range(count):
            image = rng.randrange(len(self.groups))
            sizes = {description: len(asked) for description, asked in self.groups[image].items()}
            mirrored = rng.random() < 0.5 if True in self.image_tokens else False
            chosen.append((image, mirrored, rng.choices(list(sizes), list(sizes.values()))[0]))
        return self.batch(chosen, rng)

    def each(self, rng: random.Random, batch_size: int = 50, limit: int = 1500) -> Iterator[Turn]:
        """Go through the first `limit` examples, none of them mirrored."""
        chosen = [(image, False, description) for image, groups in enumerate(self.groups) for description in groups]
        chosen = chosen[:limit]
        for start in range(0, len(chosen), batch_size):
            yield self.batch(chosen[start : start + batch_size], rng)

    def batch(self, chosen: Sequence[tuple[int, bool, str]], rng: random.Random) -> Turn:
        """Return the examples of (image, mirrored, description) triples, the questions of each in random order."""
        features, layouts = padded(
            [self.image_tokens[m][i].float() for i, m, _ in chosen],  # autocast stacks no halves
            [None if self.layouts is None else self.layouts[i] for i, _, _ in chosen],
        )
        rows, sizes = [], []
        for i, mirrored, description in chosen:
            asked = self.groups[i][description]
            order = rng.sample(asked, len(asked))
            encoded = [self.encoded[i][k] for k in order]
            rows.append([self.mirror_question(ids) if mirrored and self.mirror_question else ids for ids in encoded])
            sizes.append([1 if self.sizes is None else self.sizes[i][k] for k in order])
        packed = pack(rows, min(self.length, max(sum(map(len, row)) for row in rows)), sizes=sizes)
        return Turn(features, [d for _, _, d in chosen], packed, [(i, m) for i, m, _ in chosen], layouts)


def turns_about(
    agents: AgentLink, dataset: Dataset, *, length: int = LENGTH, num_questions: int | None = None
) -> CachedTurns:
    """Make turns of every question of a split, or of the first ones, grouped by image.

    Raises
    ------
    ValueError
        If the task agent's tokenizer does not know an answer, or a question alone exceeds the length.
    """
    by_image: dict[int, list[Question]] = {}
    for question in dataset.questions[:num_questions]:
        by_image.setdefault(question.image_index, []).append(question)
    answered = [[agents.task_agent.answered(q.question, q.answer) for q in asked] for asked in by_image.values()]
    seen = [agents.sensor.see([dataset.image(index)])[0] for index in by_image]
    return CachedTurns(
        agents,
        {False: [features.half().cpu() for features, _ in seen]},
        [[q.question for q in asked] for asked in by_image.values()],
        [[ids for ids, _ in asked] for asked in answered],
        sizes=[[size for _, size in asked] for asked in answered],
        layouts=[None if layout is None else layout.cpu() for _, layout in seen],
        length=length,
    )
