"""Between TensorFlow's physical layer and PyTorch's models."""

import bridge.frameworks  # noqa: F401 -- before everything that uses either framework

# isort: split
from bridge.bit_channel import BitChannel
from bridge.tensors import to_tf, to_torch
from bridge.token_channel import TokenChannel

__all__ = ["BitChannel", "TokenChannel", "to_tf", "to_torch"]
