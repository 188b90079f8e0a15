"""How often each modulation and coding scheme (MCS) loses a payload that fills a budget of resource elements.

It is what digital schemes adapt by: the transmitter knows these rates at the mean SNR, and nothing of the fade to come.
Those of the default link are kept beside this file, at the SNRs of the studies; any others are measured when they are
needed. `python -m studies.schemes.digital.mcs_losses` measures the kept ones anew.
"""

import functools
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from phy import DigitalLink, LinkConfig

Mcs = tuple[int, float]
KEPT = Path(__file__).with_suffix(".json")
FIRST_REALISATION = 3_000_000  # studies and trainings meet other fades
NUM_PAYLOADS = 200  # at each SNR, with each MCS
HOPELESS = 0.5  # loss rate from which on an MCS is not considered


def loss_rates(
    link_of: "Callable[[Mcs], DigitalLink]",
    table: Sequence[Mcs],
    capacity: Callable[[Mcs], int],
    snr_db: float,
    num_payloads: int = NUM_PAYLOADS,
) -> dict[Mcs, float]:
    """Measure the loss rates that count at an SNR.

    Parameters
    ----------
    link_of : the digital link of an MCS
    table : sequence of MCS
        The later, the faster, and the more is lost.
    capacity : bytes of the payload with which an MCS fills the budget
    snr_db : float, [dB]
    num_payloads : int

    Returns
    -------
    dict
        Of every MCS that loses some but not half, of the fastest that loses none, and of the first where all lose more.
    """
    numbers = np.arange(FIRST_REALISATION, FIRST_REALISATION + num_payloads)

    @functools.cache
    def lost(index: int) -> float:
        size = capacity(table[index])
        payloads = [np.random.default_rng(i).bytes(size) for i in range(num_payloads)]
        return link_of(table[index])(payloads, snr_db, numbers).count(None) / num_payloads

    found: dict[Mcs, float] = {}
    for index in reversed(range(bisect_left(range(len(table)), HOPELESS, key=lost))):
        found[table[index]] = lost(index)
        if not found[table[index]]:
            break
    return found or {table[0]: lost(0)}


def kept_loss_rates(config: "LinkConfig", data_res: int, snr_db: float) -> dict[Mcs, float] | None:
    """Return the loss rates that come along for a link, a budget and an SNR; None if there are none."""
    from phy import LinkConfig
    from phy.digital_link import MCS

    default = replace(config, seed=LinkConfig().seed) == LinkConfig()  # rates do not depend on the draw
    kept = _kept().get(str(data_res), {}).get(f"{snr_db:g}", {}) if default else {}
    return {MCS[int(index)]: rate for index, rate in kept.items()} or None


@functools.cache
def _kept() -> dict[str, dict[str, dict[str, float]]]:
    return json.loads(KEPT.read_text())


def main() -> None:
    """Measure the kept loss rates: of the default link, for the studies' budgets and SNRs."""
    from phy import LinkConfig
    from phy.digital_link import MCS
    from studies.accuracy_vs_snr import Config
    from studies.schemes.digital.payload_link import make_payload_link
    from studies.schemes.jpeg_ldpc import DATA_RES

    kept: dict[str, dict[str, dict[str, float]]] = {}
    for data_res in (80, DATA_RES):  # of the shipped machine tokens, and of images
        link = make_payload_link(LinkConfig(), data_res)
        for at in Config().snr_db:
            found = link.measure(at)
            kept.setdefault(str(data_res), {})[f"{at:g}"] = {str(MCS.index(mcs)): found[mcs] for mcs in found}
            print(data_res, at, found, flush=True)
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
