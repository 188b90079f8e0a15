"""The physical layer: TensorFlow and Sionna, no PyTorch.

Names other than `LinkConfig` load TensorFlow when they are first asked for: a configuration is checked in milliseconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from phy.config import LinkConfig

if TYPE_CHECKING:
    from phy.analog_link import AnalogLink, LinkOutput
    from phy.digital_link import DigitalLink
    from phy.impairments import ccdf, evm, papr_db
    from phy.ledger import Ledger
    from phy.link_adaptation import PayloadLink
    from phy.recovery import CodePrior

__all__ = [
    "AnalogLink",
    "CodePrior",
    "DigitalLink",
    "Ledger",
    "LinkConfig",
    "LinkOutput",
    "PayloadLink",
    "ccdf",
    "evm",
    "papr_db",
]
_MODULES = {
    **dict.fromkeys(("AnalogLink", "LinkOutput"), "phy.analog_link"),
    **dict.fromkeys(("ccdf", "evm", "papr_db"), "phy.impairments"),
    **{"DigitalLink": "phy.digital_link", "Ledger": "phy.ledger"},
    **{"CodePrior": "phy.recovery", "PayloadLink": "phy.link_adaptation"},
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'phy' has no attribute {name!r}")
    importlib.import_module("phy.startup")  # before everything that uses TensorFlow
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
