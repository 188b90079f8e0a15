"""Obfuscation by a chat model, guarded: the rules replace a description that repeats anything private.

The model gets the detailed question and is asked for its kind only. Its answer is compared with the question, word by
word; an answer that fails this test is never sent.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic.obfuscation import obfuscate
from semantic.task_agent import generate_ids, greedy, with_padding
from semantic.tasks import PLURALS, SYNONYMS
from semantic.texts import as_plain_text, check_lengths, check_template

PROMPT = (
    "Describe in one short sentence what kind of question the following is, for somebody who must not learn what it "
    "is about. Say which kind of property or number is asked for (color, shape, size, material, position, number, "
    "presence), and nothing else: name no object, no color, no shape, no size, no material, no place.\n"
    "Example: What color is the cup on the desk? -> This is a question related to colors in the image.\n"
    "Question: {question}"
)
# Words that name a kind of question, or say nothing: only these words of a question may occur in its description.
HARMLESS = frozenset(
    """a about all also am an and another any are as asked asks at be being both but by can compare compared comparison
    count describe do does each either else equal exist exists fewer for from greater has have how image images in
    involve involves is it its kind less make made many more most no not number numbers object objects of on one or
    other picture presence property quantity question related relates relation same scene some than that the their them
    there these they thing things this those to two type visible was were what where whether which who with you your
    attribute attributes color colors colour colours shape shapes size sizes material materials position positions
    location""".split()
)
_CANONICAL = {word: root for root, words in SYNONYMS.items() for word in words}


def leaked_words(question: str, description: str) -> set[str]:
    """Return the words of a description that reveal something private of its question.

    Every word of the question that is not `HARMLESS` is private, in any form that begins alike ("metal" and
    "metallic"). So are its synonyms in the embedded task world.

    Parameters
    ----------
    question, description : str
    """
    private = set()
    for word in _words(question) - HARMLESS:
        root = _CANONICAL.get(_SINGULAR.get(word, word), word)
        private |= {word, root, *SYNONYMS.get(root, ())}
    stems = {word[: max(3, len(word) - 2)] for word in private}
    return {word for word in _words(description) - HARMLESS if any(word.startswith(stem) for stem in stems)}


class LLMObfuscator:
    """Describe questions vaguely by a chat model, decoded greedily; callable like `semantic.obfuscation.obfuscate`.

    Parameters
    ----------
    model : PreTrainedModel
        Causal LM of `transformers` that was trained to chat.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer with a chat template.
    prompt : str
        Request to the model, with ``{question}``.
    max_new_tokens : int
        Length of the longest description [word pieces].
    batch_size : int
        Questions per forward pass.
    fallback : callable
        Obfuscator of the questions whose description would be empty or leak.

    Attributes
    ----------
    num_fallbacks : int
        Number of questions that were described by the fallback.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt: str = PROMPT,
        max_new_tokens: int = 32,
        batch_size: int = 16,
        fallback: Callable[[str], str] = obfuscate,
    ) -> None:
        check_template(prompt, "question")
        if not tokenizer.chat_template:
            raise ValueError("the tokenizer has no chat template; take a model that was trained to chat, or set one")
        self.model, self.tokenizer = model.eval(), with_padding(tokenizer)
        self.prompt, self.max_new_tokens, self.batch_size, self.fallback = prompt, max_new_tokens, batch_size, fallback
        self.num_fallbacks = 0
        self._known: dict[str, str] = {}

    def __call__(self, question: str) -> str:
        """Describe a question vaguely."""
        return self.describe([question])[0]

    def describe(self, questions: Sequence[str]) -> list[str]:
        """Describe questions vaguely, in batches; the model sees each different question once."""
        number = {question: index for index, question in reversed(list(enumerate(questions)))}
        plain = dict(zip(questions, as_plain_text(questions, self.tokenizer), strict=True))
        new = [question for question in dict.fromkeys(questions) if question not in self._known]
        for start in range(0, len(new), self.batch_size):
            part = new[start : start + self.batch_size]
            texts = self._write([plain[question] for question in part], [number[question] for question in part])
            for question, text in zip(part, texts, strict=True):
                self._known[question] = self._guarded(question, text)
        return [self._known[question] for question in questions]

    def _guarded(self, question: str, text: str) -> str:
        if text and not leaked_words(question, text):
            return text
        self.num_fallbacks += 1
        return self.fallback(question)

    @torch.no_grad()
    def _write(self, questions: Sequence[str], numbers: Sequence[int]) -> list[str]:
        """Return the first line of the model's answer to each request."""
        chats = [[{"role": "user", "content": self.prompt.format(question=question)}] for question in questions]
        inputs: Any = self.tokenizer.apply_chat_template(
            chats,
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
            tokenizer_kwargs={"padding_side": "left"},
        )
        inputs = inputs.to(self.model.device)
        check_lengths(inputs["attention_mask"].sum(1).tolist(), self.model, self.max_new_tokens, numbers=numbers)
        ids = generate_ids(self.model, greedy(self.model, self.tokenizer, self.max_new_tokens), **inputs)
        written = ids[:, inputs["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip().partition("\n")[0].strip() for text in texts]


_SINGULAR = {plural: word for word, plural in PLURALS.items()}


def _words(text: str) -> set[str]:
    """Return the words and numbers of a text, in lower case and without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return set(re.findall(r"[^\W_]+", "".join(c for c in plain if not unicodedata.combining(c))))
