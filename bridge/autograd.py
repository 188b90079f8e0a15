"""Gradients across the border between the frameworks."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from bridge.tensors import to_tf, to_torch

# both meet the same fades and noise in every call
Send = Callable[[tf.Tensor], tf.Tensor]
SendForGradient = Callable[[tf.Tensor], tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor | None]]]


class StraightThrough(torch.autograd.Function):
    """Send the codes; hand the gradient of the recovered codes back unchanged."""

    @staticmethod
    def forward(ctx: FunctionCtx, codes: torch.Tensor, send: Send) -> torch.Tensor:
        """Send, and keep nothing."""
        return to_torch(send(to_tf(codes)), device=codes.device)

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        """The gradient, unchanged."""
        return grad_outputs[0], None


class Exact(torch.autograd.Function):
    """Send the codes, and pull the gradient back through the link.

    The pull-back holds codes and fades. It is attached to the storage of an empty saved tensor, so PyTorch frees it
    together with the graph, and drops it until the second pass under gradient checkpointing. If hooks on saved tensors
    have made copies, the codes are sent once more. The codes are saved too: PyTorch then notices if they are changed in
    place.
    """

    @staticmethod
    def forward(ctx: Any, codes: torch.Tensor, send: SendForGradient) -> torch.Tensor:
        """Send, and keep the pull-back."""
        received, pull_back = send(to_tf(codes))
        peg = torch.empty(0)
        peg.untyped_storage().pull_back = pull_back  # pyright: ignore[reportAttributeAccessIssue]
        ctx.send = send
        ctx.save_for_backward(codes, peg)
        return to_torch(received, device=codes.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradient with respect to the codes."""
        codes, peg = ctx.saved_tensors
        pull_back = getattr(peg.untyped_storage(), "pull_back", None) or ctx.send(to_tf(codes))[1]
        grad = pull_back(to_tf(grad_outputs[0]))
        if grad is None:
            raise RuntimeError(
                "TensorFlow finds no derivative on the way from codes_hat to codes, a rounding perhaps; take "
                "gradient='straight-through'"
            )
        return to_torch(grad, device=codes.device), None
