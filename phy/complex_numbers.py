"""Complex numbers from real ones."""

import tensorflow as tf


def expj(phase):
    """Unit-modulus complex numbers."""
    return tf.complex(tf.cos(phase), tf.sin(phase))


def to_complex(x):
    """Complex numbers without imaginary part; unlike `tf.cast`, whose gradient warns of the part that it drops."""
    return tf.complex(x, tf.zeros_like(x))
