"""The digital links of a run: budgets of resource elements, and the loss rates that come along for the default link.

The transmitter adapts by loss rates at the mean SNR (`phy/link_adaptation.py`). Those of the default link are kept
beside this file, at the SNRs of the studies; any others are measured when they are needed. `tokenlink train losses`
measures the kept ones anew.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from studies.schemes.carriers.analog import make_channel

if TYPE_CHECKING:
    from phy import LinkConfig
    from phy.link_adaptation import Mcs, PayloadLink
    from studies.workbench import Workbench

IMAGE_RES = 1536  # budget of an image: two slots of twelve data symbols of 64 subcarriers
KEPT = Path(__file__).with_name("mcs_losses.json")
KEPT_RES = (80, IMAGE_RES)  # of the shipped machine tokens, and of images
KEPT_SNR_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


def payload_link(workbench: "Workbench", data_res: int | None = None) -> "PayloadLink":
    """Return the digital link of a run's configuration; its budget is by default that of machine tokens."""
    config = workbench.config.link
    if data_res is None:
        agents = workbench.agents("machine_tokens")
        data_res = make_channel(config).link.ledger(num_tokens=agents.num_tokens, width=agents.width).data_res
    return make_payload_link(config, data_res)


@functools.lru_cache(maxsize=32)
def make_payload_link(config: "LinkConfig", data_res: int) -> "PayloadLink":
    """Put a budget in front of the digital links of a configuration, which share their fades."""
    import bridge  # noqa: F401 -- before phy: it fixes the order in which the two frameworks are loaded

    # isort: split
    from phy.link_adaptation import PayloadLink, digital_link

    known = functools.partial(kept_loss_rates, config, data_res)
    return PayloadLink(functools.partial(digital_link, config), data_res, known)


def kept_loss_rates(config: "LinkConfig", data_res: int, snr_db: float) -> "dict[Mcs, float] | None":
    """Return the loss rates that come along for a link, a budget and an SNR; None if there are none."""
    from phy import LinkConfig
    from phy.digital_link import MCS

    default = replace(config, seed=LinkConfig().seed) == LinkConfig()  # rates do not depend on the draw
    kept = _kept().get(str(data_res), {}).get(f"{snr_db:g}", {}) if default else {}
    return {MCS[int(index)]: rate for index, rate in kept.items()} or None


def measure_losses(path: Path = KEPT, report: Callable[[str], object] = print) -> Path:
    """Measure the loss rates of the default link for the kept budgets and SNRs, and write them after each of them."""
    import bridge  # noqa: F401 -- before phy: it starts TensorFlow, quietly

    # isort: split
    from phy import LinkConfig
    from phy.digital_link import MCS

    kept: dict[str, dict[str, dict[str, float]]] = {}
    for data_res in KEPT_RES:
        link = make_payload_link(LinkConfig(), data_res)
        for at in KEPT_SNR_DB:
            rates = link.measure(at)
            kept.setdefault(str(data_res), {})[f"{at:g}"] = {str(MCS.index(mcs)): rates[mcs] for mcs in rates}
            report(f"{data_res} resource elements, {at:g} dB: {rates}")
            path.write_text(json.dumps(kept, indent=1) + "\n")
    return path


@functools.cache
def _kept() -> dict[str, dict[str, dict[str, float]]]:
    return json.loads(KEPT.read_text())
