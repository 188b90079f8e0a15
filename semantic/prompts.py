"""What the task agent reads: the ids in front of the received prefix and behind it, the same in use and in training.

A prompt is text with ``{question}``, and with ``{tokens}`` in front of that where the prefix stands. Without
``{tokens}`` the prefix stands in front of the whole text. Either way it stands behind what the tokenizer itself puts in
front of every text, such as ``<s>``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerBase

from semantic.texts import as_plain_text

TOKENS = "{tokens}"
BRIEFLY = "Answer the question using a single word or phrase."


@dataclass(frozen=True)
class PrefixedPrompt:
    """A prompt around received tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    text : str
        Prompt with ``{question}``, and ``{tokens}`` where the prefix stands.
    """

    tokenizer: PreTrainedTokenizerBase
    text: str

    @property
    def head(self) -> list[int]:
        """Ids in front of the prefix."""
        front = ids_in_front(self.tokenizer)
        before = self.text.partition(TOKENS)[0].format() if TOKENS in self.text else ""
        ids = self._ids(before)
        return ids if ids[: len(front)] == front else [*front, *ids]

    def tails(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the ids behind the prefix, for every question; markup in a question is text."""
        return [self._behind(self._ids(text)) for text in self._texts(questions)]

    def answered(self, question: str, answer: str, end: int) -> tuple[np.ndarray, int]:
        """Return the ids behind the prefix with an answer and its end, int32, and the answer's number of word pieces.

        The answer is in the word pieces that it has behind the prompt: ``Ġyes`` instead of ``yes`` behind a word.

        Raises
        ------
        ValueError
            If the answer has no word pieces, or some that the tokenizer does not know.
        """
        text = self._texts([question])[0]
        before = self._ids(text)
        whole = self._ids(text + ("" if text[-1:].isspace() else " ") + answer)
        pieces = whole[len(before) :] if whole[: len(before)] == before else self._ids(answer)
        names = self.tokenizer.convert_ids_to_tokens(pieces)
        if not pieces or not answer.strip():
            raise ValueError(f"the answer {answer!r} takes no word pieces; leave such questions out")
        unknown = self.tokenizer.unk_token_id
        if unknown in pieces and answer != self.tokenizer.unk_token:
            raise ValueError(
                f"the tokenizer does not know the answer {answer!r} ({names}); leave the question out, or add the word"
            )
        return np.array([*self._behind(before), *pieces, end], dtype=np.int32), len(pieces)

    def _texts(self, questions: Sequence[str]) -> list[str]:
        behind = self.text.partition(TOKENS)[2] if TOKENS in self.text else self.text
        return [behind.format(question=text) for text in as_plain_text(questions, self.tokenizer)]

    def _behind(self, ids: list[int]) -> list[int]:
        """Leave out what a prompt without a place for the prefix begins with, if it stands in front of the prefix."""
        front = ids_in_front(self.tokenizer)
        return ids[len(front) :] if TOKENS not in self.text and front and ids[: len(front)] == front else ids

    def _ids(self, text: str) -> list[int]:
        tokenizer: Any = self.tokenizer
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def ids_in_front(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that a tokenizer puts in front of every text; what it puts behind would end the prompt."""
    call: Any = tokenizer
    bare, whole = call("a", add_special_tokens=False)["input_ids"], call("a")["input_ids"]
    starts = [n for n in range(len(whole) - len(bare) + 1) if whole[n : n + len(bare)] == bare]
    return list(whole[: starts[0]]) if starts else []


def prefixed(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of whole prompts, what the tokenizer puts in front of them once, and nothing behind them."""
    call: Any = tokenizer
    front = ids_in_front(tokenizer)
    rows = call(list(texts), add_special_tokens=False)["input_ids"]
    return [list(ids) if ids[: len(front)] == front else [*front, *ids] for ids in rows]


def task_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the prompt of a task agent: a user's turn by the tokenizer's own chat template, else the question alone.

    Raises
    ------
    ValueError
        If the template does not take a user's turn, or changes it.
    """
    if not tokenizer.chat_template:
        return "{question}"
    places = {"TOKENLINKTOKENS": TOKENS, "TOKENLINKQUESTION": "{question}"}
    return _from_chat(tokenizer, "TOKENLINKTOKENS\nTOKENLINKQUESTION\n" + BRIEFLY, places)


def sensor_prompt(processor: Any, image_token: str) -> str:
    """Return the prompt of a sensor: image and text by the processor's own chat template, else by its own layout.

    Raises
    ------
    ValueError
        If the template does not take an image and a text, or changes the text.
    """
    if not getattr(processor, "chat_template", None):
        text = image_token + "{text}"
        if hasattr(processor, "prepare_inputs_layout"):  # PaliGemma's puts <bos> between both, and a line's end behind
            text = processor.prepare_inputs_layout(images=[Image.new("RGB", (32, 32))], text=[text])[1][0]
        return text
    content = [{"type": "image"}, {"type": "text", "text": "TOKENLINKTEXT"}]
    return _from_chat(processor, content, {"TOKENLINKTEXT": "{text}"})


def _from_chat(author: Any, content: Any, places: dict[str, str]) -> str:
    """Render a user's turn by a chat template; put the prompt's places where words stand for them."""
    name = type(author).__name__
    try:
        text = author.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # of a template of others: whatever it raises
        raise ValueError(f"the chat template of {name} takes no user's turn: {error}; give a prompt") from error
    text = text.replace("{", "{{").replace("}", "}}")
    for word, place in places.items():
        if text.count(word) != 1:
            raise ValueError(f"the chat template of {name} does not keep what the user says; give a prompt")
        text = text.replace(word, place)
    return text
