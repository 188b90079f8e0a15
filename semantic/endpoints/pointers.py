"""Pointing at objects: an exercise that teaches the language model to match a question's phrases with objects.

Answers alone say little about the objects that a question refers to. In pretraining, the model's hidden states
therefore have to point at them. At the end of every noun phrase they point at the objects that fit it, and count them.
At the end of the phrase that a relation starts from ("left of the red cube") they point at the related objects. At the
question mark they point at the objects that the answer is about. The pointers are dropped afterwards, like the vision
tower's classifiers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from semantic.loading import read_tensors
from semantic.tasks import ATTRIBUTES, PLURALS, SYNONYMS, Node, Scene, execute_steps

NO_POINTER = -1
BLOCKS = {"phrase": 2, "relation": 4, "answer": 5}  # number of blocks after which a state has to point
COUNTING_BLOCKS = 3  # number of blocks after which a state has to count
MAX_COUNT = 10
FILE = "pointers.safetensors"
_MEANING = {
    spelled: (attribute, value)
    for attribute, values in ATTRIBUTES.items()
    for value in values
    for word in SYNONYMS.get(value, (value,))
    for spelled in (word, PLURALS.get(word, word))
}
_NOUNS = {
    spelled
    for noun in ("cube", "sphere", "cylinder", "thing")
    for word in SYNONYMS.get(noun, (noun,))
    for spelled in (word, PLURALS[word])
}


def phrase_targets(question: str, program: Sequence[Node], scene: Scene) -> np.ndarray:
    """Return the objects that each word of a question has to point at, as bit masks.

    Parameters
    ----------
    question : str
        Question with blanks between words and punctuation, as the project's own templates have it.
    program : sequence of nodes, CLEVR's layout
    scene : mapping, CLEVR's layout

    Returns
    -------
    int64 [num_words, 3]
        Bit k is set for object k; NO_POINTER marks a word that points at nothing. The columns are those of `BLOCKS`:
        objects that fit the noun phrase ending here; objects in the question's relation to the object of the last noun
        phrase; at the last word, objects that the answer is read from.
    """
    words = question.split()
    objects = scene["objects"]
    targets = np.full((len(words), len(BLOCKS)), NO_POINTER, dtype=np.int64)
    ends = [end for end, word in enumerate(words) if word in _NOUNS]
    for end in ends:
        start = end
        while start > 0 and words[start - 1] in _MEANING:
            start -= 1
        wanted = dict(_MEANING[w] for w in words[start : end + 1] if w in _MEANING)
        targets[end, 0] = _mask(k for k, o in enumerate(objects) if all(o[a] == v for a, v in wanted.items()))
    values = execute_steps(program, scene)
    for node, value in zip(program, values, strict=True):
        if node["function"] == "relate" or node["function"].startswith("same_"):
            targets[ends[-1], 1] = _mask(value)
    last = [values[i] for i in program[-1]["inputs"]]
    if len(last) == 1:  # query, count, exist; a comparison is about two sets at once
        targets[-1, 2] = _mask(last[0] if isinstance(last[0], list) else [last[0]])
    return targets


def encode_targets(record: Mapping[str, Any], scene: Scene) -> np.ndarray:
    """Return the targets of ``question answer </s>``; the last two words point at nothing."""
    targets = phrase_targets(record["question"], record["program"], scene)
    return np.concatenate([targets, np.full((2, len(BLOCKS)), NO_POINTER)])


def _mask(indices: Any) -> int:
    return sum(1 << int(k) for k in indices)


class Pointers(nn.Module):
    """Scores between words and objects, by a bilinear form for each kind of pointing, and a count at noun phrases.

    Parameters
    ----------
    hidden_size : int
        Length of a hidden state.
    size : int
        Dimension of the space in which words and objects are compared.
    """

    def __init__(self, hidden_size: int, size: int = 64) -> None:
        super().__init__()
        self.words = nn.ModuleList([nn.Linear(hidden_size, size) for _ in BLOCKS])
        self.objects = nn.ModuleList([nn.Linear(hidden_size, size) for _ in BLOCKS])
        self.count = nn.Linear(hidden_size, MAX_COUNT + 1)

    def save(self, folder: Path) -> None:
        """Write the weights, in half precision, next to those of the model."""
        save_file({name: weight.half() for name, weight in self.state_dict().items()}, Path(folder) / FILE)

    def load(self, folder: Path) -> None:
        """Read the weights next to a model; without any, as for the shipped models, keep fresh ones and say so."""
        path = Path(folder) / FILE
        if path.exists():
            self.load_state_dict(read_tensors(path, self.state_dict(), "these heads"))
        else:
            print(f"{folder} has no {FILE}: the heads that point start anew", flush=True)

    def forward(self, hidden: Sequence[Tensor], embeds: Tensor, is_object: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of pointing and counting.

        Parameters
        ----------
        hidden : float [batch, length, hidden] of every block
            States of the packed questions, from the embeddings on.
        embeds : float [batch, max_objects, hidden]
            Vectors that describe the objects.
        is_object : bool [batch, max_objects]
            False at padding.
        targets : int64 [batch, length, 3]
            Results of `phrase_targets`.
        """
        total = embeds.new_zeros(())
        bits = torch.arange(embeds.shape[1])
        for kind, block in enumerate(BLOCKS.values()):
            where = targets[..., kind] != NO_POINTER
            row = where.nonzero()[:, 0]
            if not len(row):
                continue
            scores = (self.words[kind](hidden[block][where])[:, None] * self.objects[kind](embeds)[row]).sum(-1)
            wanted = (targets[where][:, kind, None] >> bits) & 1
            loss = functional.binary_cross_entropy_with_logits(scores / 8 - 1.0, wanted.float(), reduction="none")
            total = total + loss[is_object[row]].mean()
            if kind == 0:
                counts = self.count(hidden[COUNTING_BLOCKS][where])
                total = total + 0.3 * functional.cross_entropy(counts, wanted.sum(-1))
        return total
