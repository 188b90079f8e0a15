"""The physical layer: TensorFlow and Sionna, no PyTorch."""

from phy.analog_link import AnalogLink, LinkOutput
from phy.config import LinkConfig
from phy.digital_link import DigitalLink
from phy.envelope_link import EnvelopeLink, McsThresholds
from phy.impairments import ccdf, evm, papr_db
from phy.ledger import Ledger
from phy.recovery import CodePrior

__all__ = [
    "AnalogLink",
    "CodePrior",
    "DigitalLink",
    "EnvelopeLink",
    "Ledger",
    "LinkConfig",
    "LinkOutput",
    "McsThresholds",
    "ccdf",
    "evm",
    "papr_db",
]
