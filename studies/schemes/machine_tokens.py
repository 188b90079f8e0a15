"""The proposal: machine-language tokens, compressed by the JTCC, as analog amplitudes over the link."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from studies.questions import Batch
from studies.schemes.scheme import Scheme, weights_hash
from studies.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from bridge import TokenChannel
    from phy import Ledger
    from semantic import AgentLink


class MachineTokens(Scheme):
    """The sensor agent's tokens over the analog link, read as a prefix by the frozen task agent.

    Parameters
    ----------
    agents : AgentLink
        Sensor agent, JTCC and task agent; with or without compression is a matter of its weights.
    channel : TokenChannel
    prior_hash : str, optional
        Of the file that its recovery's prior comes from.
    """

    crosses_link: ClassVar[bool] = True

    def __init__(self, agents: "AgentLink", channel: "TokenChannel", prior_hash: str | None = None):
        self.agents, self.channel, self.prior_hash = agents, channel, prior_hash

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights, and that of the prior where there is one."""
        return {**self.encoded_by(), **({} if self.prior_hash is None else {"code_prior": self.prior_hash})}

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def encode(self, batch: Batch) -> np.ndarray:
        """Let the sensor agent look at each image with the vague description of its question in mind."""
        return self.agents.encode(batch.images, batch.texts).numpy(force=True)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own codes."""
        assert codes is not None
        return codes[batch.numbers]

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> "Tensor":
        """Send over the analog link."""
        import torch

        return self.channel(torch.as_tensor(sent), snr_db=snr_db, realisation=torch.as_tensor(realisation))

    def answer(self, batch: Batch, received: "Tensor | None") -> list[str]:
        """Decode the received codes into a prefix; the task agent reads it, then the detailed question."""
        assert received is not None
        return self.agents.answer_codes(received, batch.texts)

    def ledger(self) -> "Ledger":
        """Return the link's ledger for one question's codes."""
        return self.channel.link.ledger(num_tokens=self.agents.num_tokens, width=self.agents.width)


def build(workbench: Workbench) -> MachineTokens:
    """Build the scheme from a run's configuration."""
    models = workbench.config.models
    agents = workbench.agents(models.machine_tokens)
    if models.code_prior is None:
        return MachineTokens(agents, workbench.channel)
    path = Path(models.code_prior).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"models.code_prior: there is no file {path}; `tokenlink train prior` writes one")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return MachineTokens(agents, workbench.channel_with_prior(str(path)), digest)
