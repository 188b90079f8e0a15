"""What this machine offers, and whether the libraries on it fit each other."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from studies.processes import num_cores
from studies.provenance import PACKAGES, code_version, package_versions

CROSSING = (
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("uint8", "int8", "int16", "int32", "int64", "bool"),
)


@dataclass(frozen=True)
class Finding:
    """One line about the machine, and whether it is as it should be."""

    subject: str
    text: str
    fine: bool = True


def diagnose() -> list[Finding]:
    """Look at interpreter, libraries, processors and accelerators; loads both frameworks."""
    findings = [*_machine(), *_libraries(), *_clashes()]
    try:
        return [*findings, *_frameworks(), *_memory()]
    except Exception as error:
        # A broken library may raise anything while it loads; the findings so far are needed most now.
        return [*findings, Finding("loading", f"{type(error).__name__}: {error}", False)]


def _machine() -> Iterator[Finding]:
    version = platform.python_version_tuple()
    fine = (3, 11) <= (int(version[0]), int(version[1])) < (3, 13)
    yield Finding("python", platform.python_version() + ("" if fine else "; take 3.11 or 3.12"), fine)
    yield Finding("cores", f"{num_cores()}; `tokenlink run` starts one worker each, up to 8")
    free = shutil.disk_usage(".").free / 2**30
    yield Finding("disk", f"{free:.1f} GiB free here" + ("" if free > 1 else "; a run needs more"), free > 1)


def _libraries() -> Iterator[Finding]:
    versions = package_versions()
    yield Finding("tokenlink", code_version())
    for name in PACKAGES:
        yield Finding(name, versions[name], versions[name] != "missing")


def _clashes() -> Iterator[Finding]:
    """Combinations that are known to break."""
    versions, installed = package_versions(), _installed()
    if not versions["sionna"].startswith("1.2."):
        yield Finding("sionna", f"{versions['sionna']}: 2.x dropped TensorFlow; install sionna==1.2.2", False)
    if _release(versions["tensorflow"]) >= (2, 21) and _release(versions["h5py"]) >= (3, 15):
        yield Finding("h5py", f"{versions['h5py']}: tensorflow 2.21 needs an older one; install 'h5py<3.15'", False)
    if {"tensorflow", "tensorflow-cpu"} <= installed:
        yield Finding(
            "tensorflow-cpu", "stands beside tensorflow and overwrites its files; uninstall both, install one", False
        )
    twice = sorted(name[:-5] for name in installed if name.endswith("-cu12") and name[:-5] + "-cu13" in installed)
    if twice:
        yield Finding(
            "cuda libraries",
            f"{', '.join(twice)} for CUDA 12 and 13 write to the same folder; reinstall torch last, and keep "
            "TensorFlow on the CPU (tensorflow without [and-cuda])",
            False,
        )


def _frameworks() -> Iterator[Finding]:
    import bridge  # noqa: F401 -- loads TensorFlow, then PyTorch, and sets what both need

    # isort: split
    import tensorflow as tf
    import torch

    order = [name for name in sys.modules if name in ("tensorflow", "torch")]
    hint = "" if order[0] == "tensorflow" else "; both orders work now, but older versions hung: import bridge first"
    yield Finding("import order", f"{order[0]}, then {order[1]}{hint}")
    tf_gpus = tf.config.list_physical_devices("GPU")
    yield Finding(
        "tensorflow devices",
        f"{len(tf_gpus)} GPU, built for CUDA {tf.sysconfig.get_build_info().get('cuda_version', 'none')}",
    )
    for gpu in tf_gpus:
        grows = tf.config.experimental.get_memory_growth(gpu)
        text = "grows with use" if grows else "is taken all at once; import bridge before TensorFlow runs"
        yield Finding("gpu memory", f"{gpu.name}: {text}", grows)
    torch_gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding(
        "torch devices", f"{', '.join(torch_gpus) or 'no GPU'}, built for CUDA {torch.version.cuda or 'none'}"
    )
    if tf_gpus and torch_gpus:
        yield Finding(
            "GPU profile", "both frameworks see the GPU; tested is torch on the GPU and TensorFlow on the CPU"
        )
    threads = {
        "torch": torch.get_num_threads(),
        "tensorflow": tf.config.threading.get_intra_op_parallelism_threads()
        or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or num_cores()),
    }
    crowded = [name for name, count in threads.items() if count > num_cores()]
    text = ", ".join(f"{name} {count}" for name, count in threads.items()) + f" on {num_cores()} cores; they take turns"
    if crowded:
        text += f"; too many for {' and '.join(crowded)}: set OMP_NUM_THREADS and TF_NUM_INTRAOP_THREADS"
    yield Finding("threads", text, not crowded)


def _memory() -> Iterator[Finding]:
    """Send a tensor of every kind to TensorFlow and back, and see whether it stayed where it was."""
    import torch

    from bridge import to_tf, to_torch

    tensors = {name: torch.ones(3, dtype=getattr(torch, name)) for name in CROSSING}
    shared = [name for name, x in tensors.items() if to_torch(to_tf(x)).data_ptr() == x.data_ptr()]
    yield Finding("shared memory", ", ".join(shared) or "nothing", {"float32", "complex64"} <= set(shared))
    copied = [name for name in CROSSING if name not in shared]
    yield Finding("copied", ", ".join([*copied, "slices that start off a 64-byte boundary, tensors on a GPU"]))


def _installed() -> set[str]:
    names = (package.metadata["Name"] or "" for package in importlib.metadata.distributions())
    return {name.lower().replace("_", "-") for name in names}


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
