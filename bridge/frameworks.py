"""What two frameworks in one process need, in this order: TensorFlow, PyTorch, memory; only then Sionna.

TensorFlow is loaded first, as both orders have hung in some versions, and takes GPU memory as it needs it instead of
all at once. That has to be said before `phy` is imported, for Sionna uses TensorFlow while it loads. Threads are fixed
then too, by OMP_NUM_THREADS, TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS in the environment.
"""

import warnings

# isort: off
import tensorflow as tf
import torch  # noqa: F401
# isort: on


def grow_gpu_memory() -> None:
    """Let TensorFlow take GPU memory as it needs it; warn where it is too late to say so."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            warnings.warn(
                f"TensorFlow ran before bridge was imported and may have taken all memory of {gpu.name}; "
                "import bridge first",
                RuntimeWarning,
                stacklevel=2,
            )


grow_gpu_memory()
