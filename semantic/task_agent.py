"""The task agent: a frozen causal language model that answers a detailed question behind a received prefix."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic.tasks import normalize_answer


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
        Input of the model, with ``{question}``; LLaMA-2 needs more words than the embedded model.
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
        if "{question}" not in prompt:
            raise ValueError(f"prompt must contain {{question}}, got {prompt!r}")
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.prompt, self.max_new_tokens = with_padding(tokenizer), prompt, max_new_tokens
        scale = input_embeddings(model).weight.detach().float().std()
        self.register_buffer("embedding_scale", scale, persistent=False)

    def train(self, mode: bool = True) -> "TaskAgent":
        """Stay in evaluation mode: the task agent never changes."""
        return super().train(False)

    @property
    def hidden_size(self) -> int:
        """Length of an input embedding."""
        return input_embeddings(self.model).embedding_dim

    def prefix(self, tokens_hat: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Normalise received tokens to the scale of the model's own input embeddings.

        Each token gets mean 0 and the standard deviation of the embedding matrix, which undoes noise on its scale.
        """
        dtype = input_embeddings(self.model).weight.dtype
        return (normalize_tokens(tokens_hat.float()) * self.embedding_scale).to(dtype)

    def with_prefix(
        self, input_ids: Tensor, attention_mask: Tensor, tokens_hat: Tensor | None
    ) -> tuple[Float[Tensor, "batch length hidden"], Tensor]:
        """Return (inputs_embeds, attention_mask) of left-padded questions with the prefix.

        The prefix stands behind a question's `<s>`, or in front of a question without one.
        """
        embed = input_embeddings(self.model)
        embeds = embed(input_ids)
        if tokens_hat is None:
            return embeds, attention_mask
        prefix = self.prefix(tokens_hat)
        num_tokens, length = prefix.shape[1], input_ids.shape[1]
        start = attention_mask.argmax(-1)  # first real position of each row
        bos = self.tokenizer.bos_token_id
        has_bos = input_ids.gather(1, start[:, None])[:, 0] == (-1 if bos is None else bos)
        cut = (start + has_bos)[:, None]  # the prefix goes before this column
        column = torch.arange(length + num_tokens, device=input_ids.device)[None]
        in_prefix = (column >= cut) & (column < cut + num_tokens)
        from_text = torch.where(column < cut, column, column - num_tokens).clamp(0, length - 1)
        from_prefix = (column - cut).clamp(0, num_tokens - 1)
        hidden = embeds.shape[-1]
        text = embeds.gather(1, from_text[..., None].expand(-1, -1, hidden))
        received = prefix.gather(1, from_prefix[..., None].expand(-1, -1, hidden))
        mask = torch.where(in_prefix, 1, attention_mask.gather(1, from_text))
        return torch.where(in_prefix[..., None], received, text), mask

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
        """
        if prefix is not None and len(prefix) != len(questions):
            raise ValueError(f"{len(questions)} questions came with {len(prefix)} prefixes; one each is needed")
        answers: list[str] = []
        for start in range(0, len(questions), batch_size):
            part = [self.prompt.format(question=q) for q in questions[start : start + batch_size]]
            inputs = self.tokenizer(part, return_tensors="pt", padding=True, padding_side="left").to(self.model.device)
            tokens = None if prefix is None else prefix[start : start + batch_size].to(self.model.device)
            embeds, mask = self.with_prefix(inputs["input_ids"], inputs["attention_mask"], tokens)
            answers += generate(self.model, self.tokenizer, embeds, mask, self.max_new_tokens)
        return answers


def normalize_tokens(tokens: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
    """Give every token mean 0 and variance 1, as every receiver does."""
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])


def input_embeddings(model: PreTrainedModel) -> nn.Embedding:
    """Return a model's table of input embeddings, with its type; transformers' own getter returns any module."""
    return cast(nn.Embedding, model.get_input_embeddings())


def with_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Let a tokenizer without a padding token, such as LLaMA-2's, pad with its end token; padding is masked anyway."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    max_new_tokens: int,
) -> list[str]:
    """Generate greedily behind left-padded embeddings; return normalised texts."""
    generative: Any = model  # not every PreTrainedModel generates
    output = generative.generate(
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=with_padding(tokenizer).pad_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    ids = output.sequences
    best = torch.stack([step.float().log_softmax(-1).amax(-1) for step in output.logits], dim=1)  # of greedy words
    ends = torch.isin(ids, torch.as_tensor(generative.generation_config.eos_token_id, device=ids.device)).int()
    written = ends.cumsum(1) - ends == 0  # up to the first end, this included
    confidence = (best * written).sum(1).exp().tolist()
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [Answer(normalize_answer(text), sure) for text, sure in zip(texts, confidence, strict=True)]
