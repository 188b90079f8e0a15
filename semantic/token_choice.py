"""The number of tokens to send: chosen by SNR and task from a table that was measured on questions of its own.

The table belongs to agents with a nested code and lies next to their weights. Both ends of the link know the table, the
mean SNR and the vague description. The number therefore needs no side information.
"""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from semantic.agent_link import AgentLink, Channel, shipped_folder
from semantic.agent_settings import SETTINGS
from semantic.data.dataset import Dataset
from semantic.model_files import (
    ModelFileError,
    add_hash,
    check_hash,
    check_settings,
    read_settings,
    write_atomically,
)
from semantic.tasks import normalize_answer

FILE = "num_tokens.json"
ANY = "any"  # fallback row, for kinds that are unknown or have too few questions
MIN_QUESTIONS = 200  # of a kind with a row of its own; with fewer, luck decides which accuracy is best
_DIGITS = 9  # decimals; smaller differences are rounding errors
_ATTRIBUTE = re.compile(r"\b(?:color|shape|size|material)\b")
_KIND = re.compile(r"this is a question about (.*) \.")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TokenChoice:
    """Accuracy by kind of task, SNR and number of tokens, and the choice that follows from it.

    Attributes
    ----------
    snr_db : list of float
        Rows of the table [dB], rising.
    accuracy : dict
        Accuracies of each kind, [num_snr][num_tokens - 1].
    num_questions : dict
        Number of questions that each kind's accuracies were measured on.
    price : float
        Accuracy that another token has to add, or it is not sent.
    model_hash : str
        Hash of the agents that were measured.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # what files are checked by

    snr_db: Annotated[list[Finite], Field(min_length=1)]
    accuracy: dict[str, Annotated[list[list[Share]], Field(min_length=1)]]
    num_questions: dict[str, Annotated[int, Field(ge=0)]]
    price: Annotated[Finite, Field(ge=0)]
    model_hash: str

    def num_tokens(self, snr_db: float, description: str, *, budget: float | None = None) -> int:
        """Return the number of tokens for a vague description: see `numbers`."""
        numbers = self.numbers(snr_db, budget=budget)
        return numbers.get(kind_of(description), numbers[ANY])

    def numbers(self, snr_db: float, *, budget: float | None = None) -> dict[str, int]:
        r"""Return the number of tokens for every kind of task with a row of its own, and for any other.

        .. math:: n_k = \arg\max_n \; a_k(n) - p\,n

        where a is the table's accuracy and p the price. A budget raises the price, the same for all kinds, until the
        mean number over the table's questions is within the budget. No other choice with that mean has a higher mean
        accuracy in the table (Everett, "Generalized Lagrange multiplier method", Operations Research 1963).

        Parameters
        ----------
        snr_db : float
            SNR [dB], rounded down to a row of the table; the lowest row holds below that.
        budget : float, optional
            Largest mean number of tokens.

        Raises
        ------
        ValueError
            If the budget is below one token.
        """
        if budget is not None and not budget >= 1:
            raise ValueError(f"budget must be one token at least, got {budget!r}")
        row = max((i for i, at in enumerate(self.snr_db) if at <= snr_db), default=0)
        weights = {k: n for k, n in self.num_questions.items() if k != ANY and n >= MIN_QUESTIONS}
        weights[ANY] = self.num_questions[ANY] - sum(weights.values())
        accuracy = {kind: self.accuracy[kind][row] for kind in weights}
        if budget is None:
            return _best(accuracy, self.price)
        pairs = [pair for row in accuracy.values() for pair in itertools.combinations(enumerate(row), 2)]
        steps = {(b - a) / (j - i) for (i, a), (j, b) in pairs}  # prices at which another number becomes best
        prices = [self.price, *sorted(step for step in steps if step > self.price)]
        choices = (_best(accuracy, price) for price in prices)
        within = sum(weights.values()) * budget
        return next(numbers for numbers in choices if sum(weights[k] * n for k, n in numbers.items()) <= within)

    def save(self, folder: Path) -> Path:
        """Write the table next to the agents' weights."""
        path = Path(folder).expanduser() / FILE
        write_atomically(path, (json.dumps(asdict(self), indent=1) + "\n").encode())
        add_hash(path.with_name(SETTINGS), FILE)
        return path

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, agents: AgentLink) -> "TokenChoice":
        """Read the table of shipped agents, or of agents in a folder.

        Raises
        ------
        FileNotFoundError
            If the agents have no table.
        ModelFileError
            If it is damaged, was measured with other weights, or by another version.
        """
        folder = shipped_folder(name_or_folder)
        path = folder / FILE
        remedy = f"`tokenlink train adaptive --out {name_or_folder} --data SCENES` measures it"
        if not path.exists():
            raise FileNotFoundError(f"{name_or_folder} has no {FILE}, which says how many tokens to send; {remedy}")
        content = read_settings(path)
        if content.keys() != {field.name for field in fields(cls)}:
            raise ModelFileError(path, f"comes from another version; {remedy} anew")
        if content["model_hash"] != agents.model_hash:
            raise ModelFileError(path, f"was measured with other weights; {remedy} anew")
        check_hash(folder / SETTINGS, read_settings(folder / SETTINGS), FILE)
        choice = check_settings(path, content, TypeAdapter(cls))
        if problem := choice._problem(agents.num_tokens):
            raise ModelFileError(path, f"is no table of these agents: {problem}; {remedy} anew")
        return choice

    def _problem(self, num_tokens: int) -> str:
        """Say in what the parts of a table do not fit each other or the number of tokens; empty if they do."""
        if sorted(set(self.snr_db)) != self.snr_db:
            return f"snr_db is not rising: {self.snr_db}"
        if self.accuracy.keys() != self.num_questions.keys() or ANY not in self.accuracy:
            return f"accuracy and num_questions need the same kinds, {ANY!r} among them"
        for kind, rows in self.accuracy.items():
            if [len(row) for row in rows] != [num_tokens] * len(self.snr_db):
                return f"the accuracies of {kind!r} are not {len(self.snr_db)} rows of {num_tokens} numbers"
        rows_of_their_own = sum(n for k, n in self.num_questions.items() if k != ANY and n >= MIN_QUESTIONS)
        if self.num_questions[ANY] < max(1, rows_of_their_own):
            return f"{ANY!r} has {self.num_questions[ANY]} questions, its kinds have more"
        return ""


