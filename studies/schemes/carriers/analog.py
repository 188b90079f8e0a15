"""Codes as amplitudes over the analog link, one real number on each antenna and subcarrier."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from bridge import TokenChannel
    from phy import CodePrior, LinkConfig
    from semantic.code_moments import CodeMoments
    from semantic.data.dataset import Question
    from studies.questions import Batch
    from studies.workbench import Workbench

CONTROL_SEED = 38_213  # of what controls draw


class Codes:
    """Each question's codes over the analog link.

    Parameters
    ----------
    channel : TokenChannel
    num_tokens, width : int
        Shape of a question's codes.
    prior_hash : str, optional
        Hash of what the recovery's prior comes from.
    moments : CodeMoments, optional
        Moments that the pair's decoder knows, if recovery has a prior: it then returns the posterior of the codes, and
        the decoder is to know no more than that.
    stand_in : callable, optional
        Codes that are sent in place of one's own: ``stand_in(codes, numbers)`` for the codes of all questions and the
        numbers of some.
    """

    crosses_link = True

    def __init__(
        self,
        channel: "TokenChannel",
        num_tokens: int,
        width: int,
        *,
        prior_hash: str | None = None,
        moments: "CodeMoments | None" = None,
        stand_in: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ):
        self.channel, self.num_tokens, self.width = channel, num_tokens, width
        self.prior_hash, self.moments, self.stand_in = prior_hash, moments, stand_in

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the prior, where there is one."""
        return {} if self.prior_hash is None else {"code_prior": self.prior_hash}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Send over the analog link."""
        assert codes is not None
        sent = codes[batch.numbers] if self.stand_in is None else self.stand_in(codes, batch.numbers)
        codes_hat, error_var = send(self.channel, sent, snr_db, batch.numbers)
        items, item_var = codes_hat, error_var
        if self.moments is not None:
            items, item_var = observation(self.moments, codes_hat, error_var)
        return Delivery(
            items=items,
            item_var=item_var,
            codes=sent,
            codes_hat=codes_hat,
            error_var=error_var,
            peaks=self.channel.link.peak_power(sent),
        )

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of one question's codes."""
        return ledger_scalars(self.channel.link.ledger(num_tokens=self.num_tokens, width=self.width))


def send(
    channel: "TokenChannel", codes: np.ndarray, snr_db: float, realisation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Send codes, [batch, num_tokens, width]; return what is received and the error variance that the link declares."""
    import torch

    codes_hat, error_var = channel(torch.as_tensor(codes), snr_db=snr_db, realisation=torch.as_tensor(realisation))
    return codes_hat.numpy(force=True), error_var.numpy(force=True)


def observation(moments: "CodeMoments", codes_hat: np.ndarray, error_var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn posteriors of codes into what the pair's decoder reads them from; see `CodeMoments.observation`."""
    import torch

    flat = (torch.as_tensor(part).flatten(1) for part in (codes_hat, error_var))
    observed, variance = (part.view(codes_hat.shape).numpy(force=True) for part in moments.observation(*flat))
    return observed, variance


@functools.lru_cache(maxsize=32)
def make_channel(link: "LinkConfig", prior: "CodePrior | None" = None) -> "TokenChannel":
    """Build a link, with a prior of the codes where there is one, and put it behind the bridge."""
    from bridge import TokenChannel  # before phy: it fixes the order in which the two frameworks are loaded
    from phy import AnalogLink

    return TokenChannel(AnalogLink(link, prior=prior))


def other_image(questions: Sequence["Question"]) -> np.ndarray:
    """Give each question a partner of its own family on another image, whose tokens tell of the same kind of thing.

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
                    f"half of the {len(members)} questions of family {family!r} are about one image, and some have no "
                    "partner. Raise num_questions, or take more images."
                )
    return partner


def codes(workbench: "Workbench", weights: str) -> Codes:
    """Build the carrier of a pair's codes from a run's configuration; recovery knows nothing of them."""
    agents = workbench.agents(weights)
    return Codes(make_channel(workbench.config.link), agents.num_tokens, agents.width)


def codes_with_prior(workbench: "Workbench", weights: str) -> Codes:
    """Build the carrier of the proposal's codes: recovery knows `models.code_prior`, where that is given.

    The default recovery, `lmmse-unbiased`, then is `lmmse`: what a prior tells is the posterior of the codes.
    """
    name = workbench.config.models.code_prior
    if name is None:
        return codes(workbench, weights)
    from phy import CodePrior

    agents, link = workbench.agents(weights), workbench.config.link
    if link.recovery == "lmmse-unbiased":
        link = dataclasses.replace(link, recovery="lmmse")
    moments, path = agents.code.sent_moments, Path(name).expanduser()
    if moments is None:
        raise ValueError(
            f"models.code_prior: {weights} was trained before decoders knew the moments of codes; take a pair that "
            "`tokenlink train agents` made with a later version"
        )
    if name == "own":
        mean = moments.mean.view(agents.num_tokens, agents.width)
        prior, digest = CodePrior.gaussian(mean.numpy(), moments.dense().numpy()), "own"
    elif path.is_file():
        prior, digest = CodePrior.load(path), hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        raise FileNotFoundError(
            f"models.code_prior: there is no file {path}; `tokenlink train prior` writes one, and 'own' needs none"
        )
    return Codes(make_channel(link, prior), agents.num_tokens, agents.width, prior_hash=digest, moments=moments)


def partners_codes(workbench: "Workbench", weights: str) -> Codes:
    """Build the carrier of the control "wrong image": codes that another question asked for, over one's own fade."""
    partner = other_image(workbench.questions)
    return _in_place(codes_with_prior(workbench, weights), lambda codes, numbers: codes[partner[numbers]])


def gaussian_codes(workbench: "Workbench", weights: str) -> Codes:
    """Build the carrier of the control "gaussian codes": draws with the mean and covariance of all codes."""

    def draw(codes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        flat = codes.reshape(len(codes), -1)
        mean = flat.mean(0, dtype=np.float64)
        mixed = [np.random.default_rng((CONTROL_SEED, int(number))).standard_normal(len(flat)) for number in numbers]
        drawn = mean + np.stack(mixed) @ (flat - mean) / np.sqrt(len(flat))
        return drawn.astype(codes.dtype).reshape(len(numbers), *codes.shape[1:])

    return _in_place(codes_with_prior(workbench, weights), draw)


def rotated_codes(workbench: "Workbench", weights: str) -> Codes:
    """Build the carrier of the control "rotated codes": one's own, all turned alike about their mean, at random."""

    def turn(codes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        flat = codes.reshape(len(codes), -1)
        mean, size = flat.mean(0, dtype=np.float64), flat.shape[1]
        rotation, _ = np.linalg.qr(np.random.default_rng(CONTROL_SEED).standard_normal((size, size)))
        turned = mean + (flat[numbers] - mean) @ rotation
        return turned.astype(codes.dtype).reshape(len(numbers), *codes.shape[1:])

    return _in_place(codes_with_prior(workbench, weights), turn)


def _in_place(own: Codes, stand_in: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Codes:
    """Return the carrier of other codes over the same link."""
    facts = {"prior_hash": own.prior_hash, "moments": own.moments}
    return Codes(own.channel, own.num_tokens, own.width, **facts, stand_in=stand_in)
