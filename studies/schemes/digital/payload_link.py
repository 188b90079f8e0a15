"""The digital links of a run: budgets of resource elements, and the loss rates that come along for the default link.

The transmitter adapts by loss rates at the mean SNR (`phy/link_adaptation.py`). Those of the default link are kept
beside this file, at the SNRs of the studies; any others are measured when they are needed. `tokenlink train losses`
measures the kept ones anew, as it has to where the default receiver changes.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.schemes.carriers.analog import make_channel

if TYPE_CHECKING:
    from phy import LinkConfig
    from phy.link_adaptation import PayloadLink
    from studies.workbench import Workbench

IMAGE_RES = 1536  # budget of an image: two slots of twelve data symbols of 64 subcarriers
KEPT = Path(__file__).with_name("mcs_losses.json")  # loss rates by budget, SNR and bytes
KEPT_RES = (80, IMAGE_RES)  # of the shipped machine tokens, and of images
KEPT_SNR_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


def payload_link(
    workbench: "Workbench", data_res: int | None = None, *, max_transmissions: int = 1, cqi: bool = False
) -> "PayloadLink":
    """Return the digital link of a run's configuration; its budget is by default that of machine tokens.

    `max_transmissions` and `cqi` are those of `PayloadLink`.
    """
    config = workbench.config.link
    if data_res is None:
        agents = workbench.agents("machine_tokens")
        data_res = make_channel(config).link.ledger(num_tokens=agents.num_tokens, width=agents.width).data_res
    return make_payload_link(config, data_res, max_transmissions, cqi)


@functools.lru_cache(maxsize=32)
def make_payload_link(
    config: "LinkConfig", data_res: int, max_transmissions: int = 1, cqi: bool = False
) -> "PayloadLink":
    """Put a budget in front of the digital links of a configuration, which share their fades."""
    import bridge  # noqa: F401 -- before phy: it fixes the order in which the two frameworks are loaded

    # isort: split
    from phy.link_adaptation import PayloadLink, digital_link

    return PayloadLink(
        lambda bits_per_symbol: digital_link(config, bits_per_symbol, data_res),
        data_res,
        lambda snr_db: kept_loss_rates(config, data_res, snr_db) if max_transmissions == 1 else None,
        max_transmissions=max_transmissions,
        cqi=cqi,
    )


def kept_loss_rates(config: "LinkConfig", data_res: int, snr_db: float) -> dict[int, float] | None:
    """Return the loss rates by bytes, of one transmission, that come along for a link, a budget and an SNR, if any."""
    from phy import LinkConfig

    default = replace(config, seed=LinkConfig().seed) == LinkConfig()  # rates do not depend on the draw
    kept = _kept().get(str(data_res), {}).get(f"{snr_db:g}", {}) if default else {}
    return {int(num_bytes): rate for num_bytes, rate in kept.items()} or None


def measure_losses(
    budgets: Sequence[int], num_payloads: int, path: Path = KEPT, report: Callable[[str], object] = print
) -> Path:
    """Measure the loss rates of the default link for some budgets at the kept SNRs, and write them after each."""
    import bridge  # noqa: F401 -- before phy: it starts TensorFlow, quietly

    # isort: split
    from phy import LinkConfig
    from semantic.model_files import write_atomically

    kept = read_losses(path) if path.exists() else {}
    for data_res in budgets:
        link, measured = make_payload_link(LinkConfig(), data_res), {}
        for at in KEPT_SNR_DB:
            measured[f"{at:g}"] = link.measure(at, num_payloads)
            kept[str(data_res)] = kept.get(str(data_res), {}) | measured
            report(f"{data_res} resource elements, {at:g} dB: {measured[f'{at:g}']}")
            write_atomically(path, (json.dumps(kept, indent=1) + "\n").encode())
    return path


def read_losses(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Read loss rates by budget in resource elements, mean SNR [dB] and bytes.

    Raises
    ------
    ValueError
        If the file holds no such rates.
    """
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _no_losses(path, f"cannot be read: {error}") from error
    for data_res, by_snr in _table(path, kept, "", "resource elements", _is_count):
        for snr_db, rates in _table(path, by_snr, f"[{data_res}]", "an SNR in dB", _is_snr_db):
            for num_bytes, rate in _table(path, rates, f"[{data_res}][{snr_db}]", "bytes", _is_count):
                if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
                    problem = (
                        f"holds {rate!r:.60} at [{data_res}][{snr_db}][{num_bytes}]; a loss rate lies between 0 and 1"
                    )
                    raise _no_losses(path, problem)
    return kept


def _table(path: Path, table: object, name: str, meaning: str, is_key: Callable[[str], bool]) -> list[tuple[str, Any]]:
    """Return the rows of a table whose keys are as they are meant."""
    if not isinstance(table, dict) or not table:
        raise _no_losses(path, f"holds {type(table).__name__} at {name or 'its top'}; it needs rows by {meaning}")
    if wrong := [key for key in table if not is_key(key)]:
        raise _no_losses(path, f"has the key {wrong[0]!r:.60} at {name or 'its top'}, which is not {meaning}")
    return list(table.items())


def _is_count(key: str) -> bool:
    return key.isascii() and key.isdigit() and str(int(key)) == key != "0"


def _is_snr_db(key: str) -> bool:
    try:
        return math.isfinite(float(key)) and f"{float(key):g}" == key
    except ValueError:
        return False


def _no_losses(path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} {problem}. Delete it, and `tokenlink train losses` measures it anew")


@functools.cache
def _kept() -> dict[str, dict[str, dict[str, float]]]:
    return read_losses(KEPT)
