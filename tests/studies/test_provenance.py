"""Results live as long as they are true: a point's name follows the source code that its numbers depend on."""

import ast
import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import pytest

from studies import provenance, sweep
from studies.accuracy_vs_snr import STUDY
from studies.curves import CURVES
from tests.studies.fakes import FakeDataset

PARTS = Path(provenance.ROOT, "studies", "schemes")
# What only lays out, runs, keeps or shows points.
BESIDE = (
    *("archive", "axes", "cli", "compare", "config", "curves", "engines", "events", "plan", "plots", "run_folder"),
    *("study", "sweep", "chart", "panels", "layout", "drawing", "pgfplots"),
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the project's source."""
    root = tmp_path_factory.mktemp("copy")
    for name in provenance.PROJECT:
        ignore = shutil.ignore_patterns("__pycache__", "pretrained", "clevr-mini", "*.safetensors", "*.md", "*.png")
        shutil.copytree(provenance.ROOT / name, root / name, ignore=ignore)
    return root


@pytest.fixture
def tree(copied, monkeypatch):
    """The copy, on which points now depend; it is as it was at the start of every test."""
    monkeypatch.setattr(provenance, "ROOT", copied)
    monkeypatch.setattr(FakeDataset, "__module__", "semantic.data.clevr")  # points depend on the reader's module too
    provenance.source_hash.cache_clear()
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    yield copied
    for path in copied.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)
    provenance.source_hash.cache_clear()


def edit(path, addition="# a remark\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + addition)
    provenance.source_hash.cache_clear()


# --- the imports of a file -----------------------------------------------------------------------------------------


def imports_of(text, module="a.b.c", is_package=False):
    return set(provenance.imports_of(ast.parse(text), module, is_package=is_package))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import x", {"x"}),
        ("import x.y.z as w", {"x.y.z"}),
        ("import x, y.z", {"x", "y.z"}),
        ("from x import y, z as w", {"x", "x.y", "x.z"}),
        ("from . import d", {"a.b", "a.b.d"}),
        ("from .d import e", {"a.b.d", "a.b.d.e"}),
        ("from .. import d", {"a", "a.d"}),
        ("from ..d.e import f", {"a.d.e", "a.d.e.f"}),
        ("def f():\n    class C:\n        def g(self):\n            import x.y", {"x.y"}),
        ("try:\n    import x\nexcept ImportError:\n    import y", {"x", "y"}),
        ("if TYPE_CHECKING:\n    import x\nelse:\n    import y", {"y"}),
        ("import typing as t\nif t.TYPE_CHECKING:\n    from x import y", {"typing"}),
        ("def f():\n    if TYPE_CHECKING:\n        import x\n    import y", {"y"}),
    ],
)
def test_imports_are_those_that_can_run_with_relative_ones_resolved(text, expected):
    assert imports_of(text) == expected


def test_a_package_counts_what_it_shows_to_type_checkers_and_resolves_from_itself():
    text = "if TYPE_CHECKING:\n    from .d import e\nfrom . import f\nfrom .. import g"
    assert imports_of(text, "a.b", is_package=True) == {"a.b", "a.b.d", "a.b.d.e", "a.b.f", "a", "a.g"}


