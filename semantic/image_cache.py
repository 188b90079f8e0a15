"""Keys and values of images that several prompts share: computed once, kept once."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer


class LayerBehindImages(DynamicLayer):
    """Keys and values of one layer: those of images, shared by several rows, and each row's own behind them.

    A row's copy of its image's keys and values lives only while the layer attends to it.

    Parameters
    ----------
    image_keys, image_values : float [images, heads, positions, head size]
    about : int [rows]
        Each row's image.
    """

    def __init__(self, image_keys: Tensor, image_values: Tensor, about: Tensor) -> None:
        super().__init__()
        self.image_keys, self.image_values, self.about = image_keys, image_values, about

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the rows' new keys and values; return all that they attend to."""
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        return self._behind(self.image_keys, keys), self._behind(self.image_values, values)

    def _behind(self, of_images: Tensor, own: Tensor) -> Tensor:
        """Put the rows' own numbers behind those of their images."""
        rows, heads, length, size = own.shape
        num_shared = of_images.shape[2]
        joined = own.new_empty(rows, heads, num_shared + length, size)
        torch.index_select(of_images, 0, self.about, out=joined[:, :, :num_shared])
        joined[:, :, num_shared:] = own
        return joined

    def get_seq_length(self) -> int:
        """Return the number of positions so far, the image's included."""
        return self.image_keys.shape[-2] + super().get_seq_length()
