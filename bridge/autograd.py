"""Gradients across the border."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from bridge.tensors import to_tf, to_torch

Send = Callable[[tf.Tensor], tf.Tensor]


class StraightThrough(torch.autograd.Function):
    """Send the codes; hand their gradient back as it comes, as if nothing had happened on the way."""

    @staticmethod
    def forward(ctx: FunctionCtx, codes: torch.Tensor, send: Send) -> torch.Tensor:
        """Send without a tape."""
        return to_torch(send(to_tf(codes)), device=codes.device)

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        """The gradient, unchanged."""
        return grad_outputs[0], None


class Exact(torch.autograd.Function):
    """Send the codes under TensorFlow's tape and play it back for their gradient.

    The tape lives as long as the result's place in PyTorch's graph; a second pass needs `retain_graph=True`, as usual.
    """

    @staticmethod
    def forward(ctx: Any, codes: torch.Tensor, send: Send) -> torch.Tensor:
        """Send and keep the tape."""
        sent = to_tf(codes)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sent)
            received = send(sent)
        ctx.save_for_backward(
            codes
        )  # only to let PyTorch refuse a second pass through a graph that it was told to free
        ctx.replay = lambda grad: tape.gradient(received, sent, output_gradients=grad)
        return to_torch(received, device=codes.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradient of the real numbers sent, from the tape."""
        (codes,) = ctx.saved_tensors
        return to_torch(ctx.replay(to_tf(grad_outputs[0])), device=codes.device), None
