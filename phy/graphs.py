"""TensorFlow graphs that belong to one object each."""

from functools import partial

import tensorflow as tf


def graph(function, *, signature=None, xla: bool = False, generalize: bool = False):
    """Compile a function into a graph, once for all batch sizes.

    TensorFlow counts traces by the code of a function and warns of the fifth in a row. Five links share their code and
    trace it once each. A partial has no code of its own, so every graph is counted alone.

    Parameters
    ----------
    function : callable
    signature : list of tf.TensorSpec, optional
        Shapes and types of the arguments.
    xla : bool
        Compile by XLA, once for each batch size.
    generalize : bool
        Trace with unknown sizes after the first change of a shape; for functions without a signature.
    """
    return tf.function(
        partial(function),
        input_signature=signature,
        autograph=False,
        jit_compile=xla or None,
        reduce_retracing=generalize,
    )


def exact_inverse(x):
    """Return 1 / x by a division, whose bits do not depend on where in a batch a number stands.

    TensorFlow's graphs turn `1 / x` into a reciprocal, which rounds otherwise at the end of a tensor than before it.
    """
    return 2 / (2 * x)