def _best(accuracy: dict[str, list[float]], price: float) -> dict[str, int]:
    """Return the best number of tokens at a price, the lowest of equals."""
    worth = {kind: [round(a - price * n, _DIGITS) for n, a in enumerate(row, 1)] for kind, row in accuracy.items()}
    return {kind: 1 + row.index(max(row)) for kind, row in worth.items()}


def kind_of(description: str) -> str:
    """Name the kind of a vague description by the rules, the same for all attributes; any other is `ANY`."""
    match = _KIND.fullmatch(description)
    return _ATTRIBUTE.sub("attribute", match[1]) if match else ANY


@torch.no_grad()
def measure(
    agents: AgentLink,
    dataset: Dataset,
    channel: Channel,
    *,
    snr_db: Sequence[float],
    first_realisation: int,
    num_questions: int,
    price: float,
    batch_size: int = 100,
) -> TokenChoice:
    """Measure the table: every question once for each SNR and number of tokens, over the same fades each time.

    Parameters
    ----------
    agents : AgentLink
        Agents with a nested code.
    dataset : Dataset
        Split whose first questions are asked; no study may ask them.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``
    snr_db : sequence of float
        Rows of the table [dB].
    first_realisation : int
        Number of the first question's fade; the others follow. No study may meet these fades.
    num_questions : int
        Number of questions to ask.
    price : float
        Accuracy that another token has to add, or it is not sent.
    batch_size : int
        Questions per forward pass.
    """
    questions = dataset.questions[:num_questions]
    kinds = [kind_of(description) for description in agents.describe([q.question for q in questions])]
    cells = [(number, at) for number in range(1, agents.num_tokens + 1) for at in snr_db]
    right = torch.zeros(len(cells), len(questions), dtype=torch.bool)
    for start in range(0, len(questions), batch_size):
        part = questions[start : start + batch_size]
        images = {index: dataset.image(index) for index in {q.image_index for q in part}}
        codes = agents.encode([images[q.image_index] for q in part], [q.question for q in part])
        fades = first_realisation + start + torch.arange(len(part))
        for cell, (number, at) in enumerate(cells):
            codes_hat, error_var = channel(agents.first(codes, number), snr_db=at, realisation=fades)
            answers = agents.answer_codes(codes_hat, [q.question for q in part], error_var)
            outcome = [normalize_answer(a) == normalize_answer(q.answer) for a, q in zip(answers, part, strict=True)]
            right[cell, start : start + len(part)] = torch.tensor(outcome)
    members = {kind: torch.tensor([k == kind for k in kinds]) for kind in sorted(set(kinds))}
    members[ANY] = torch.ones(len(questions), dtype=torch.bool)

    def table(chosen: Tensor) -> list[list[float]]:
        means = right[:, chosen].double().mean(1).reshape(agents.num_tokens, len(snr_db)).T
        return [[round(value, 4) for value in row] for row in means.tolist()]

    return TokenChoice(
        snr_db=[float(at) for at in snr_db],
        accuracy={kind: table(chosen) for kind, chosen in members.items()},
        num_questions={kind: int(chosen.sum()) for kind, chosen in members.items()},
        price=price,
        model_hash=agents.model_hash,
    )
