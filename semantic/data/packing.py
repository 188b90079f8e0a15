"""Many questions about one image in one sequence: each sees the shared prefix and itself, never its neighbours.

A sequence is ``prefix | question answer </s> | question answer </s> | …``. The attention mask is block-diagonal behind
the prefix, and positions restart with every question. Each question therefore gets the logits of being asked alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from semantic.texts import as_plain_text

IGNORE = -100  # label that transformers' and torch's losses skip


@dataclass(frozen=True)
class Packed:
    """Packed questions of a batch; all fields int64 [batch, length]."""

    input_ids: torch.Tensor
    segment: torch.Tensor  # 1, 2, … for each question of a row; 0 is padding
    offset: torch.Tensor  # position within the question
    labels: torch.Tensor  # next token where the model has to predict it, IGNORE elsewhere
    answers: torch.Tensor  # word pieces of an answer where its first one is predicted, 0 elsewhere

    def to(self, device: torch.device | str) -> "Packed":
        """Return the same on another device."""
        return Packed(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def num_answers(self) -> int:
        """Number of questions with an answer."""
        return int((self.answers > 0).sum())


def encode_question(tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> np.ndarray:
    """Return the ids of ``question answer </s>``, int32, of a model that reads questions as they are.

    The model has to predict the last two. `TaskAgent.answered` knows prompts, and answers of several word pieces.

    Raises
    ------
    ValueError
        If the answer is not a single word piece that the tokenizer knows, or if there is no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no eos_token; training ends every answer with one. Set tokenizer.eos_token")
    pieces = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if len(pieces) != 1:
        raise ValueError(
            f"the answer {answer!r} takes {len(pieces)} word pieces ({tokenizer.convert_ids_to_tokens(pieces)}); "
            "the embedded pair's training knows answers of one. Leave such questions out"
        )
    if pieces[0] == tokenizer.unk_token_id and answer != tokenizer.unk_token:
        raise ValueError(f"the tokenizer does not know the answer {answer!r}; leave the question out, or add the word")
    ids = tokenizer(*as_plain_text([question], tokenizer), add_special_tokens=False)["input_ids"]
    return np.array([*ids, *pieces, tokenizer.eos_token_id], dtype=np.int32)


def pack(
    rows: Sequence[Sequence[np.ndarray]],
    length: int,
    captions: Sequence[np.ndarray | None] | None = None,
    sizes: Sequence[Sequence[int]] | None = None,
) -> Packed:
    """Pack the encoded questions of each row one behind the other; those that no longer fit are left out.

    Parameters
    ----------
    rows : sequence
        Ids of questions with answer and end, for each image.
    length : int
        Word pieces per row.
    captions : sequence, optional
        Ids of a caption, or None, for each image. A caption is packed first; all of it but the first id is predicted.
    sizes : sequence, optional
        Word pieces of every question's answer; by default one.
    """
    shape = (len(rows), length)
    input_ids, segment, offset, answers = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    labels = np.full(shape, IGNORE, dtype=np.int64)
    for b, questions in enumerate(rows):
        start = 0
        caption = captions[b] if captions is not None else None
        turns = list(questions) if caption is None else [caption, *questions]
        for number, ids in enumerate(turns, start=1):
            end = start + len(ids)
            if end > length:
                break
            input_ids[b, start:end] = ids
            segment[b, start:end] = number
            offset[b, start:end] = np.arange(len(ids))
            if ids is caption:
                labels[b, start : end - 1] = ids[1:]
            else:
                size = 1 if sizes is None else sizes[b][number - 1 - (caption is not None)]
                labels[b, end - 2 - size : end - 1] = ids[-1 - size :]
                answers[b, end - 2 - size] = size
            start = end
    return Packed(*(torch.from_numpy(a) for a in (input_ids, segment, offset, labels, answers)))


def lay_out(
    rows: Sequence[Sequence[np.ndarray]], length: int, fill: int, captions: Sequence[np.ndarray | None] | None = None
) -> torch.Tensor:
    """Lay values of the questions' words where `pack` lays the words: int64 [batch, length, …]; `fill` elsewhere."""
    beyond = next((part.shape[1:] for parts in rows for part in parts), ())
    out = np.full((len(rows), length, *beyond), fill, dtype=np.int64)
    for b, parts in enumerate(rows):
        caption = captions[b] if captions is not None else None
        start = 0 if caption is None else len(caption)
        for part in parts:
            if start + len(part) > length:
                break
            out[b, start : start + len(part)] = part
            start += len(part)
    return torch.from_numpy(out)


def attention_mask(prefix_valid: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """Return which position may attend to which: bool [batch, 1, S, S] with S = prefix length + packed length.

    Parameters
    ----------
    prefix_valid : bool [batch, prefix length], False at padding
    segment : int [batch, packed length], as in `Packed`
    """
    batch, prefix_length = prefix_valid.shape
    device = segment.device
    part = torch.cat([torch.full((batch, prefix_length), -1, device=device), segment], dim=1)  # [batch, S]
    valid = torch.cat([prefix_valid, segment > 0], dim=1)
    size = part.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=device).tril()
    same = part[:, :, None] == part[:, None, :]
    shared = (part == -1)[:, None, :]
    allowed = causal & (same | shared) & valid[:, None, :]
    return (allowed | torch.eye(size, dtype=torch.bool, device=device))[
        :, None
    ]  # padding attends to itself: no empty softmax


def answer_loss(
    hidden: torch.Tensor, packed: Packed, lm_head: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of the labels and, without gradient, the share of answers with all word pieces right."""
    where = packed.labels != IGNORE
    logits, target = lm_head(hidden[where]).float(), packed.labels[where]
    wrong = torch.nn.functional.pad((logits.detach().argmax(-1) != target).cumsum(0), (1, 0))  # before each label
    size = packed.answers[where]
    first = size.nonzero()[:, 0]
    right = wrong[first + size[first]] == wrong[first]
    return torch.nn.functional.cross_entropy(logits, target), right.float().mean()
