"""What a question's phrases refer to: a pointing exercise that teaches the language model to match words with objects.

Answers alone say little about which objects were meant. So, in pretraining, the model's hidden states have to point at
them: at the end of every noun phrase at the objects that fit the phrase, and say how many they are; at the end of the
phrase that a relation starts from ("left of the red cube") at the objects so related; at the question mark at those
that the answer is about. The pointers are left behind afterwards, as the vision tower's classifiers are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from semantic.tasks import ATTRIBUTES, PLURALS, SYNONYMS, Node, Scene, execute_steps

NO_POINTER = -1
BLOCKS = {"phrase": 2, "relation": 4, "answer": 5}  # after how many blocks a state has to point
COUNTING_BLOCKS = 3  # after how many it has to count
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
    """Return, for every word of a question, the objects that pointers there should find, as bit masks.

    Parameters
    ----------
    question : str
        Words and punctuation separated by blanks, as the project's own templates have them.
    program, scene : CLEVR's layout

    Returns
    -------
    int64 [num_words, 3]
        Bit k: object k is to be found; NO_POINTER: there is nothing to find. The columns are those of `BLOCKS`: what
        fits the noun phrase that ends here; what stands in the question's relation to the object of this phrase, the
        last; what the answer is read from, at the last word.
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
    """Return the targets of ``question answer </s>``; nothing is to be found at the last two words."""
    targets = phrase_targets(record["question"], record["program"], scene)
    return np.concatenate([targets, np.full((2, len(BLOCKS)), NO_POINTER)])


def _mask(indices: Any) -> int:
    return sum(1 << int(k) for k in indices)


class Pointers(nn.Module):
    """Scores between words and objects, one bilinear form for each kind of pointing, and a count of what fits a phrase.

    Parameters
    ----------
    hidden_size : int
    size : int
        Of the space in which both are compared.
    """

    def __init__(self, hidden_size: int, size: int = 64) -> None:
        super().__init__()
        self.words = nn.ModuleList([nn.Linear(hidden_size, size) for _ in BLOCKS])
        self.objects = nn.ModuleList([nn.Linear(hidden_size, size) for _ in BLOCKS])
        self.count = nn.Linear(hidden_size, MAX_COUNT + 1)

    def save(self, folder: Path) -> None:
        """Write the weights, in half precision, beside those of the model that they were trained with."""
        save_file({name: weight.half() for name, weight in self.state_dict().items()}, Path(folder) / FILE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; a model that came without it (the shipped ones do) gets heads that start anew."""
        path = Path(folder) / FILE
        if path.exists():
            self.load_state_dict(load_file(path))
        else:
            print(f"{folder} has no {FILE}: the heads that point start anew", flush=True)

    def forward(self, hidden: Sequence[Tensor], embeds: Tensor, is_object: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of pointing and counting.

        Parameters
        ----------
        hidden : float [batch, length, hidden] of every block
            States of the packed questions; the first are the embeddings.
        embeds : float [batch, max_objects, hidden]
            Vectors that describe the objects.
        is_object : bool [batch, max_objects]
        targets : int64 [batch, length, 3]
            As `phrase_targets` has them.
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
