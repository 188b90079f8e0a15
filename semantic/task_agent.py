"""The task agent: a frozen causal language model that answers a detailed question behind a received prefix."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from semantic.evaluation_mode import evaluate, without_checkpoints
from semantic.prompts import PrefixedPrompt
from semantic.tasks import normalize_answer
from semantic.texts import check_lengths, check_template


class Answer(str):
    """A text, and how sure its author is of it.

    Attributes
    ----------
    confidence : float
        Probability that the model gives to all words of the text, the end included.
    """

    confidence: float

    def __new__(cls, text: str, confidence: float) -> "Answer":
        """Attach a confidence to a text."""
        answer = super().__new__(cls, text)
        answer.confidence = confidence
        return answer

    def __reduce__(self) -> tuple[type, tuple[str, float]]:
        """Copies and pickles keep the confidence."""
        return Answer, (str(self), self.confidence)


class TaskAgent(nn.Module):
    """A frozen causal LM.

    Parameters
    ----------
    model : PreTrainedModel
        Causal LM of `transformers`.
    tokenizer : PreTrainedTokenizerBase
    prompt : str
        Input of the model, with ``{question}``, and with ``{tokens}`` where the received tokens stand; by default they
        stand in front of it all, behind the tokenizer's `<s>`. `semantic.prompts.task_prompt` makes one of a chat
        template.
    max_new_tokens : int
        Length of the longest answer [word pieces].
    """

    embedding_scale: Tensor

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt: str = "{question}",
        max_new_tokens: int = 8,
    ) -> None:
        super().__init__()
        check_template(prompt, "question", before="tokens")
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.prompt, self.max_new_tokens = with_padding(tokenizer), prompt, max_new_tokens
        self.register_buffer("embedding_scale", all_embeddings(model).std(), persistent=False)

    def train(self, mode: bool = True) -> "TaskAgent":
        """Stay in evaluation mode: the task agent never changes. In training its layers may checkpoint."""
        super().train(False)
        evaluate(self.model, checkpoint=mode)
        return self

    @property
    def hidden_size(self) -> int:
        """Length of an input embedding."""
        return input_embeddings(self.model).embedding_dim

    def prefix(self, tokens_hat: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Normalise received tokens to the scale of the model's own input embeddings.

        Each token gets mean 0 and the standard deviation of all embeddings as the model gets them, which undoes noise
        on its scale.
        """
        dtype = input_embeddings(self.model).weight.dtype
        return (normalize_tokens(tokens_hat.float()) * self.embedding_scale).to(dtype)

    def with_prefix(
        self, input_ids: Tensor, attention_mask: Tensor, tokens_hat: Tensor | None
    ) -> tuple[Float[Tensor, "batch length hidden"], Tensor]:
        """Return (inputs_embeds, attention_mask) of left-padded prompts with the prefix in its place."""
        embed = input_embeddings(self.model)
        embeds = embed(input_ids)
        if tokens_hat is None:
            return embeds, attention_mask
        prefix = self.prefix(tokens_hat)
        num_tokens, length = prefix.shape[1], input_ids.shape[1]
        start = attention_mask.argmax(-1)  # first real position of each row
        cut = (start + len(self.layout.head))[:, None]  # the prefix goes before this column
        column = torch.arange(length + num_tokens, device=input_ids.device)[None]
        in_prefix = (column >= cut) & (column < cut + num_tokens)
        from_text = torch.where(column < cut, column, column - num_tokens).clamp(0, length - 1)
        from_prefix = (column - cut).clamp(0, num_tokens - 1)
        hidden = embeds.shape[-1]
        text = embeds.gather(1, from_text[..., None].expand(-1, -1, hidden))
        received = prefix.gather(1, from_prefix[..., None].expand(-1, -1, hidden))
        mask = torch.where(in_prefix, 1, attention_mask.gather(1, from_text))
        return torch.where(in_prefix[..., None], received, text), mask

    def check(self, questions: Sequence[str], num_tokens: int = 0, numbers: Sequence[int] | None = None) -> None:
        """Refuse questions that cannot be answered behind a prefix, before anything is computed.

        Parameters
        ----------
        questions : sequence of str
        num_tokens : int
            Length of the prefix.
        numbers : sequence of int, optional
            Numbers of the questions in the message, by default from 0.

        Raises
        ------
        ValueError
            If one holds no text, or is longer than the model's positions.
        """
        if len(questions):
            layout, room = self.layout, num_tokens + self.max_new_tokens
            start = len(layout.head)
            check_lengths([start + len(ids) for ids in layout.tails(questions)], self.model, room, numbers=numbers)

    @property
    def layout(self) -> PrefixedPrompt:
        """What stands in front of the prefix and behind it, in use and in training."""
        return PrefixedPrompt(self.tokenizer, self.prompt)

    def answered(self, question: str, answer: str) -> tuple[np.ndarray, int]:
        """Return the ids of a question with its answer, to learn from, and the answer's number of word pieces.

        Raises
        ------
        ValueError
            If the answer has no word pieces, or some that the tokenizer does not know, or if nothing ends answers.
        """
        ends = answer_ends(self.model, self.tokenizer)
        if not ends:
            raise ValueError(
                "the tokenizer has no eos_token; training ends every answer with one. Set tokenizer.eos_token"
            )
        own = self.tokenizer.eos_token_id
        return self.layout.answered(question, answer, own if own in ends else ends[0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the model's last hidden states, float32."""
        return logits_of(self.model, hidden)

    @torch.no_grad()
    def answer(
        self,
        questions: Sequence[str],
        prefix: Float[Tensor, "batch tokens hidden"] | None = None,
        batch_size: int = 250,
    ) -> list[str]:
        """Answer questions greedily.

        Parameters
        ----------
        questions : sequence of str
        prefix : float [num questions, num_tokens, hidden_size], optional
            Received tokens, as decoded. Without them the questions are answered blindly.
        batch_size : int
            Questions per forward pass.

        Returns
        -------
        list of Answer, which is a str
            Normalised answers, each with the model's confidence.

        Raises
        ------
        ValueError
            If questions and prefixes differ in number, or if a question is no text or too long.
        """
        if prefix is not None and len(prefix) != len(questions):
            raise ValueError(f"{len(questions)} questions came with {len(prefix)} prefixes; one each is needed")
        self.check(questions, 0 if prefix is None else prefix.shape[1])
        layout, answers = self.layout, list[str]()
        head = layout.head
        rows = [[*head, *ids] for ids in layout.tails(questions)]
        for start in range(0, len(questions), batch_size):
            ids, mask = padded_left(rows[start : start + batch_size], padding_id(self.tokenizer))
            tokens = None if prefix is None else prefix[start : start + batch_size].to(self.model.device)
            embeds, mask = self.with_prefix(ids.to(self.model.device), mask.to(self.model.device), tokens)
            answers += generate(self.model, self.tokenizer, embeds, mask, self.max_new_tokens)
        return answers


def normalize_tokens(tokens: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
    """Give every token mean 0 and variance 1, as every receiver does."""
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])


def input_embeddings(model: PreTrainedModel) -> nn.Embedding:
    """Return a model's table of input embeddings, with its type; transformers' own getter returns any module."""
    return cast(nn.Embedding, model.get_input_embeddings())


def all_embeddings(model: PreTrainedModel) -> Float[Tensor, "words hidden"]:
    """Return the embedding of every word as a model's layer returns it, float32; it may scale what it holds."""
    embed = input_embeddings(model)
    with torch.no_grad():
        return embed(torch.arange(embed.num_embeddings, device=embed.weight.device)).float()


def with_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Let a tokenizer without a padding token, such as LLaMA-2's, pad with its end token; padding is masked anyway."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that fills positions which are masked; 0 if the tokenizer names none."""
    return cast(int | None, with_padding(tokenizer).pad_token_id) or 0


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Return a language model's logits of its last hidden states, float32."""
    head: Any = model.get_output_embeddings()
    logits = head(hidden).float()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def padded_left(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Return (input_ids, attention_mask) of rows of ids, padded on the left to the longest."""
    length = max(map(len, rows))
    ids = torch.tensor([[*[fill] * (length - len(row)), *row] for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def answer_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that end an answer: the checkpoint's own, else the tokenizer's end."""
    own: Any = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    return [] if ends is None else [int(ends)] if isinstance(ends, int) else [int(end) for end in ends]


def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> GenerationConfig:
    """Return the settings of greedy decoding; of the checkpoint's own only the words that end an answer count."""
    own: Any = model.generation_config
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        bos_token_id=own.bos_token_id,
        eos_token_id=answer_ends(model, tokenizer) or None,
        pad_token_id=with_padding(tokenizer).pad_token_id,
    )


def generate_ids(model: PreTrainedModel, settings: GenerationConfig, **inputs: Any) -> Any:
    """Generate by these settings alone: transformers fills in the checkpoint's own wherever they say nothing."""
    generative: Any = model  # not every PreTrainedModel generates
    own, generative.generation_config = generative.generation_config, settings
    try:
        with without_checkpoints(model):
            return generative.generate(generation_config=settings, **inputs)
    finally:
        generative.generation_config = own


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    max_new_tokens: int,
    **start: Any,
) -> list[str]:
    """Generate greedily behind left-padded embeddings, and whatever else it starts from; return normalised texts."""
    settings = greedy(model, tokenizer, max_new_tokens)
    settings.output_logits = settings.return_dict_in_generate = True
    output = generate_ids(model, settings, inputs_embeds=inputs_embeds, attention_mask=attention_mask, **start)
    return answers_in(model, tokenizer, output.sequences, output.logits)


