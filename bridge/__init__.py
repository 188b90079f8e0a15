"""Between TensorFlow's physical layer and PyTorch's models.

Importing it fixes what two frameworks in one process need: TensorFlow is loaded first, as both orders have hung in
some versions, and takes GPU memory as it needs it instead of all at once.
"""

# isort: off
import tensorflow as tf
import torch  # noqa: F401
# isort: on

from bridge.bit_channel import BitChannel
from bridge.tensors import to_tf, to_torch
from bridge.token_channel import TokenChannel

__all__ = ["BitChannel", "TokenChannel", "to_tf", "to_torch"]


def _grow_gpu_memory() -> None:
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


_grow_gpu_memory()