def test_the_closure_follows_packages_functions_and_names_that_are_no_modules(tmp_path, monkeypatch):
    files = {
        "phy/__init__.py": "if TYPE_CHECKING:\n    from phy.late import Late",
        "phy/late.py": "import phy.deep.inner",
        "phy/deep/__init__.py": "from .beside import thing",
        "phy/deep/beside.py": "import numpy, semantic.nothing",
        "phy/deep/inner.py": "",
        "phy/alone.py": "",
        "studies/part.py": "def f():\n    from phy import Late, NAME",
    }
    for name, text in files.items():
        edit(tmp_path / name, text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    closure = provenance.import_closure(["studies.part"])
    assert set(closure) == {"studies.part", "phy", "phy.late", "phy.deep", "phy.deep.beside", "phy.deep.inner"}
    assert closure["phy.deep"] == tmp_path / "phy/deep/__init__.py"


# --- the curves ----------------------------------------------------------------------------------------------------


def modules_of(folder):
    return {f"studies.schemes.{folder}.{path.stem}" for path in (PARTS / folder).glob("[!_]*.py")}


# Parts that are built from another part's module.
BUILDS_ON = {
    "adaptive": {"analog"},
    "arq": {"analog"},
    "arq_by_answer": {"analog", "arq"},
    "analog_images": {"analog", "image_codes"},
    "bounds": {"analog"},
}
ON_THE_DIGITAL_LINK = {"text", "coded_images", "quantized"}  # its budget is what the analog link takes


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_point_depends_on_its_curves_parts_and_on_no_others(curve):
    closure = set(provenance.import_closure((*curve.modules, *sweep.ROOTS, "semantic.data.clevr")))
    assert {*curve.modules, *sweep.ROOTS, "studies.schemes.scheme"} <= closure
    own = {module.rpartition(".")[2] for module in curve.modules}
    own |= {name for part in own for name in BUILDS_ON.get(part, ())} | (
        {"analog"} if own & ON_THE_DIGITAL_LINK else set()
    )
    used = {module.rpartition(".")[2] for module in closure & (modules_of("carriers") | modules_of("encoders"))}
    assert used == own - {module.rpartition(".")[2] for module in modules_of("readers")}
    readers = {module for module in closure & modules_of("readers") if not module.endswith("answering")}
    assert readers == {curve.reader.__module__}
    assert not closure & {f"studies.{name}" for name in BESIDE}
    assert not [name for name in closure if name.startswith(("studies.accuracy_vs", "studies.table", "studies.claims"))]
    assert {"semantic.agent_link", "semantic.jtcc", "semantic.task_agent", "semantic.data.clevr"} <= closure
    crosses = curve.carrier.__module__.rpartition(".")[2] not in ("lossless", "image_files")
    assert ({"bridge.token_channel", "phy.analog_link", "phy.recovery.linear", "phy.fading"} <= closure) == crosses
    assert ("phy.digital_link" in closure) == crosses  # phy offers both links in one list of names


def names(config, folder):
    """The names of the points of machine-tokens, and of its codes."""
    jobs = STUDY.plan(config.updated({"schemes": ["machine-tokens"]}), folder).jobs
    return {job.id for job in jobs if not job.kind.startswith("codes")}, {
        job.id for job in jobs if job.kind.startswith("codes")
    }


ROW = """
_ROWS += (Curve(name="telepathy", carrier=lossless.nothing, reader=prefix, about="", label=""),)
"""


@pytest.mark.parametrize(
    ("path", "addition"),
    [
        ("studies/schemes/carriers/coded_images.py", '"""Another docstring."""\n'),
        ("studies/schemes/encoders/captions.py", "MAX_NEW_TOKENS = 5\n"),
        ("studies/schemes/carriers/telepathy.py", "def telepathy(workbench, weights): ...\n"),
        ("studies/schemes/digital/mcs_losses.json", " "),
        ("studies/curves.py", ROW),
        ("studies/curves.py", 'BLUE = "#ffffff"\n'),
        ("studies/plots.py", 'STYLE = "another"\n'),
        ("studies/accuracy_vs_colour.py", "STUDY = None\n"),
        ("studies/sweep.py", "# a remark\n"),
        ("semantic/agent_training.py", "# a remark\n"),
    ],
)
def test_an_edit_that_a_point_does_not_depend_on_leaves_it_finished(fakes, config, tree, tmp_path, path, addition):
    before = names(config, tmp_path)
    edit(tree / path, addition)
    assert names(config, tmp_path) == before


@pytest.mark.parametrize(
    ("path", "codes_too"),
    [
        ("studies/schemes/carriers/analog.py", False),
        ("studies/schemes/readers/prefix.py", False),
        ("studies/schemes/readers/answering.py", False),
        ("bridge/token_channel.py", False),  # which the carrier imports inside a function
        ("phy/recovery/linear.py", False),
        ("studies/evaluation.py", True),
        ("studies/questions.py", True),
        ("studies/schemes/encoders/tokens.py", True),
        ("semantic/jtcc.py", True),  # which the workbench imports inside a function
    ],
)
def test_an_edit_that_a_point_depends_on_gives_it_another_name(fakes, config, tree, tmp_path, path, codes_too):
    points, codes = names(config, tmp_path)
    edit(tree / path)
    points_after, codes_after = names(config, tmp_path)
    assert not points & points_after
    assert bool(codes & codes_after) != codes_too


def test_a_table_beside_a_module_counts_as_its_source(tree):
    modules = CURVES["quantized-tokens"].modules
    before = provenance.source_hash(modules)
    assert provenance.source_hash(modules) == before
    edit(tree / "studies/schemes/digital/mcs_losses.json", " ")
    assert provenance.source_hash(modules) != before


# --- where it runs -------------------------------------------------------------------------------------------------


def git(tree, *arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(tree), *who, *arguments], check=True, capture_output=True)


def test_git_state_tells_clean_from_dirty_from_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    edit(tmp_path / "studies/provenance.py")
    assert provenance.git_state() == {"git_commit": "unknown", "git_dirty": 1}
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = provenance.git_state()
    assert len(str(clean["git_commit"])) == 40
    assert clean["git_dirty"] == 0
    edit(tmp_path / "phy/link.py")
    assert provenance.git_state() == {**clean, "git_dirty": 1}


def test_a_package_that_is_not_there_is_called_missing(monkeypatch):
    versions = provenance.package_versions()
    assert versions["numpy"] == importlib.metadata.version("numpy")
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.package_versions.__wrapped__() == {"no-such-package": "missing"}
