"""What a question's phrases refer to: a pointing exercise that teaches the language model to match words with objects.

Answers alone say little about which objects were meant. So, in pretraining, the model's hidden state at the end of
every noun phrase has to point at the objects that fit the phrase, and at the question mark at those that the answer is
about. The pointers are left behind afterwards, as the vision tower's classifiers are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semantic.tasks import ATTRIBUTES, PLURALS, SYNONYMS, Node, Scene, execute_steps

NO_POINTER = -1
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
    """Return, for every word of a question, the objects that a pointer there should find, as a bit mask.

    Parameters
    ----------
    question : str
        Words and punctuation separated by blanks, as the project's own templates have them.
    program, scene : CLEVR's layout

    Returns
    -------
    int64 [num_words]
        Bit k: object k fits the noun phrase that ends at this word (at the last word: it is among those that the answer
        is read from); NO_POINTER where nothing is to be found.
    """
    words = question.split()
    objects = scene["objects"]
    targets = np.full(len(words), NO_POINTER, dtype=np.int64)
    for end, word in enumerate(words):
        if word not in _NOUNS:
            continue
        start = end
        while start > 0 and words[start - 1] in _MEANING:
            start -= 1
        wanted = dict(_MEANING[w] for w in words[start : end + 1] if w in _MEANING)
        targets[end] = _mask(k for k, o in enumerate(objects) if all(o[a] == v for a, v in wanted.items()))
    values = execute_steps(program, scene)
    last = [values[i] for i in program[-1]["inputs"]]
    if len(last) == 1:  # query, count, exist; a comparison is about two sets at once
        targets[-1] = _mask(last[0] if isinstance(last[0], list) else [last[0]])
    return targets


def _mask(indices: Any) -> int:
    return sum(1 << int(k) for k in indices)


class Pointers(nn.Module):
    """Scores between words and objects: one bilinear form for noun phrases, one for question marks.

    Parameters
    ----------
    hidden_size : int
    size : int
        Of the space in which both are compared.
    """

    def __init__(self, hidden_size: int, size: int = 64) -> None:
        super().__init__()
        self.words = nn.ModuleList([nn.Linear(hidden_size, size) for _ in range(2)])
        self.objects = nn.ModuleList([nn.Linear(hidden_size, size) for _ in range(2)])

    def forward(self, hidden: Sequence[Tensor], embeds: Tensor, is_object: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Return the cross-entropy of pointing.

        Parameters
        ----------
        hidden : two of float [batch, length, hidden]
            States of the packed questions from which phrases and question marks point.
        embeds : float [batch, max_objects, hidden]
            Vectors that describe the objects.
        is_object : bool [batch, max_objects]
        targets : two of int64 [batch, length]
            Bit masks for phrases and for question marks, NO_POINTER elsewhere.
        """
        total = embeds.new_zeros(())
        bits = torch.arange(embeds.shape[1])
        for states, target, word, thing in zip(hidden, targets, self.words, self.objects, strict=True):
            where = target != NO_POINTER
            row = where.nonzero()[:, 0]
            scores = (word(states[where])[:, None] * thing(embeds)[row]).sum(-1) / 8 - 1.0
            wanted = (target[where][:, None] >> bits) & 1
            loss = nn.functional.binary_cross_entropy_with_logits(scores, wanted.float(), reduction="none")
            total = total + loss[is_object[row]].mean()
        return total