def answers_in(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: Tensor, logits: Sequence[Tensor]
) -> list[str]:
    """Return the normalised answers in greedy word pieces [batch, length], whose logits are [batch, words] each.

    An answer ends at an end of the model's, or at the end of its first line.
    """
    best = torch.stack([step.float().log_softmax(-1).amax(-1) for step in logits], dim=1)  # of greedy words
    ends = torch.as_tensor(answer_ends(model, tokenizer), dtype=torch.long, device=ids.device)
    ended = torch.isin(ids, ends).int()
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    for row, text in enumerate(texts):
        if "\n" in text.strip():
            texts[row], last = _first_line(tokenizer, ids[row].tolist())
            ended[row, last:] = 1
    written = ended.cumsum(1) - ended == 0  # up to the first end, this included
    confidence = (best * written).sum(1).exp().tolist()
    return [Answer(normalize_answer(text), sure) for text, sure in zip(texts, confidence, strict=True)]


def _first_line(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[str, int]:
    """Return the first line that is not empty, and the number of the word piece that ends it."""
    for last in range(len(ids)):
        text = cast(str, tokenizer.decode(ids[: last + 1], skip_special_tokens=True))
        line, newline, _ = text.lstrip().partition("\n")
        if newline:
            return line, last
    raise AssertionError("only texts of several lines come here")
