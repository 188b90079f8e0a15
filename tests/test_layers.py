"""The shell: who may import whom, in which direction and without a circle; pyproject.toml names what exists."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from studies.provenance import imports_of

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


def modules_below(root):
    """The files of the four folders, by module."""
    files = (path for folder in FORBIDDEN for path in sorted((root / folder).rglob("*.py")))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def import_graph(root):
    """The modules that each module's own lines import when they run, in functions too; not those for types alone.

    That a module loads the packages above it is no edge: an `__init__.py` that re-exports its modules is no circle.
    """
    modules = modules_below(root)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    return {name: set(imports_of(tree, name, is_package=False)) & set(modules) for name, tree in trees.items()}


@pytest.fixture(scope="module")
def graph():
    """The import graph of the project."""
    return import_graph(ROOT)


def circle_in(graph):
    """One circle of a graph, each module importing the next; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_module_imports_itself_in_a_circle(graph):
    assert "studies.sweep" in graph["studies.study"]  # which it imports inside a function
    assert not circle_in(graph)


def test_a_circle_through_a_function_is_found_and_one_of_types_alone_is_none(tmp_path):
    def write(**files):
        for name, text in files.items():
            path = tmp_path / "phy" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from phy.a import A\n"
    write(__init__="from phy.a import A\nfrom phy.b import B\n", a="import phy.b\n", b=types)
    assert not circle_in(import_graph(tmp_path))
    write(b="def f():\n    import phy.a\n")
    assert set(circle_in(import_graph(tmp_path))) == {"phy.a", "phy.b"}


def test_no_figure_imports_a_figure(graph):
    figures = {name for name in graph if name.startswith("studies.accuracy_vs_")}
    assert len(figures) >= 4
    assert not {name: graph[name] & figures for name in figures if graph[name] & figures}
    importers = {name for name in graph if name.startswith("studies") and graph[name] & figures}
    assert not importers, f"{importers} import a figure; figures are loaded by their name"


def test_a_part_of_a_curve_knows_neither_the_table_of_curves_nor_who_runs_or_shows_it(graph):
    above = {f"studies.{name}" for name in ("curves", "archive", "sweep", "plots", "tables", "cli", "study", "axes")}
    assert above <= set(graph)
    parts = {name: graph[name] & above for name in graph if name.startswith("studies.schemes")}
    assert len(parts) > 20
    assert not {name: found for name, found in parts.items() if found}


@pytest.mark.parametrize(
    ("statement", "present", "absent"),
    [
        ("from phy import AnalogLink", "tensorflow", PYTORCH),
        ("import phy", "phy", PYTORCH | TENSORFLOW),  # a configuration alone needs neither framework
        ("import semantic", "torch", TENSORFLOW),
        ("import studies.cli", "typer", {"tensorflow", "torch", "sionna", "transformers", "h5py"}),
        ("import studies.curves", "numpy", {"tensorflow", "torch", "sionna", "transformers", "h5py", "scipy"}),
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
