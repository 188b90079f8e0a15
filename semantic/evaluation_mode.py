"""Models that are trained through, but not trained: in evaluation mode, without dropout, and still checkpointed."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def evaluate(model: nn.Module, *, checkpoint: bool) -> None:
    """Put a model into evaluation mode; with `checkpoint`, layers that are told to checkpoint do so nevertheless.

    Transformers' layers keep their activations unless they are in training mode. A layer is, for that decision alone:
    it is computed in evaluation mode like all that it holds.
    """
    model.eval()
    for layer in _checkpointed(model):
        function: Any = layer._gradient_checkpointing_func
        if not (isinstance(function, functools.partial) and function.func is _checkpoint_in_evaluation_mode):
            layer._gradient_checkpointing_func = functools.partial(_checkpoint_in_evaluation_mode, layer, function)
        layer.training = checkpoint


@contextmanager
def without_checkpoints(model: nn.Module) -> Iterator[None]:
    """Keep all activations within the block: checkpointing layers leave no keys and values for the next word."""
    before = [(layer, layer.training) for layer in _checkpointed(model)]
    for layer, _ in before:
        layer.training = False
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


def _checkpointed(model: nn.Module) -> list[Any]:
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return [layer for layer in layers if layer.gradient_checkpointing]


def _checkpoint_in_evaluation_mode(
    layer: nn.Module, checkpoint: Callable[..., Any], function: Callable[..., Any], *args: Any
) -> Any:
    return checkpoint(functools.partial(_run_in_evaluation_mode, layer, function), *args)


def _run_in_evaluation_mode(layer: nn.Module, function: Callable[..., Any], *args: Any) -> Any:
    before, layer.training = layer.training, False
    try:
        return function(*args)
    finally:
        layer.training = before
