"""What this machine offers, and whether the libraries on it fit each other."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from studies.provenance import PACKAGES, code_version, package_versions


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and whether it is as it should be."""

    subject: str
    text: str
    fine: bool = True


def diagnose() -> list[Finding]:
    """Look at interpreter, libraries, processors and accelerators; loads both frameworks."""
    return [*_machine(), *_libraries(), *_frameworks()]


def _machine() -> Iterator[Finding]:
    version = platform.python_version_tuple()
    fine = (3, 11) <= (int(version[0]), int(version[1])) < (3, 13)
    yield Finding("python", platform.python_version() + ("" if fine else "; take 3.11 or 3.12"), fine)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", f"{cores}; `tokenlink run` starts one worker each, up to 8")
    free = shutil.disk_usage(".").free / 2**30
    yield Finding("disk", f"{free:.1f} GiB free here" + ("" if free > 1 else "; a run needs more"), free > 1)


def _libraries() -> Iterator[Finding]:
    versions = package_versions()
    yield Finding("tokenlink", code_version())
    for name in PACKAGES:
        yield Finding(name, versions[name], versions[name] != "missing")
    if not versions["sionna"].startswith("1.2."):
        yield Finding("sionna", f"{versions['sionna']}: 2.x dropped TensorFlow; install sionna==1.2.2", False)
    installed = {(found.metadata["Name"] or "").lower() for found in importlib.metadata.distributions()}
    if {"tensorflow", "tensorflow-cpu"} <= installed:
        yield Finding(
            "tensorflow-cpu", "stands beside tensorflow and overwrites its files; uninstall both, install one", False
        )


def _frameworks() -> Iterator[Finding]:
    import tensorflow as tf  # before torch, as bridge does
    import torch

    tf_gpus = tf.config.list_physical_devices("GPU")
    yield Finding(
        "tensorflow devices",
        f"{len(tf_gpus)} GPU, built for CUDA {tf.sysconfig.get_build_info().get('cuda_version', 'none')}",
    )
    torch_gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding(
        "torch devices", f"{', '.join(torch_gpus) or 'no GPU'}, built for CUDA {torch.version.cuda or 'none'}"
    )
    if tf_gpus and torch_gpus:
        yield Finding(
            "GPU profile", "both frameworks see the GPU; tested is torch on the GPU and TensorFlow on the CPU"
        )
