"""Texts of others on their way into a model: markup stays plain text, what no model can read is refused by number."""

import re
import string
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic.foreign_files import whole_characters


def as_plain_text(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, what: str = "question", markup: Sequence[str] = ()
) -> list[str]:
    """Return texts that a tokenizer takes for nothing but text.

    Markup, such as ``<image>`` or ``</s>``, gets a space behind its first character and then is no markup any more.

    Parameters
    ----------
    texts : sequence of str
    tokenizer : PreTrainedTokenizerBase
        Tokenizer whose special tokens are markup.
    what : str
        Kind of the texts in messages.
    markup : sequence of str
        What else is markup.

    Raises
    ------
    TypeError
        If one is no string.
    ValueError
        If one holds half of a surrogate pair, which is no character.
    """
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{what} {number} must be a str, got {type(text).__name__}")
        try:
            whole_characters(text)
        except ValueError as error:
            raise ValueError(f"{what} {number}: {error}") from error
    pattern = "|".join(map(re.escape, sorted(_markup_of(tokenizer) | set(markup), key=len, reverse=True)))
    if not pattern:
        return list(texts)
    return [re.sub(pattern, lambda match: f"{match[0][0]} {match[0][1:]}", text) for text in texts]


def check_lengths(
    lengths: Sequence[int],
    model: PreTrainedModel,
    room: int,
    what: str = "question",
    numbers: Sequence[int] | None = None,
) -> None:
    """Refuse prompts that are longer than a model's positions.

    Parameters
    ----------
    lengths : sequence of int
        Word pieces of each prompt.
    model : PreTrainedModel
    room : int
        Positions that have to be free beside the prompt.
    what : str
        Kind of the texts in messages.
    numbers : sequence of int, optional
        Numbers of the texts in messages, by default from 0.

    Raises
    ------
    ValueError
        If one is too long.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for index, length in enumerate(lengths):
        if positions is not None and length + room > positions:
            number = index if numbers is None else numbers[index]
            raise ValueError(
                f"{what} {number} takes {length} word pieces in its prompt and {room} beside it, "
                f"{type(model).__name__} has {positions} positions; shorten it, or leave it out"
            )


def check_template(prompt: str, field: str, markup: str = "", before: str = "") -> None:
    """Refuse a prompt without a place for the text, with any other place, or without exactly one image token.

    One place `before` is allowed in front of that of the text.

    Raises
    ------
    ValueError
        If it is one.
    """
    needs = " and ".join([f"{{{field}}}", *([markup] if markup else [])])
    try:
        places = [
            (name, spec, conversion)
            for _, name, spec, conversion in string.Formatter().parse(prompt)
            if name is not None
        ]
    except ValueError as error:
        raise ValueError(f"prompt must contain {needs}, got {prompt!r}: {error}") from error
    if field not in [name for name, *_ in places] or (markup and prompt.count(markup) != 1):
        raise ValueError(f"prompt must contain {needs}, got {prompt!r}")
    names = [name for name, *_ in places]
    if before in names and (names.count(before) > 1 or names.index(before) > names.index(field)):
        raise ValueError(f"prompt must contain {{{before}}} once at most, and before {{{field}}}, got {prompt!r}")
    if set(places) - {(before, "", None)} != {(field, "", None)}:
        raise ValueError(f"prompt must contain {needs} and no other braces, got {prompt!r}")


def _markup_of(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the texts of a tokenizer's special tokens, but for the one of unknown words, which says nothing new."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= set(tokenizer.all_special_tokens)
    others = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    if tokenizer.unk_token not in others:
        special.discard(str(tokenizer.unk_token))
    return {text for text in special if len(text.strip()) > 1}
