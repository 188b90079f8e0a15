"""How TensorFlow starts: without a word, and with GPU memory as it needs it.

Importing this module starts it. `phy` does so before any name that uses TensorFlow, and `bridge` before anything else:
Sionna runs TensorFlow while it loads, and GPU memory has to be settled before TensorFlow runs.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back_output() -> Iterator[None]:
    """Hold back everything that the process writes to stdout and stderr; show it only if the block fails.

    TensorFlow's libraries write to the file descriptors themselves, below anything that Python could redirect.
    """
    _flush()
    with tempfile.TemporaryFile() as kept:
        originals = {number: os.dup(number) for number in (1, 2) if _is_open(number)}
        for number in originals:
            os.dup2(kept.fileno(), number)
        try:
            yield
        except BaseException:
            _flush()
            kept.seek(0)
            if 2 in originals:
                os.write(originals[2], kept.read())
            raise
        finally:
            _flush()
            for number, original in originals.items():
                os.dup2(original, number)
                os.close(original)


def grow_gpu_memory() -> list[str]:
    """Let TensorFlow take GPU memory as it needs it; return the GPUs for which it is too late."""
    import tensorflow as tf

    late = []
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            late.append(gpu.name)
    return late


def _start_tensorflow():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only; TensorFlow reads it while it loads
    with held_back_output():
        late = grow_gpu_memory()
        import sionna.phy  # noqa: F401
    for name in late:
        warnings.warn(
            f"TensorFlow ran before phy was imported and may have taken all memory of {name}; import phy or bridge "
            "first",
            RuntimeWarning,
            stacklevel=2,
        )


def _flush():
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


_start_tensorflow()
