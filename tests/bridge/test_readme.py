"""bridge/README.md: the model of one's own learns, and the other snippets print what it says."""

import re
from pathlib import Path

import pytest

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import torch

from phy import AnalogLink, LinkConfig

README = Path(__file__).resolve().parents[2] / "bridge" / "README.md"
PYTHON = re.compile(r"^```python\n(.*?)```$", re.MULTILINE | re.DOTALL)
PRINTING = re.compile(r"^```python\n((?:(?!```).)*?)```\n\n```text\n(.*?)```$", re.MULTILINE | re.DOTALL)


def example():
    (block,) = (block for block in PYTHON.findall(README.read_text(encoding="utf-8")) if "nn.Sequential" in block)
    return block


def test_the_example_is_short():
    assert len([line for line in example().splitlines() if line.strip()]) <= 30


@pytest.mark.slow
def test_the_autoencoder_of_the_readme_learns_to_use_the_channel(capsys):
    names = {}
    torch.manual_seed(0)
    exec(compile(example(), str(README), "exec"), names)
    assert isinstance(names["channel"], TokenChannel)
    psnr = [float(words) for words in re.findall(r"PSNR (\S+) dB", capsys.readouterr().out)]
    error = (names["test"] - names["train"].mean(0)).square().mean()
    blind = -10 * torch.log10(error).item()  # the same mean block for all
    assert len(psnr) == 3
    assert psnr[0] > blind
    assert psnr[2] > max(psnr[0], blind + 3)
    low, high = map(
        float, re.search(r"from about (\S+) dB to about (\S+) dB", README.read_text(encoding="utf-8")).groups()
    )
    assert psnr[0] == pytest.approx(low, abs=1)
    assert psnr[2] == pytest.approx(high, abs=1)


def test_the_other_snippets_print_what_the_readme_says(capsys):
    names = {"TokenChannel": TokenChannel, "AnalogLink": AnalogLink, "LinkConfig": LinkConfig}
    pairs = PRINTING.findall(README.read_text(encoding="utf-8"))
    assert len(pairs) == 2
    for code, expected in pairs:
        exec(compile(code, str(README), "exec"), names)
        assert capsys.readouterr().out == expected
