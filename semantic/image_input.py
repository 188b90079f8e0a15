"""An image as the language model of an image-text model gets it: features, the marks around them, their places.

The processor says how an image stands in a prompt. Most families repeat one token for every feature; others put marks
around features, lay them out in a plane, or let them attend to each other.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

# Time, height and width of every position behind the image's start; then 1 at features, 0 at marks, -1 at padding.
ImageLayout = Int[Tensor, "4 positions"]


class TokenTypes(NamedTuple):
    """Values of ``token_type_ids`` by which a family tells what attends to what in both directions."""

    feature: int
    prompt: int
    behind: int  # at what follows the prompt: slots, answers


TOKEN_TYPES = {"paligemma": TokenTypes(0, 0, 1), "gemma3": TokenTypes(1, 0, 0)}  # by config.model_type


class ImageInput:
    """How one image-text model takes images.

    Parameters
    ----------
    model : PreTrainedModel
    processor : ProcessorMixin with an image token

    Raises
    ------
    ValueError
        If the model takes images in a way that is unknown here; the message names its class.
    """

    def __init__(self, model: PreTrainedModel, processor: Any) -> None:
        self.model, self.processor = model, processor
        name, base = type(model).__name__, model.base_model
        if not hasattr(model, "get_image_features"):
            raise ValueError(
                f"{name} has no get_image_features: its images are no positions of the language model's input. Take a "
                "model of the kind of LLaVA, LLaVA-NeXT, Qwen2.5-VL, Idefics3, SmolVLM, PaliGemma or Gemma 3"
            )
        takes: Any = model.get_image_features
        self._feature_inputs = set(inspect.signature(takes).parameters)
        self.types = None
        if "token_type_ids" in inspect.signature(base.forward).parameters:
            self.types = TOKEN_TYPES.get(model.config.model_type)
            if self.types is None:
                raise ValueError(
                    f"{name} wants token_type_ids, whose meaning is known of {', '.join(TOKEN_TYPES)} alone"
                )
        if self.in_a_plane and not hasattr(base, "get_vision_position_ids"):
            raise ValueError(f"{name} lays images out in a way that is unknown here: it has no get_vision_position_ids")

    @property
    def in_a_plane(self) -> bool:
        """Whether the features of an image have places in a plane."""
        return hasattr(self.model.base_model, "get_rope_index")

    def process(self, images: list[Any]) -> dict[str, Tensor]:
        """Return what the processor makes of images."""
        options = getattr(type(self.processor), "images_kwargs", {})
        return self.processor.image_processor(images, return_tensors="pt", **options)

    def features(self, inputs: Any) -> Any:
        """Return the features of processed images, one of [features, hidden] each.

        Raises
        ------
        ValueError
            If the model hands its layers features beside those of the input.
        """
        device, dtype = self.model.device, self.model.dtype
        given = {name: value for name, value in inputs.items() if name in self._feature_inputs}
        given = {name: t.to(device, dtype) if t.is_floating_point() else t.to(device) for name, t in given.items()}
        model: Any = self.model
        output = model.get_image_features(**given, return_dict=True)
        if getattr(output, "deepstack_features", None) is not None:
            raise ValueError(
                f"{type(model).__name__} hands image features to its layers beside those of the input, which is not "
                "supported; take Qwen2.5-VL or another family"
            )
        return output.pooler_output

    def see(self, image: Any) -> tuple[Float[Tensor, "positions hidden"], ImageLayout | None]:
        """Return the embeddings that stand for one image in a prompt, and their layout; None for a plain row."""
        inputs = self.process([image])
        features = self.features(inputs)[0]
        features = features.reshape(-1, features.shape[-1])
        text = self.processor.replace_image_token(inputs, 0)
        ids = torch.tensor(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        at_features = ids == self.model.config.image_token_id
        if int(at_features.sum()) != len(features):
            raise ValueError(
                f"{type(self.processor).__name__} gives an image {int(at_features.sum())} positions, "
                f"{type(self.model).__name__} {len(features)} features; their configurations do not fit each other"
            )
        layout = torch.stack([torch.arange(len(ids))] * 3 + [at_features.long()])
        if self.in_a_plane:
            base: Any = self.model.base_model
            merge = self.model.config.vision_config.spatial_merge_size
            layout[:3, at_features] = base.get_vision_position_ids(0, inputs["image_grid_thw"][0], 1, merge).cpu()
        device = features.device
        embeds = self.model.get_input_embeddings()(ids.clamp(max=self._num_words - 1).to(device)).to(features.dtype)
        embeds[at_features.to(device)] = features
        plain = not self.in_a_plane and self.types is None
        return embeds, None if plain else layout.to(device)

    @property
    def _num_words(self) -> int:
        embeddings: Any = self.model.get_input_embeddings()
        return embeddings.num_embeddings

    def places(
        self, at_image: Tensor, attention_mask: Tensor, layouts: Int[Tensor, "batch 4 positions"] | None
    ) -> dict[str, Tensor]:
        """Return what the model wants to know of prompts beside embeddings and mask.

        Parameters
        ----------
        at_image : bool [batch, length]
            Positions of each prompt's image.
        attention_mask : int [batch, length]
            As `without_padding` returns it.
        layouts : int [batch, 4, positions of an image], optional

        Returns
        -------
        dict
            ``position_ids`` [4, batch, length] of a plane, ``token_type_ids`` [batch, length], or nothing.
        """
        if layouts is None or (self.types is None and not self.in_a_plane):
            return {}
        if self.types is not None:
            kinds = torch.full_like(attention_mask, self.types.prompt)
            kinds[at_image] = torch.where(layouts[:, 3] == 1, self.types.feature, self.types.prompt).flatten()
            return {"token_type_ids": kinds}
        in_row = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        first = at_image.int().argmax(-1, keepdim=True)
        start = in_row.gather(1, first)  # position of each image's start
        size = (layouts[:, 3] >= 0).sum(1)
        saved = (size - 1 - layouts[:, :3].amax((1, 2)))[:, None]  # a plane takes fewer positions than a row
        behind = torch.arange(in_row.shape[1], device=in_row.device) >= first + layouts.shape[2]
        plane = torch.where(behind, in_row - saved, in_row).expand(3, -1, -1).clone()
        for axis in range(3):
            plane[axis][at_image] = (start + layouts[:, axis]).flatten()
        return {"position_ids": torch.cat([in_row[None], plane])}

    def continued(self, places: dict[str, Tensor], count: int) -> dict[str, Tensor]:
        """Return `places` of prompts with `count` positions behind them."""
        longer = dict(places)
        if "token_type_ids" in places and self.types is not None:
            kinds = places["token_type_ids"]
            behind = kinds.new_full((len(kinds), count), self.types.behind)
            longer["token_type_ids"] = torch.cat([kinds, behind], dim=1)
        if "position_ids" in places:
            positions = places["position_ids"]
            steps = torch.arange(1, count + 1, device=positions.device)
            longer["position_ids"] = torch.cat([positions, positions[..., -1:] + steps], dim=-1)
        return longer


def plain_layout(length: int) -> ImageLayout:
    """Return the layout of a row of features."""
    return torch.stack([torch.arange(length)] * 3 + [torch.ones(length, dtype=torch.long)])


def padded(
    embeds: Sequence[Tensor], layouts: Sequence[ImageLayout | None]
) -> tuple[Float[Tensor, "batch positions hidden"], Int[Tensor, "batch 4 positions"] | None]:
    """Stack images, padded behind to the longest; the layouts say where. None if none is padded, and all are plain."""
    sizes = [len(image) for image in embeds]
    if len(set(sizes)) == 1 and all(layout is None for layout in layouts):
        return torch.stack(list(embeds)), None
    given = [plain_layout(n) if layout is None else layout for n, layout in zip(sizes, layouts, strict=True)]
    most = max(sizes)
    longer = [torch.nn.functional.pad(layout[:3], (0, most - layout.shape[1])) for layout in given]
    kinds = [torch.nn.functional.pad(layout[3:], (0, most - layout.shape[1]), value=-1) for layout in given]
    stacked = torch.cat([torch.stack(longer), torch.stack(kinds)], dim=1)
    return torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True), stacked


def without_padding(
    at_image: Tensor, attention_mask: Tensor, layouts: Int[Tensor, "batch 4 positions"] | None
) -> Int[Tensor, "batch length"]:
    """Return an attention mask of prompts without the padding of their images."""
    if layouts is None:
        return attention_mask
    mask = attention_mask.clone()
    mask[at_image] = (layouts[:, 3] >= 0).to(mask).flatten()
    return mask
