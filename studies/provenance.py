"""What determines numbers beside the configuration: the source code that they depend on, and the libraries under it.

A point depends on the parts of its curve and on all that these import, inside functions as well: their import closure
among the project's own files. Adding a curve, or editing one that a point does not use, leaves the point valid.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("phy", "semantic", "bridge", "studies")
PACKAGES = ("numpy", "scipy", "tensorflow", "sionna", "torch", "transformers", "peft", "h5py", "pillow")


@functools.cache
def source_hash(modules: tuple[str, ...]) -> str:
    """SHA-256 (first 32 digits) of the files in the import closure of modules, and of JSON tables beside them."""
    digest = hashlib.sha256()
    files = import_closure(modules)
    tables = {
        f"{name}/{table.name}": table
        for name, path in files.items()
        if path.name != "__init__.py"
        for table in path.parent.glob("*.json")
    }
    for name, path in sorted({**files, **tables}.items()):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]


def import_closure(modules: Iterable[str]) -> dict[str, Path]:
    """Return the files, by module, that the given modules reach through imports.

    Modules count that belong to the project or to the top-level package of a given module. An import under
    `if TYPE_CHECKING` does not count, save in an `__init__.py`, which may load later what it shows there.
    """
    modules = tuple(modules)
    own = {*PROJECT, *(name.partition(".")[0] for name in modules)}
    files: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in files or name.partition(".")[0] not in own:
            continue
        path = _file_of(name)
        if path is None:
            continue  # an attribute of a package, not a module of its own
        files[name] = path
        parent = name.rpartition(".")[0]
        waiting += [
            *([parent] if parent else []),
            *_imports(name, path.read_text(encoding="utf-8"), path.name == "__init__.py"),
        ]
    return files


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Name the modules that a syntax tree imports, relative ones resolved; of `from a import b` both a and a.b."""
    for node in _running(tree, is_package):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _running(node: ast.AST, with_types: bool) -> Iterator[ast.AST]:
    """Walk over everything that can run: not the body of `if TYPE_CHECKING`, unless types are wanted."""
    for child in ast.iter_child_nodes(node):
        if not with_types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _running(other, with_types)
            continue
        yield child
        yield from _running(child, with_types)


@functools.cache
def _imports(module: str, source: str, is_package: bool) -> tuple[str, ...]:
    return tuple(imports_of(ast.parse(source), module, is_package=is_package))


def _file_of(module: str) -> Path | None:
    """Return the file of a module; None if there is no such module."""
    if module.partition(".")[0] in PROJECT:
        base = ROOT.joinpath(*module.split("."))
        candidates = (base / "__init__.py", base.with_suffix(".py"))
        return next((path for path in candidates if path.is_file()), None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the libraries that determine numbers."""
    return {name: _version(name) for name in PACKAGES}


@functools.cache
def installation() -> dict[str, str]:
    """Versions of Python and of these libraries, and a hash of all code, weights and images that come along."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in PROJECT for path in (ROOT / folder).rglob("*")):
        if path.suffix in (".py", ".json", ".jpg", ".safetensors"):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return {"Python": platform.python_version(), **package_versions(), "TokenLink": digest.hexdigest()[:16]}


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
