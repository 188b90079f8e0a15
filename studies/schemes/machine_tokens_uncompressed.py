"""Benchmark 4: the same tokens without the JTCC, every hidden dimension on the air."""

from studies.schemes.machine_tokens import MachineTokens
from studies.workbench import Workbench


def build(workbench: Workbench) -> MachineTokens:
    """Build the scheme from a run's configuration."""
    return MachineTokens(workbench.agents(workbench.config.models.machine_tokens_uncompressed), workbench.channel)
