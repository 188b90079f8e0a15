"""How much of a question can be guessed from its vague description: `tokenlink probe`.

For each private fact the best guess given the description, its most frequent value among the questions described alike,
is compared with the best guess without one. Guesses are learned on the questions of one half of the images (those of
odd number) and measured on the other half: nothing is guessed by heart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from semantic.data.clevr import Question
from semantic.tasks import ATTRIBUTES
from studies.statistics import Comparison, compare, wilson_interval
from studies.tables import Grid

NONE = "none"
NAMED = (*ATTRIBUTES, "direction")
FACTS = (*(f"{name}, if any" for name in NAMED), *(f"which {name}" for name in NAMED), "answer")


@dataclass(frozen=True)
class Leak:
    """What a description tells about one fact.

    Attributes
    ----------
    fact : private fact that is guessed
    num_questions : questions that the guesses were measured on
    informed, blind : share of right guesses (accuracy, low, high), with and without the description; 95 % Wilson
    gain : paired difference between the two
    entropy : of the fact, plug-in estimate [bit]
    information : mutual information of fact and description, corrected for bias [bit]
    """

    fact: str
    num_questions: int
    informed: tuple[float, float, float]
    blind: tuple[float, float, float]
    gain: Comparison
    entropy: float
    information: float


def private_facts(question: Question) -> dict[str, str]:
    """Return the private facts of a question: for each attribute the first value in its program, and its answer.

    "which color" is there only where one is named; "color, if any" says also whether one is.
    """
    named: dict[str, str] = {}
    for node in question.program:
        function = node.get("function") or node["type"]
        values = node.get("value_inputs") or node.get("side_inputs") or []
        if function == "relate" or function.startswith("filter_"):
            named.setdefault("direction" if function == "relate" else function.removeprefix("filter_"), values[0])
    if_any = {f"{name}, if any": named.get(name, NONE) for name in NAMED}
    which = {f"which {name}": value for name, value in named.items()}
    return {**if_any, **which, "answer": question.answer}


def probe(questions: Sequence[Question], obfuscate: Callable[[str], str]) -> list[Leak]:
    """Measure what descriptions tell about each fact.

    Parameters
    ----------
    questions : with programs
    obfuscate : detailed question to vague description

    Raises
    ------
    ValueError
        If a question has no program.
    """
    if bare := sum(not question.program for question in questions):
        raise ValueError(
            f"{bare} of {len(questions)} questions have no program, which tells their private facts; probe a split "
            "whose questions have one"
        )
    described = [obfuscate(question.question) for question in questions]
    images = np.array([question.image_index for question in questions])
    known = [private_facts(question) for question in questions]
    leaks = []
    for fact in FACTS:
        indices = [i for i, facts in enumerate(known) if fact in facts]
        if not indices:
            continue  # no question names one
        values = [known[i][fact] for i in indices]
        leaks.append(_leak(fact, values, [described[i] for i in indices], images[indices]))
    return leaks


def _leak(fact: str, values: list[str], described: list[str], images: np.ndarray) -> Leak:
    learned = np.flatnonzero(images % 2 == 1)
    measured = np.flatnonzero(images % 2 == 0)
    if not len(learned) or not len(measured):
        raise ValueError(f"{fact!r}: there have to be questions on images of even and of odd numbers; take more images")
    overall = Counter(values[i] for i in learned)
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for i in learned:
        given[described[i]][values[i]] += 1
    blind_guess = _most_frequent(overall)
    informed = np.array([values[i] == _most_frequent(given.get(described[i], overall)) for i in measured])
    blind = np.array([values[i] == blind_guess for i in measured])
    return Leak(
        fact,
        len(measured),
        _share(informed),
        _share(blind),
        compare(informed.astype(int), blind.astype(int), images[measured]),
        entropy(values),
        mutual_information(values, described),
    )


def entropy(values: Sequence[Hashable]) -> float:
    r"""Return the plug-in estimate of :math:`-\sum_x p(x) \log_2 p(x)` [bit]."""
    share = np.array(list(Counter(values).values())) / len(values)
    return float(-(share * np.log2(share)).sum())


def mutual_information(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    r"""Estimate the mutual information of paired samples, with the Miller-Madow correction [bit].

    .. math:: \hat I = H(X) + H(Y) - H(X, Y) - \frac{K_{XY} - K_X - K_Y + 1}{2 N \ln 2}

    :math:`K` are the numbers of different values that occur. The plug-in estimate alone is too large by the last term;
    with it, independent samples give 0 on average, and single estimates may be below.

    Source: G. A. Miller, "Note on the bias of information estimates", in *Information Theory in Psychology*, 1955.
    """
    pairs = list(zip(first, second, strict=True))
    plug_in = entropy(first) + entropy(second) - entropy(pairs)
    excess = len(set(pairs)) - len(set(first)) - len(set(second)) + 1
    return plug_in - excess / (2 * len(pairs) * np.log(2))


def _most_frequent(counts: "Counter[str]") -> str:
    return min(counts, key=lambda value: (-counts[value], value))


def _share(right: np.ndarray) -> tuple[float, float, float]:
    low, high = wilson_interval(right.sum(), len(right))
    return float(right.mean()), float(low), float(high)


def table(leaks: Sequence[Leak]) -> Grid:
    """Return what a description tells, a row for each fact."""
    rows = []
    for leak in leaks:
        gain = f"{100 * leak.gain.difference:+.1f}\n{100 * leak.gain.low:+.1f} to {100 * leak.gain.high:+.1f}"
        shares = (
            f"{100 * mean:.1f}\n{100 * low:.1f}-{100 * high:.1f}" for mean, low, high in (leak.informed, leak.blind)
        )
        rows.append(
            [leak.fact, str(leak.num_questions), *shares, gain, f"{leak.information:.3f}", f"{leak.entropy:.2f}"]
        )
    title = "Best guess [%] and 95 % Wilson interval, from the vague description and without it"
    header = ["fact", "questions", "with [%]", "without [%]", "gain [points]", "told [bit]", "of [bit]"]
    return Grid(title, header, rows)
