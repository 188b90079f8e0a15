"""Between TensorFlow's physical layer and PyTorch's models.

Importing it fixes what two frameworks in one process need: TensorFlow is loaded first, as both orders have hung in
some versions, and takes GPU memory as it needs it instead of all at once.
"""

import warnings

# isort: off
import tensorflow as tf
import torch
# isort: on

from bridge.bit_channel import BitChannel
from bridge.tensors import to_tf, to_torch
from bridge.token_channel import TokenChannel

__all__ = ["BitChannel", "TokenChannel", "limit_threads", "to_tf", "to_torch"]


def limit_threads(num_threads: int) -> None:
    """Give each framework so many threads. They take turns, so a process may give both all the cores that it has.

    Call it before TensorFlow's first operation.

    Raises
    ------
    ValueError
        If `num_threads` is no positive whole number.
    RuntimeError
        If TensorFlow has run already with other numbers.
    """
    if not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(f"num_threads must be a positive whole number, got {num_threads!r}")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    except RuntimeError as error:
        raise RuntimeError(
            "TensorFlow has run and keeps its threads; call limit_threads before anything else"
        ) from error
    torch.set_num_threads(num_threads)


def _grow_gpu_memory() -> None:
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            warnings.warn(
                f"TensorFlow ran before bridge was imported and may have taken all memory of {gpu.name}; "
                "import bridge first",
                RuntimeWarning,
                stacklevel=3,
            )


_grow_gpu_memory()
