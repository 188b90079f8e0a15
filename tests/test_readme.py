"""The README: its snippets run as written and print what it says."""

import subprocess
import sys

import pytest

from tests.readme_blocks import ROOT, blocks


@pytest.mark.parametrize("heading", ["## Ask a question over the air", "## Send numbers over the link"])
def test_a_snippet_prints_what_the_readme_says_and_nothing_else(heading, tmp_path):
    (language, code), (_, expected) = blocks("README.md", heading)
    assert language == "python"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout, done.stderr) == (expected, "")


def test_the_entrance_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 120 <= len(text.splitlines()) <= 150
    for folder in ("phy", "semantic", "bridge", "studies"):
        assert f"{folder}/README.md" in text
        assert (ROOT / folder / "README.md").is_file()
    assert (ROOT / "studies/pictures/accuracy-vs-snr.png").is_file()
