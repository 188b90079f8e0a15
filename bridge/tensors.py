"""Tensors across the border, sharing memory through DLPack where device and layout allow."""

import os
from typing import Any

import tensorflow as tf
import torch
from torch.utils import dlpack as torch_dlpack

_HOME = os.getpid()
_ALIGNMENT = 64  # bytes; TensorFlow's kernels load whole vector registers from the start of a tensor

_TO_TORCH = {
    tf.bool: torch.bool,
    tf.uint8: torch.uint8,
    tf.int8: torch.int8,
    tf.int16: torch.int16,
    tf.int32: torch.int32,
    tf.int64: torch.int64,
    tf.float16: torch.float16,
    tf.bfloat16: torch.bfloat16,
    tf.float32: torch.float32,
    tf.float64: torch.float64,
    tf.complex64: torch.complex64,
    tf.complex128: torch.complex128,
}
_TO_TF = {theirs: ours for ours, theirs in _TO_TORCH.items()}


def to_tf(x: torch.Tensor, dtype: tf.DType | None = None) -> tf.Tensor:
    """The same numbers as a TensorFlow tensor in host memory, without gradient.

    Memory is shared if `x` lies in host memory, is contiguous, starts on a 64-byte boundary (every tensor that PyTorch
    allocates does, a slice may not), is neither empty nor boolean nor marked as conjugated or negated, and already has
    the `dtype`. Otherwise the result is a copy. Do not write to `x` in place while a shared tensor is in use:
    TensorFlow takes tensors for constants.

    Parameters
    ----------
    x : torch.Tensor
        Boolean, integer, float16, bfloat16, float32, float64, complex64 or complex128; on any device.
    dtype : tf.DType, optional
        Type of the result; defaults to that of `x`.

    Raises
    ------
    TypeError
        If `x` is no dense tensor of such a type.
    ValueError
        If `x` is on the meta device, where tensors have no numbers.
    RuntimeError
        In a forked process: TensorFlow would wait there for ever.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"to_tf expects a torch.Tensor, got {type(x).__name__}")
    if os.getpid() != _HOME:
        raise RuntimeError("TensorFlow does not survive a fork; spawn workers: multiprocessing_context='spawn'")
    if x.is_meta:
        raise ValueError("to_tf got a tensor on the meta device, where tensors have no numbers; move the model first")
    if x.layout != torch.strided or x.dtype not in _TO_TF:
        raise TypeError(
            f"to_tf takes dense tensors of {', '.join(map(_name, _TO_TF))}; got {_name(x.dtype)}, {x.layout}"
        )
    x = x.detach()
    if x.is_conj() or x.is_neg() or not (x.is_cpu and x.is_contiguous()):
        x = x.resolve_conj().resolve_neg().cpu().contiguous()
    if x.numel() == 0:
        shared = tf.zeros(tuple(x.shape), _TO_TF[x.dtype])
    elif x.dtype == torch.bool:
        shared = tf.cast(to_tf(x.to(torch.uint8)), tf.bool)
    else:
        if x.data_ptr() % _ALIGNMENT:
            x = x.clone()
        shared = tf.experimental.dlpack.from_dlpack(torch_dlpack.to_dlpack(x))  # pyright: ignore[reportPrivateImportUsage]
    return shared if dtype is None or shared.dtype == dtype else tf.cast(shared, dtype)


def to_torch(
    x: tf.Tensor, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """The same numbers as a PyTorch tensor, without gradient.

    Memory is shared, unless `x` is empty or boolean, or `device` or `dtype` differ from its own. Then the result is a
    copy. Do not write in place to a shared result: TensorFlow takes tensors for constants.

    Parameters
    ----------
    x : tf.Tensor
        Eager; boolean, integer, float16, bfloat16, float32, float64, complex64 or complex128.
    device : torch.device, optional
        Device of the result; defaults to that of `x`.
    dtype : torch.dtype, optional
        Type of the result; defaults to that of `x`.

    Raises
    ------
    TypeError
        If `x` is no eager tensor of such a type.
    """
    if not isinstance(x, tf.Tensor) or not hasattr(x, "numpy"):
        raise TypeError(f"to_torch expects an eager tf.Tensor, got {type(x).__name__}")
    if x.dtype not in _TO_TORCH:
        raise TypeError(f"to_torch takes {', '.join(t.name for t in _TO_TORCH)}; got {x.dtype.name}")
    if 0 in x.shape:
        shared = torch.zeros(x.numpy().shape, dtype=_TO_TORCH[x.dtype])
    elif x.dtype == tf.bool:
        shared = to_torch(tf.cast(x, tf.uint8)).to(torch.bool)
    else:
        shared = torch_dlpack.from_dlpack(tf.experimental.dlpack.to_dlpack(x))
    return shared.to(device=device, dtype=dtype)


def to_numpy(x: Any) -> Any:
    """Bring a tensor of arguments to NumPy; return everything else unchanged."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().to("cpu", torch.float64 if x.is_floating_point() else x.dtype).numpy()  # NumPy has no bfloat16


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
