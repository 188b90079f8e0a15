"""Recovery of the codes from what the antennas received."""

from phy.recovery.linear import LinearRecovery

__all__ = ["LinearRecovery"]
