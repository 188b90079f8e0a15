"""The physical layer: TensorFlow and Sionna, no PyTorch."""

from phy.analog_link import AnalogLink, LinkOutput
from phy.config import LinkConfig
from phy.ledger import Ledger

__all__ = ["AnalogLink", "Ledger", "LinkConfig", "LinkOutput"]
