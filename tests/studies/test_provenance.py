import importlib.metadata
import subprocess

import pytest

from studies import provenance


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small project in a git repository of its own."""
    for name in ("phy/link.py", "semantic/data/reader.py", "bridge/b.py", "studies/provenance.py", "studies/plots.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    provenance.source_hash.cache_clear()
    yield tmp_path
    provenance.source_hash.cache_clear()


def fresh_hash():
    provenance.source_hash.cache_clear()
    return provenance.source_hash()


@pytest.mark.parametrize("name", ["phy/link.py", "semantic/data/reader.py", "bridge/b.py"])
def test_an_edit_that_can_change_numbers_changes_the_hash(tree, name):
    before = fresh_hash()
    assert fresh_hash() == before
    (tree / name).write_text("# other\n")
    assert fresh_hash() != before


def test_a_new_file_changes_the_hash_and_a_figure_does_not(tree):
    before = fresh_hash()
    (tree / "studies/plots.py").write_text("# other colours\n")
    assert fresh_hash() == before
    (tree / "phy/new.py").write_text("")
    assert fresh_hash() != before


def git(tree, *arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(tree), *who, *arguments], check=True, capture_output=True)


def test_git_state_tells_clean_from_dirty_from_none(tree):
    assert provenance.git_state() == {"git_commit": "unknown", "git_dirty": 1}
    git(tree, "init")
    git(tree, "add", ".")
    git(tree, "commit", "-m", "first")
    clean = provenance.git_state()
    assert len(str(clean["git_commit"])) == 40
    assert clean["git_dirty"] == 0
    (tree / "phy/link.py").write_text("# other\n")
    assert provenance.git_state() == {**clean, "git_dirty": 1}


def test_a_package_that_is_not_there_is_called_missing(monkeypatch):
    versions = provenance.package_versions()
    assert versions["numpy"] == importlib.metadata.version("numpy")
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.package_versions.__wrapped__() == {"no-such-package": "missing"}
