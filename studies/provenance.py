"""What determines numbers beside the configuration: our source code and the libraries under it."""

import functools
import hashlib
import importlib.metadata
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "scipy", "tensorflow", "sionna", "torch", "transformers", "peft", "h5py")
# Everything that can change an outcome. Figures, tables, the command line and the archive's layout cannot.
DETERMINING = (
    "phy/**/*.py",
    "semantic/**/*.py",
    "bridge/**/*.py",
    "studies/schemes/**/*.py",
    "studies/schemes/**/*.json",
    "studies/questions.py",
    "studies/workbench.py",
    "studies/accuracy_vs_snr.py",
)


@functools.cache
def source_hash() -> str:
    """SHA-256 (first 32 digits) of the source files that determine outcomes: after an edit, old points do not count."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in DETERMINING for path in ROOT.glob(pattern)}):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the libraries that determine numbers."""
    return {name: _version(name) for name in PACKAGES}


def code_version() -> str:
    """Version of TokenLink, or "source" where it runs without being installed."""
    return _version("tokenlink", missing="source")


def git_state() -> dict[str, str | int]:
    """Commit of the working tree this code runs from and whether it has changes; "unknown" outside of one."""
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", "studies/provenance.py") else None
    if not commit:
        return {"git_commit": "unknown", "git_dirty": 1}
    return {"git_commit": commit, "git_dirty": int(bool(_git("status", "--porcelain")))}


def _version(name: str, missing: str = "missing") -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return missing


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
