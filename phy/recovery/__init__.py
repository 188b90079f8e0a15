"""Recovery of the codes from what the antennas received."""

from phy.recovery.linear import LinearRecovery
from phy.recovery.prior import CodePrior, PriorRecovery
from phy.recovery.sparse import SparseRecovery

__all__ = ["CodePrior", "LinearRecovery", "PriorRecovery", "SparseRecovery"]
