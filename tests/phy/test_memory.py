import subprocess
import sys

import pytest

SWEEP = """
import gc
import os
import numpy as np
from phy import AnalogLink, LinkConfig

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

link = AnalogLink(LinkConfig(num_tx_ant=2, num_rx_ant=4, fft_size=64), cache_bytes=16 * 2**20)
codes = np.random.default_rng(0).standard_normal((100, 5, 64)).astype(np.float32)
for start in range(0, 20_000, 100):
    link(codes, 10.0, np.arange(start, start + 100))
    if start + 100 in (1_000, 20_000):
        print(resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_from_realisation_1000_to_20000():
    done = subprocess.run([sys.executable, "-c", SWEEP], capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    print(f"{early / 2**20:.0f} MiB, then {late / 2**20:.0f} MiB")
    assert late < 1.05 * early
