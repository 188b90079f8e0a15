"""phy/README.md: its snippets print what it says, and its recipes work as written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "phy" / "README.md"
EDIT = re.compile(
    r"^In `(?P<file>\S+)`, (?P<where>after|before|instead of) the line `(?P<line>[^\n]*)`, (?:add|write):\n\n"
    r"```\n(?P<code>.*?)```$"
    r"|^Write the new file `(?P<new>\S+)`:\n\n```python\n(?P<content>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
SNIPPET = re.compile(r"^```python\n((?:(?!```).)*?)```\n\n```text\n(.*?)```$", re.MULTILINE | re.DOTALL)


def sections():
    """Text of the README by heading."""
    return dict(
        re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )


def printed_by(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def guide():
    """Snippets of the guide, which build on each other, and what they print."""
    return [pair for heading, text in sections().items() if "Recipe" not in heading for pair in SNIPPET.findall(text)]


def carry_out(heading, folder):
    """Apply a recipe to a copy of phy; return the snippet that shows its result, and what it prints."""
    shutil.copytree(ROOT / "phy", folder / "phy", ignore=shutil.ignore_patterns("__pycache__"))
    text = sections()[heading]
    for edit in EDIT.finditer(text):
        if edit["new"]:
            assert not (folder / edit["new"]).exists()
            (folder / edit["new"]).write_text(edit["content"], encoding="utf-8")
            continue
        path = folder / edit["file"]
        lines = path.read_text(encoding="utf-8").split("\n")
        assert lines.count(edit["line"]) == 1, f"{edit['file']} does not hold the line {edit['line']!r} once"
        index, new = lines.index(edit["line"]), edit["code"].removesuffix("\n").split("\n")
        start, stop = {"after": (index + 1, index + 1), "before": (index, index), "instead of": (index, index + 1)}[
            edit["where"]
        ]
        path.write_text("\n".join([*lines[:start], *new, *lines[stop:]]), encoding="utf-8")
    (snippet,) = SNIPPET.findall(text)
    return snippet


def test_the_snippets_of_the_guide_print_what_it_says():
    pairs = guide()
    assert len(pairs) == 5
    between = "\nprint('-----')\n"
    printed = printed_by(between.join(code for code, _ in pairs), ROOT)
    assert printed.split("-----\n") == [expected for _, expected in pairs]


@pytest.mark.parametrize("heading", ["Recipe: adding an impairment", "Recipe: adding a recovery"])
def test_a_recipe_works_as_written(heading, tmp_path):
    code, expected = carry_out(heading, tmp_path)
    assert printed_by(code, tmp_path) == expected
    files = [str(path) for path in sorted((tmp_path / "phy").rglob("*.py"))]
    style = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check"], ["format", "--check"]):  # what a recipe leaves behind is in the project's style
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *style, *files], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_every_file_of_the_folder_is_in_the_guide():
    text = README.read_text(encoding="utf-8")
    named = {name for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(.+?)`", cell)}
    files = {path.name for path in (ROOT / "phy").glob("*.py")} - {"__init__.py"}
    assert files <= named
