"""The shell: who may import whom, and that the folders named in pyproject.toml exist."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TENSORFLOW = {"tensorflow", "keras", "sionna"}
PYTORCH = {"torch", "transformers", "peft", "accelerate", "safetensors"}
# design.md: studies -> bridge -> phy, semantic; nothing points back, and phy and semantic never meet.
FORBIDDEN = {
    "phy": PYTORCH | {"semantic", "bridge", "studies", "tests"},
    "semantic": TENSORFLOW | {"phy", "bridge", "studies", "tests"},
    "bridge": {"semantic", "transformers", "peft", "studies", "tests"},
    "studies": {"tests"},
}


def imported_by(path):
    """Top-level names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def loaded_after(statement):
    """Top-level modules in a fresh process after one statement."""
    code = f"{statement}; import sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_import_points_back(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} has no modules"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported_by(path)
        if name in FORBIDDEN[folder]
    ]
    assert not wrong, wrong


def test_the_import_reader_sees_imports_inside_functions(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import os.path\ndef f():\n    from torch.nn import Module\n    from . import sibling\n")
    assert set(imported_by(path)) == {"os", "torch"}


@pytest.mark.parametrize(
    ("statement", "present", "absent"),
    [
        ("import phy", "tensorflow", PYTORCH),
        ("import semantic", "torch", TENSORFLOW),
        ("import studies.cli", "typer", {"tensorflow", "torch", "sionna", "transformers", "h5py"}),
    ],
)
def test_a_fresh_process_loads_only_its_own_side(statement, present, absent):
    loaded = loaded_after(statement)
    assert present in loaded
    assert not loaded & absent


def test_the_folders_named_in_pyproject_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    roots = [environment["root"] for environment in project["pyright"]["executionEnvironments"]]
    named = [*project["pyright"]["include"], *roots, *project["pytest"]["ini_options"]["testpaths"]]
    assert {"phy", "semantic", "bridge", "studies"} <= set(named)
    assert not [name for name in named if not (ROOT / name).is_dir()]


def test_every_dependency_is_pinned_in_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, exactly, version = line.partition("==")
            assert exactly, f"{line!r} is no exact pin"
            pins[name.lower().replace("_", "-")] = version
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {requirement.partition(">")[0].partition("=")[0].partition("[")[0].lower() for requirement in wanted}
    assert names <= set(pins)
    assert pins["torch"] == "2.13.0"
