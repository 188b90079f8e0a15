"""Control: the tokens of another image, over the same link and fade. It must fall to the blind line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from studies.questions import Batch, Question
from studies.schemes import machine_tokens
from studies.schemes.scheme import Scheme
from studies.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from phy import Ledger


class WrongImage(Scheme):
    """Machine tokens that somebody else's question asked for.

    Parameters
    ----------
    proposal : Scheme
        Everything but whose codes are sent is this scheme's.
    questions : of the study, in its order
    """

    crosses_link: ClassVar[bool] = True

    def __init__(self, proposal: Scheme, questions: Sequence[Question]):
        self.proposal = proposal
        self.partner = other_image(questions)

    def determined_by(self) -> dict[str, Any]:
        """Return what the proposal depends on."""
        return self.proposal.determined_by()

    def encoded_by(self) -> dict[str, Any] | None:
        """Return what the proposal's codes depend on: they are the same files."""
        return self.proposal.encoded_by()

    def encode(self, batch: Batch) -> np.ndarray:
        """Encode as the proposal does."""
        return self.proposal.encode(batch)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send the codes of the question's partner."""
        assert codes is not None
        return codes[self.partner[batch.numbers]]

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> "Tensor | None":
        """Deliver as the proposal does, over the question's own fade."""
        return self.proposal.deliver(sent, snr_db, realisation)

    def answer(self, batch: Batch, received: "Tensor | None") -> list[str]:
        """Answer as the proposal does."""
        return self.proposal.answer(batch, received)

    def ledger(self) -> "Ledger | None":
        """Return the proposal's ledger."""
        return self.proposal.ledger()


def other_image(questions: Sequence[Question]) -> np.ndarray:
    """Give each question a partner on another image, of its own family: its tokens tell of the same kind of thing.

    Within a family, sorted by image, the partner stands half the family further on.

    Parameters
    ----------
    questions : sequence

    Returns
    -------
    numpy.ndarray, [num_questions], int64

    Raises
    ------
    ValueError
        If half of a family's questions or more are about one image.
    """
    partner = np.empty(len(questions), dtype=np.int64)
    for family in {question.family for question in questions}:
        members = np.array([i for i, question in enumerate(questions) if question.family == family])
        images = np.array([questions[i].image_index for i in members])
        members = members[np.argsort(images, kind="stable")]
        partner[members] = np.roll(members, -(len(members) // 2))
        for i in map(int, members):
            if questions[i].image_index == questions[int(partner[i])].image_index:
                raise ValueError(
                    f"half of the {len(members)} questions of family {family!r} are about one image, so that some have "
                    "no partner. Raise num_questions, or take more images."
                )
    return partner


def build(workbench: Workbench) -> WrongImage:
    """Build the scheme from a run's configuration."""
    questions = [workbench.dataset.questions[index] for index in workbench.chosen]
    return WrongImage(machine_tokens.build(workbench), questions)
