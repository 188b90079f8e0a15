"""Two frameworks in one process, in this order: TensorFlow, then PyTorch.

`phy/startup.py` starts TensorFlow, quietly and with GPU memory as it needs it. PyTorch follows, because both orders
have hung in some versions. Threads are fixed here too, by OMP_NUM_THREADS, TF_NUM_INTRAOP_THREADS and
TF_NUM_INTEROP_THREADS in the environment.
"""

# isort: off
import phy.startup  # noqa: F401
import torch  # noqa: F401
# isort: on
