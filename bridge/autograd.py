"""Gradients across the border."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from bridge.tensors import to_tf, to_torch

Send = Callable[[tf.Tensor], tf.Tensor]  # over the same fades and noise each time


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

    The tape hangs on the memory of an empty tensor that PyTorch saves, so that PyTorch frees it with everything else
    that it saved, and drops it for the time being under gradient checkpointing. A tape plays once; where another pass
    needs it (`retain_graph=True`), or hooks on saved tensors have made copies, the codes are sent once more. They are
    saved too, so that a change of them in place is noticed.
    """

    @staticmethod
    def forward(ctx: Any, codes: torch.Tensor, send: Send) -> torch.Tensor:
        """Send and keep the tape."""
        received, play = _record(codes, send)
        peg = torch.empty(0)
        peg.untyped_storage().play = play  # pyright: ignore[reportAttributeAccessIssue]
        ctx.send = send
        ctx.save_for_backward(codes, peg)
        return to_torch(received, device=codes.device).clone()  # what the tape keeps may not change in place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradient of the real numbers sent, from the tape."""
        codes, peg = ctx.saved_tensors
        play = vars(peg.untyped_storage()).pop("play", None) or _record(codes, ctx.send)[1]
        grad = play(to_tf(grad_outputs[0]))
        if grad is None:
            raise RuntimeError(
                "TensorFlow finds no derivative on the way from codes_hat to codes, a rounding perhaps; take "
                "gradient='straight-through'"
            )
        return to_torch(grad, device=codes.device), None


def _record(codes: torch.Tensor, send: Send) -> tuple[tf.Tensor, Callable[[Any], Any]]:
    sent = to_tf(codes)
    with tf.GradientTape() as tape:  # not persistent: that makes TensorFlow keep what second derivatives need
        tape.watch(sent)
        received = send(sent)
    return received, lambda grad: tape.gradient(received, sent, output_gradients=grad)
