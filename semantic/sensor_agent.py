"""The sensor agent: an image-text model that expresses images in machine-language tokens."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from semantic.adapters import without_lora
from semantic.evaluation_mode import evaluate, without_checkpoints
from semantic.image_cache import LayerBehindImages
from semantic.image_input import ImageInput, ImageLayout, without_padding
from semantic.prompts import prefixed, sensor_prompt
from semantic.task_agent import (
    all_embeddings,
    answer_ends,
    answers_in,
    generate,
    input_embeddings,
    logits_of,
    padded_left,
    padding_id,
    with_padding,
)
from semantic.texts import as_plain_text, check_lengths, check_template

ImageLike = Image.Image | np.ndarray
Finish = Callable[..., Iterable[Any]]  # inputs_embeds, attention_mask, past_key_values, and `ImageInput.places`


class ImageTextProcessor(Protocol):
    """What the sensor uses of a `transformers` processor; their common base class does not name it."""

    image_processor: Callable[..., Any]
    tokenizer: PreTrainedTokenizerBase
    image_token: str
    image_token_id: int

    def replace_image_token(self, image_inputs: dict, image_idx: int) -> str:
        """Return how an image stands in a prompt."""
        ...


class SensorAgent(nn.Module):
    """An image-text model with LoRA on keys and values, and `num_tokens` learned slots at the end of its input.

    The tokens are the hidden states of the final block (behind its norm) at the last `num_tokens` positions, the slots.
    Without its LoRA the pretrained model answers questions about noiseless images (the paper's benchmark 1).

    An image's keys and values are the same for every text behind it. `tokens` and `answer` compute them once, where
    the model allows it; `express`, which is trained, reads every prompt whole.

    Parameters
    ----------
    model : PreTrainedModel
        Image-text model of `transformers` that `ImageInput` knows, LoRA already added (`semantic.adapters`).
    processor : ProcessorMixin with an image token
    num_tokens : int
        Machine-language tokens per question.
    prompt : str, optional
        Input of the model, with ``{text}`` and the processor's image token; by default `semantic.prompts.sensor_prompt`
        of the processor.
    max_new_tokens : int
        Length of the longest answer [word pieces].
    cache_bytes : int
        Memory for the keys and values of images that are held at a time; one image may exceed it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ImageTextProcessor,
        *,
        num_tokens: int = 5,
        prompt: str | None = None,
        max_new_tokens: int = 8,
        cache_bytes: int = 512 * 2**20,
    ) -> None:
        super().__init__()
        if num_tokens < 1:
            raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
        prompt = sensor_prompt(processor, processor.image_token) if prompt is None else prompt
        check_template(prompt, "text", processor.image_token)
        self.model, self.processor = model.eval(), processor
        self.image_input = ImageInput(model, processor)
        with_padding(processor.tokenizer)
        self.num_tokens, self.prompt, self.max_new_tokens = num_tokens, prompt, max_new_tokens
        self.cache_bytes = cache_bytes
        embeddings = all_embeddings(model)
        noise = torch.randn(num_tokens, embeddings.shape[1], dtype=torch.float32)
        self.slots = nn.Parameter(embeddings.mean(0) + embeddings.std() * noise.to(embeddings.device))

    def train(self, mode: bool = True) -> "SensorAgent":
        """Keep the pretrained model in evaluation mode (no dropout); LoRA and slots are trained nevertheless.

        Layers that are told to checkpoint their activations do so in training.
        """
        super().train(mode)
        evaluate(self.model, checkpoint=mode)
        return self

    @property
    def hidden_size(self) -> int:
        """Length of a token."""
        return self.slots.shape[1]

    def image_tokens(self, images: Sequence[ImageLike], batch_size: int = 32) -> list[Float[Tensor, "patches hidden"]]:
        """Return what stands for each image in a prompt: its projected features, and the marks around them.

        An image object that occurs several times is computed once.
        """
        return [embeds for embeds, _ in self.see(images, batch_size)]

    @torch.no_grad()
    def see(self, images: Sequence[ImageLike], batch_size: int = 32) -> list[tuple[Tensor, ImageLayout | None]]:
        """Return what stands for each image in a prompt, and how its positions are laid out: see `ImageInput.see`."""
        images = list(images)  # a sequence that reads images anew at every access would mix up identities
        unique = {id(image): image for image in images}
        seen: dict[int, tuple[Tensor, ImageLayout | None]] = {}
        keys = list(unique)
        if not self._is_plain:
            seen = {key: self.image_input.see(unique[key]) for key in keys}
            keys = []
        for start in range(0, len(keys), batch_size):
            part = keys[start : start + batch_size]
            pixels = self.image_input.process([unique[k] for k in part])["pixel_values"]
            pixels = pixels.to(self.model.device, self.model.dtype)
            seen |= {key: (features, None) for key, features in zip(part, self.project(pixels), strict=True)}
        return [seen[id(image)] for image in images]

    @functools.cached_property
    def _is_plain(self) -> bool:
        """Whether an image is pixels alone, and stands in a prompt as one token for each of its features."""
        inputs = self.image_input.process([np.full((64, 64, 3), 128, np.uint8)])
        if set(inputs) != {"pixel_values"} or self.image_input.types is not None:
            return False
        text = self.processor.replace_image_token(inputs, 0)
        return not text.replace(self.processor.image_token, "")

    def project(self, pixel_values: Float[Tensor, "batch channels height width"]) -> Sequence[Tensor]:
        """Return the features of preprocessed images as the language model gets them: [patches, hidden] each."""
        model: Any = self.model  # not every PreTrainedModel has image features
        return model.get_image_features(pixel_values=pixel_values, return_dict=True).pooler_output

    def tokenize(
        self, texts: Sequence[str], num_patches: int
    ) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
        """Return (input_ids, attention_mask) of prompts, left-padded, the image token repeated for every patch."""
        return self._with_patches(*self._tokenize(texts), num_patches)

    def _tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
        """Return (input_ids, attention_mask) of prompts, left-padded, with one image token."""
        plain = as_plain_text(texts, self.processor.tokenizer, "text", [self.processor.image_token])
        prompts = [self.prompt.format(text=text) for text in plain]
        tokenizer = self.processor.tokenizer
        input_ids, mask = padded_left(prefixed(tokenizer, prompts), padding_id(tokenizer))
        images = (input_ids == self.processor.image_token_id).sum(1)
        if (images != 1).any():
            number = int((images != 1).nonzero()[0])
            raise ValueError(
                f"text {number} makes a prompt of {int(images[number])} image tokens instead of one; take out of it "
                f"what the tokenizer reads as {self.processor.image_token}"
            )
        return input_ids.to(self.model.device), mask.to(self.model.device)

    def check(self, texts: Sequence[str], room: int, numbers: Sequence[int] | None = None) -> None:
        """Refuse texts whose prompts cannot be read with an image, before anything is computed.

        Parameters
        ----------
        texts : sequence of str
        room : int
            Positions behind the prompt: the slots, or the longest answer.
        numbers : sequence of int, optional
            Numbers of the texts in the message, by default from 0.

        Raises
        ------
        ValueError
            If one is no text, or longer than the model's positions.
        """
        if len(texts):
            self._check_lengths(self._tokenize(texts)[1], self._usual_patches, room, numbers)

    @functools.cached_property
    def _usual_patches(self) -> int:
        """Positions of an image: as the configuration says, or else of a grey image. Large images may take more."""
        stated = getattr(self.model.config, "image_seq_length", None)
        return stated or len(self.image_tokens([np.full((336, 336, 3), 128, np.uint8)])[0])

    def _check_lengths(
        self, mask: Tensor, num_patches: int | Tensor, room: int, numbers: Sequence[int] | None = None
    ) -> None:
        """Refuse tokenized prompts that are too long with the patches of their images in place of one image token."""
        check_lengths((mask.sum(1) + num_patches - 1).tolist(), self.model, room, "text", numbers)

    def _with_patches(self, input_ids: Tensor, attention_mask: Tensor, num_patches: int) -> tuple[Tensor, Tensor]:
        """Repeat the image token of each prompt for every patch."""
        repeats = torch.where(input_ids == self.processor.image_token_id, num_patches, 1).flatten()
        ids, mask = (t.flatten().repeat_interleave(repeats).view(len(t), -1) for t in (input_ids, attention_mask))
        return ids, mask

    def embed(
        self, input_ids: Int[Tensor, "batch length"], image_tokens: Float[Tensor, "batch patches hidden"]
    ) -> Float[Tensor, "batch length hidden"]:
        """Embed tokenized prompts, with image features at the image tokens."""
        embeds = input_embeddings(self.model)(input_ids)
        where = (input_ids == self.processor.image_token_id)[..., None].expand_as(embeds)
        return embeds.masked_scatter(where, image_tokens.to(embeds.dtype))

    def express(
        self,
        image_tokens: Float[Tensor, "batch patches hidden"],
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Int[Tensor, "batch length"],
        layouts: Int[Tensor, "batch 4 patches"] | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Express images, given tokenized vague descriptions: return the last hidden states at the slots.

        `layouts` are those of the images, as `semantic.image_input.padded` returns them.
        """
        at_image = input_ids == self.processor.image_token_id
        mask = without_padding(at_image, attention_mask, layouts)
        places: dict[str, Any] = self.image_input.places(at_image, mask, layouts)
        return self._at_slots(self.embed(input_ids, image_tokens), mask, **places)

    @torch.no_grad()
    def tokens(
        self, images: Sequence[ImageLike], descriptions: Sequence[str], batch_size: int = 50
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Express images, given vague descriptions in words; equal pairs are computed once."""
        if len(images) != len(descriptions):
            raise ValueError(f"{len(images)} images came with {len(descriptions)} descriptions; one each is needed")
        self.check(descriptions, self.num_tokens)
        images = list(images)
        keys = [(id(image), description) for image, description in zip(images, descriptions, strict=True)]
        pairs = dict(zip(keys, images, strict=True))
        features = self.see(list(pairs.values()))
        with without_checkpoints(self.model):
            descriptions = [description for _, description in pairs]
            expressed = self._read(features, descriptions, batch_size, self._at_slots, self.num_tokens)
        tokens = dict(zip(pairs, expressed, strict=True))
        return torch.stack([tokens[key] for key in keys])

    @torch.no_grad()
    def answer(self, images: Sequence[ImageLike], questions: Sequence[str], batch_size: int = 50) -> list[str]:
        """Answer detailed questions about noiseless images greedily, by the model without LoRA."""
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} images came with {len(questions)} questions; one each is needed")
        self.check(questions, self.max_new_tokens)
        with without_lora(self.model), without_checkpoints(self.model):
            return self._read(self.see(images), questions, batch_size, self._continue, self.max_new_tokens)

    # --- how prompts are read ----------------------------------------------------------------------------------------

    def _read(
        self,
        seen: list[tuple[Tensor, ImageLayout | None]],
        texts: Sequence[str],
        batch_size: int,
        finish: Finish,
        room: int,
    ) -> list[Any]:
        """Return what `finish` makes of every prompt, in `room` positions behind it; it gets them in batches.

        Prompts about one image come with the same tensor of features. Images are taken in groups of one length, with
        all prompts about them; a group's keys and values are gone before the next.
        """
        if not seen:
            return []
        about: dict[int, list[int]] = {}
        for row, (image, _) in enumerate(seen):
            about.setdefault(id(image), []).append(row)
        at_once, position_bytes = batch_size, self._position_bytes()
        input_ids, mask = self._tokenize(texts)
        self._check_lengths(mask, torch.tensor([len(image) for image, _ in seen], device=mask.device), room)
        if position_bytes:
            image_bytes = position_bytes * (input_ids.shape[1] + max(len(image) for image, _ in seen))
            at_once = max(1, min(batch_size, self.cache_bytes // image_bytes))
        by_length: dict[int, list[list[int]]] = {}
        for rows in about.values():
            by_length.setdefault(len(seen[rows[0]][0]), []).append(rows)
        results: dict[int, Any] = {}
        for rows in by_length.values():
            for start in range(0, len(rows), at_once):
                group = [row for part in rows[start : start + at_once] for row in part]
                prompts = [seen[row] for row in group], input_ids[group], mask[group]
                share = position_bytes > 0
                results |= zip(group, self._read_group(*prompts, batch_size, finish, share=share), strict=True)
        return [results[row] for row in range(len(seen))]

    def _read_group(
        self,
        seen: list[tuple[Tensor, ImageLayout | None]],
        input_ids: Tensor,
        mask: Tensor,
        batch_size: int,
        finish: Finish,
        *,
        share: bool,
    ) -> list[Any]:
        """Return what `finish` makes of the prompts about a group of images; with `share`, each image is read once."""
        images = {id(image): (image, layout) for image, layout in seen}
        place = {key: n for n, key in enumerate(images)}
        about = torch.tensor([place[id(image)] for image, _ in seen], device=self.model.device)
        image_tokens = torch.stack([image for image, _ in images.values()])
        layouts = [layout for _, layout in images.values() if layout is not None]
        input_ids, mask = self._with_patches(input_ids, mask, image_tokens.shape[1])
        lengths, cache = mask.sum(1), None
        head = _common_start(input_ids, lengths)
        has_image = int((head == self.processor.image_token_id).sum()) == image_tokens.shape[1]
        if share and has_image and len(images) < len(seen):
            embeds = self.embed(head.expand(len(images), -1), image_tokens)
            cache = self._decode(embeds, mask.new_ones(embeds.shape[:2]), use_cache=True).past_key_values
        results: dict[int, Any] = {}
        for part in lengths.argsort(stable=True).split(batch_size):  # of similar lengths: little padding
            length = int(lengths[part].max())
            ids, valid = input_ids[part, -length:], mask[part, -length:]
            if cache is None:
                at_image = ids == self.processor.image_token_id
                places = self.image_input.places(
                    at_image, valid, torch.stack(layouts)[about[part]] if layouts else None
                )
                done = finish(self.embed(ids, image_tokens[about[part]]), valid, None, **places)
            else:
                text = ids[:, len(head) :]
                valid = valid[:, : text.shape[1]]  # the padding comes between image and text
                valid = torch.cat([valid.new_ones(len(part), len(head)), valid], dim=1)
                layers: list[Any] = [LayerBehindImages(layer.keys, layer.values, about[part]) for layer in cache.layers]
                done = finish(input_embeddings(self.model)(text), valid, Cache(layers=layers))
            results |= zip(part.tolist(), done, strict=True)
        return [results[row] for row in range(len(seen))]

    def _position_bytes(self) -> int:
        """Return the size of one position's keys and values, or 0 if a prompt cannot go on from those of its image.

        It can if the language model attends to all positions before one and to none behind it, in every layer; if it
        keeps plain keys and values; and if it counts positions one by one.
        """
        decoder = self.model.get_decoder()
        causal = all(getattr(part, "is_causal", True) for part in (decoder.config, *decoder.modules()))
        if not causal or self.image_input.in_a_plane or self.image_input.types is not None:
            return 0
        embed = input_embeddings(self.model)
        probe = embed(torch.zeros(1, 1, dtype=torch.long, device=embed.weight.device))
        output = self._decode(probe, torch.ones(1, 1, dtype=torch.long, device=probe.device), use_cache=True)
        cache = getattr(output, "past_key_values", None)
        layers: list[Any] = cache.layers if isinstance(cache, Cache) else []
        if any(type(layer) is not DynamicLayer for layer in layers):  # windows of attention, recurrent states
            return 0
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def _decode(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        **places: Any,
    ) -> Any:
        """Run the language model over embeddings, the last ones that the mask is about."""
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -inputs_embeds.shape[1] :]
        # what kinds of tokens may attend to each other, the model around the language model knows
        module: Any = self.model.base_model if "token_type_ids" in places else self.model.get_decoder()
        return module(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **{"position_ids": positions, **places},
        )

    def _at_slots(
        self, inputs_embeds: Tensor, attention_mask: Tensor, past_key_values: Cache | None = None, **places: Any
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Return the last hidden states at the slots, behind prompts."""
        places = self.image_input.continued(places, self.num_tokens)
        batch = len(inputs_embeds)
        embeds = torch.cat([inputs_embeds, self.slots.to(inputs_embeds.dtype).expand(batch, -1, -1)], dim=1)
        mask = torch.cat([attention_mask, attention_mask.new_ones(batch, self.num_tokens)], dim=1)
        output = self._decode(embeds, mask, past_key_values, use_cache=past_key_values is not None, **places)
        hidden = output.last_hidden_state
        return hidden[:, -self.num_tokens :].float()

    def _continue(
        self, inputs_embeds: Tensor, attention_mask: Tensor, past_key_values: Cache | None = None, **places: Any
    ) -> list[str]:
        """Continue prompts greedily."""
        prepare: Any = self.model.prepare_inputs_for_generation
        if "inputs_embeds" not in inspect.signature(prepare).parameters:
            return self._continue_step_by_step(inputs_embeds, attention_mask, **places)
        start: dict[str, Any] = (
            dict(places) if past_key_values is None else {"past_key_values": past_key_values, "use_cache": True}
        )
        # Transformers wants embeddings of all positions, and drops as many as the cache holds.
        missing = attention_mask.shape[1] - inputs_embeds.shape[1]
        embeds = nn.functional.pad(inputs_embeds, (0, 0, missing, 0))
        return generate(self.model, self.processor.tokenizer, embeds, attention_mask, self.max_new_tokens, **start)

    def _continue_step_by_step(self, inputs_embeds: Tensor, attention_mask: Tensor, **places: Any) -> list[str]:
        """Continue prompts of a model whose own `generate` takes no embeddings."""
        tokenizer = self.processor.tokenizer
        ends = torch.as_tensor(answer_ends(self.model, tokenizer), dtype=torch.long, device=inputs_embeds.device)
        pad = padding_id(tokenizer)
        output = self._decode(inputs_embeds, attention_mask, use_cache=True, **places)
        ended = torch.zeros(len(inputs_embeds), dtype=torch.bool, device=inputs_embeds.device)
        words, logits = list[Tensor](), list[Tensor]()
        for _ in range(self.max_new_tokens):
            logits.append(logits_of(self.model, output.last_hidden_state[:, -1]))
            words.append(torch.where(ended, pad, logits[-1].argmax(-1)))
            ended |= torch.isin(words[-1], ends)
            if ended.all():
                break
            attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(ended), 1)], dim=1)
            embeds = input_embeddings(self.model)(words[-1])[:, None]
            output = self._decode(embeds, attention_mask, output.past_key_values, use_cache=True)
        return answers_in(self.model, tokenizer, torch.stack(words, dim=1), logits)


def _common_start(input_ids: Tensor, lengths: Tensor) -> Int[Tensor, " length"]:
    """Return the ids with which all left-padded prompts begin; at least one more follows in each of them."""
    size = input_ids.shape[1]
    column = size - lengths[:, None] + torch.arange(size, device=lengths.device)  # without padding
    ids = input_ids.gather(1, column.clamp(max=size - 1))[:, : int(lengths.min()) - 1]
    return ids[0, : int((ids == ids[0]).all(0).cumprod(0).sum())]
