import os
import subprocess
import sys

import numpy as np
import pytest

from phy import AnalogLink, DigitalLink, LinkConfig
from phy.startup import held_back_output
from tests.phy.links import make_codes

QUIET = """
import sys
import phy
from phy import AnalogLink
assert "tensorflow" in sys.modules
assert "torch" not in sys.modules
"""
FAILS = """
import os
from phy.startup import held_back_output
try:
    with held_back_output():
        os.write(1, b"first, to stdout; ")
        print("then from Python")
        raise ValueError
except ValueError:
    print("caught")
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_phy_prints_nothing_and_leaves_torch_unloaded():
    done = run(QUIET)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_held_back_is_shown_if_the_block_fails():
    done = run(FAILS)
    assert done.stdout == "caught\n"
    assert done.stderr == "first, to stdout; then from Python\n"


def test_output_is_held_back_below_python_and_comes_back(capfd):
    with held_back_output():
        os.write(1, b"from a library")
        os.write(2, b"from a library")
    os.write(2, b"afterwards")
    assert capfd.readouterr() == ("", "afterwards")


@pytest.mark.parametrize("kind", ["analog", "large", "digital"])
def test_many_links_in_one_process_trigger_no_warning_of_tensorflow(kind, caplog):
    caplog.set_level("WARNING", logger="tensorflow")
    for seed in range(6):
        config = LinkConfig(channel="rayleigh", num_tx_ant=1, num_rx_ant=1, seed=seed)
        if kind == "digital":
            DigitalLink(config)([b"some bytes"], 20.0, [0])
            continue
        link, width = AnalogLink(config), 512 if kind == "large" else 8
        codes = make_codes(2, 1, width)
        link(codes, 10.0, np.arange(2))
        if seed == 0:
            _, pull_back = link.vjp(codes, 10.0, np.arange(2))
            pull_back(codes)
    assert not [record.getMessage() for record in caplog.records]
