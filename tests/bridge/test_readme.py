"""The README's example of a model of one's own, as it stands there."""

import re
from pathlib import Path

import pytest

from bridge import TokenChannel  # first: TensorFlow before PyTorch

# isort: split
import torch

README = Path(__file__).resolve().parents[2] / "README.md"


def example():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if "TokenChannel" in block)
    return found


def test_the_example_is_short():
    assert len([line for line in example().splitlines() if line.strip()]) <= 30


@pytest.mark.slow
def test_the_autoencoder_of_the_readme_learns_to_use_the_channel(capsys):
    names = {}
    exec(compile(example(), str(README), "exec"), names)
    assert isinstance(names["channel"], TokenChannel)
    psnr = [float(words) for words in re.findall(r"PSNR (\S+) dB", capsys.readouterr().out)]
    error = (names["test"] - names["train"].mean(0)).square().mean()
    blind = -10 * torch.log10(error).item()  # the same mean block for all
    assert len(psnr) == 3
    assert psnr[0] > blind
    assert psnr[2] > max(psnr[0], blind + 3)
