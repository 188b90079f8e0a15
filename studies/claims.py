"""The paper's six claims, each judged by a rule on the numbers of a run.

All differences are paired, question by question over the same fades; their intervals are 95 % bootstraps over images. A
rule says "reproduced", "not reproduced", or under which conditions a claim holds. It says "undecided" where the
interval that it asks for contains both answers, and where there are too few questions for an interval to be trusted.
Where a scheme or a study is missing it says "not measured". A claim that the shipped weights cannot test is
"withdrawn", with the reason; its numbers are still shown.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from studies.archive import MISSING, Results, write_atomically
from studies.statistics import cluster_bootstrap, mcnemar

REPRODUCED, CONDITIONAL = "reproduced", "reproduced under these conditions"
NOT_REPRODUCED, UNDECIDED = "not reproduced", "undecided"
NOT_MEASURED, WITHDRAWN = "not measured", "withdrawn"
HIGH_DB, LOW_DB = 15.0, -5.0  # "high SNR" is the highest of a run, and at least this; "low" is this
FROM_DB = 0.0  # from where on a digital scheme is expected to work at all
CLOSE = 0.03  # accuracy within which two schemes are close
ABRUPT = 0.05  # accuracy whose loss is substantial
KEPT = 0.5  # share of the gain over the blind line that a robust scheme keeps, and one that collapses does not
FEW = 300  # questions below which outcomes that never differed may differ in more than one of a hundred: 3 / 300
FAR = 4.0  # times as many resource elements is far more


class NotMeasured(ValueError):
    """What a rule needs is not in the results; the message says what."""


@dataclass(frozen=True)
class Estimate:
    """A paired mean over questions, such as a difference of accuracies, with its interval."""

    what: str
    mean: float
    low: float
    high: float
    num_questions: int

    def above(self, bound: float = 0.0) -> bool | None:
        """Whether it is above a bound; None if its interval contains both answers."""
        return True if self.low > bound else False if self.high <= bound else None

    def below(self, bound: float = 0.0) -> bool | None:
        """Whether it is below a bound; None if its interval contains both answers."""
        return True if self.high < bound else False if self.low >= bound else None

    def __str__(self) -> str:
        return f"{self.what}: {100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class Verdict:
    """Result of a rule."""

    verdict: str
    conditions: str = ""
    numbers: list[Estimate] = field(default_factory=list)

    def in_words(self) -> str:
        """Return verdict and conditions."""
        return self.verdict + (f": {self.conditions}" if self.conditions else "")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the rule that it is judged by, and the judgement."""

    number: int
    text: str
    rule: str
    judgement: Verdict


class Outcomes:
    """The outcomes of one run, by scheme and coordinates, and paired means of them.

    Parameters
    ----------
    results : Results or None
        None where the study has not been run.
    study : str
        Its name.
    """

    def __init__(self, results: Results | None, study: str):
        self._results, self._study = results, study

    @property
    def results(self) -> Results:
        """The run."""
        if self._results is None:
            raise NotMeasured(f"{self._study} was not run")
        return self._results

    def axis(self, name: str) -> list[float]:
        """Return the values of an axis."""
        return [float(value) for value in self.results.axes[name]]

    @property
    def high(self) -> float:
        """The highest SNR."""
        highest = max(self.axis("snr_db"))
        if highest < HIGH_DB:
            raise NotMeasured(f"{self._study} ends at {highest:g} dB; a high SNR is {HIGH_DB:g} dB or more")
        return highest

    def correct(self, scheme: str, **coordinates: float) -> np.ndarray:
        """Return a scheme's outcomes at some coordinates, [num_questions], float."""
        results = self.results
        if scheme not in results.schemes:
            raise NotMeasured(f"{scheme} is not in {self._study}")
        index = []
        for axis, values in results.axes.items():
            if coordinates[axis] not in values:
                raise NotMeasured(f"{self._study} has no {axis} of {coordinates[axis]:g}")
            index.append(list(values).index(coordinates[axis]))
        outcomes = results.of("correct", scheme)[tuple(index)]
        if (outcomes == MISSING).any():
            raise NotMeasured(f"{scheme} is not complete in {self._study}")
        return outcomes.astype(float)

    def estimate(self, what: str, values: np.ndarray) -> Estimate:
        """Return the mean of paired values with its interval."""
        low, high = cluster_bootstrap(values, self.results.variables["image_index"])
        return Estimate(what, float(values.mean()), low, high, len(values))

    def difference(self, first: str, second: str, snr_db: float) -> Estimate:
        """Return the accuracy of the first scheme less that of the second."""
        values = self.correct(first, snr_db=snr_db) - self.correct(second, snr_db=snr_db)
        return self.estimate(f"{first} - {second}, {snr_db:g} dB", values)

    def kept(self, scheme: str, snr_db: float) -> Estimate:
        """Return how much more of the gain over the blind line is left at an SNR than the share `KEPT`."""
        blind = self.correct("question-only", snr_db=snr_db)
        gain, most = (self.correct(scheme, snr_db=at) - blind for at in (snr_db, self.high))
        return self.estimate(
            f"{scheme}: gain at {snr_db:g} dB - {KEPT:g} x gain at {self.high:g} dB", gain - KEPT * most
        )


# --- the rules -----------------------------------------------------------------------------------------------------


def above_raw_image(snr: Outcomes, tokens: Outcomes) -> Verdict:
    """Claim 1."""
    at = snr.high
    overall = snr.difference("machine-tokens", "raw-image", at)
    if overall.above():
        return Verdict(REPRODUCED, numbers=[overall])
    first, second = (snr.correct(name, snr_db=at) for name in ("machine-tokens", "raw-image"))
    families = snr.results.variables["family"]
    names = sorted(set(families))
    better = []
    for name in names:
        chosen = families == name
        p_value = mcnemar(first[chosen].astype(int), second[chosen].astype(int))[2]
        if first[chosen].mean() > second[chosen].mean() and p_value < 0.05 / len(names):
            better.append(name)
    if better:
        return Verdict(CONDITIONAL, f"in the families {', '.join(better)} only", [overall])
    return Verdict(UNDECIDED if overall.above() is None else NOT_REPRODUCED, numbers=[overall])


def deepjscc_collapses(snr: Outcomes, tokens: Outcomes) -> Verdict:
    """Claim 2."""
    above = [snr.difference("deepjscc", "raw-image", at) for at in snr.axis("snr_db")]
    numbers = [above[-1]]
    low = [at for at in snr.axis("snr_db") if at <= LOW_DB]
    if LOW_DB not in low:
        raise NotMeasured(f"accuracy-vs-snr has no snr_db of {LOW_DB:g}")
    kept = {at: snr.kept("deepjscc", at) for at in low}
    numbers += list(kept.values())
    if any(gain.above() for gain in above):
        return Verdict(NOT_REPRODUCED, numbers=[gain for gain in above if gain.above()])
    if all(gain.below() is False for gain in kept.values()):
        return Verdict(NOT_REPRODUCED, numbers=numbers)
    if open_at := [at for at, gain in zip(snr.axis("snr_db"), above, strict=True) if gain.above() is None]:
        return Verdict(UNDECIDED, f"whether it is above the raw image at {_listed(open_at)} dB", numbers)
    collapsed = [at for at, gain in kept.items() if gain.below()]
    if LOW_DB in collapsed:
        return Verdict(REPRODUCED, numbers=numbers)
    if kept[LOW_DB].below() is None:
        return Verdict(UNDECIDED, f"whether it collapses at {LOW_DB:g} dB", numbers)
    if collapsed:
        return Verdict(CONDITIONAL, f"it collapses below {LOW_DB:g} dB only: at {_listed(collapsed)} dB", numbers)
    return Verdict(UNDECIDED, f"whether it collapses below {LOW_DB:g} dB", numbers)


def captions_poor(snr: Outcomes, tokens: Outcomes) -> Verdict:
    """Claim 3."""
    differences = {at: snr.difference("caption", "machine-tokens", at) for at in snr.axis("snr_db") if at >= FROM_DB}
    below = [at for at, difference in differences.items() if difference.below()]
    open_at = [at for at, difference in differences.items() if difference.below() is None]
    numbers = list(differences.values())
    if len(below) == len(differences):
        return Verdict(REPRODUCED, numbers=numbers)
    if below:
        return Verdict(CONDITIONAL, f"at {_listed(below)} dB{_undecided(open_at) or ' only'}", numbers)
    return Verdict(UNDECIDED if open_at else NOT_REPRODUCED, numbers=numbers)


def close_and_robust(snr: Outcomes, tokens: Outcomes) -> Verdict:
    """Claim 4."""
    close = snr.difference("machine-tokens", "machine-tokens-uncompressed", snr.high)
    kept = {at: snr.kept("machine-tokens", at) for at in snr.axis("snr_db") if LOW_DB <= at < snr.high}
    if LOW_DB not in kept:
        raise NotMeasured(f"accuracy-vs-snr has no snr_db of {LOW_DB:g}")
    numbers = [close, snr.difference("machine-tokens", "machine-tokens-uncompressed", LOW_DB), kept[LOW_DB]]
    robust = [at for at, gain in kept.items() if gain.above()]
    open_at = [at for at, gain in kept.items() if gain.above() is None]
    if close.above(-CLOSE) is False or not (robust or open_at):
        return Verdict(NOT_REPRODUCED, numbers=numbers)
    if close.above(-CLOSE) is None:
        return Verdict(UNDECIDED, f"whether it is close at {snr.high:g} dB", numbers)
    if LOW_DB in robust:
        return Verdict(REPRODUCED, numbers=numbers)
    if robust:
        return Verdict(CONDITIONAL, f"robust from {min(robust):g} dB on{_undecided(open_at)}", numbers)
    return Verdict(UNDECIDED, f"whether it is robust at {_listed(open_at)} dB", numbers)


def knee(snr: Outcomes, tokens: Outcomes) -> Verdict:
    """Claim 5."""
    numbers, high, low = tokens.axis("num_tokens"), tokens.high, min(tokens.axis("snr_db"))
    if len(numbers) < 3:
        raise NotMeasured(f"accuracy-vs-tokens has {len(numbers)} numbers of tokens; a knee needs three")

    def gain(more: float, fewer: float, at: float) -> Estimate:
        first, second = (tokens.correct("machine-tokens", num_tokens=n, snr_db=at) for n in (more, fewer))
        return tokens.estimate(f"{more:g} - {fewer:g} tokens, {at:g} dB", first - second)

    beyond = {n: [gain(more, n, high) for more in numbers if more > n] for n in numbers}
    index = next(i for i, n in enumerate(numbers) if not any(more.above() for more in beyond[n]))
    at_knee = numbers[index]
    if any(more.above() is None for more in beyond[at_knee]):
        return Verdict(UNDECIDED, f"whether more than {at_knee:g} tokens are better", beyond[at_knee])
    if index in (0, len(numbers) - 1):
        steps = [gain(more, fewer, high) for fewer, more in itertools.pairwise(numbers)]
        reason = "no number of tokens is better than the first" if index == 0 else "accuracy still rises at the last"
        return Verdict(NOT_REPRODUCED, reason, steps)
    below = gain(at_knee, numbers[index - 1], high)
    robustness = gain(numbers[-1], at_knee, low)
    estimates = [below, *beyond[at_knee], robustness]
    if below.below(ABRUPT):
        return Verdict(NOT_REPRODUCED, f"the loss below {at_knee:g} tokens is not abrupt", estimates)
    if below.below(ABRUPT) is None:
        return Verdict(UNDECIDED, f"whether the loss below {at_knee:g} tokens is abrupt", estimates)
    if robustness.above():
        return Verdict(REPRODUCED, f"the knee is at {at_knee:g} tokens", estimates)
    rest = "robustness beyond it is undecided" if robustness.above() is None else "but no robustness beyond it"
    return Verdict(CONDITIONAL, f"a knee at {at_knee:g} tokens, {rest}", estimates)


def overhead_far_below(snr: Outcomes, tokens: Outcomes) -> Verdict:
    """Claim 6."""
    ratios = {}
    for scheme in ("machine-tokens-uncompressed", "caption", "deepjscc", "jpeg-ldpc"):
        if scheme == "jpeg-ldpc" and scheme not in snr.results.schemes:
            continue  # no benchmark of the paper's
        ratios[scheme] = resource_elements(snr, scheme) / resource_elements(snr, "machine-tokens")
    far = [scheme for scheme, ratio in ratios.items() if ratio >= FAR]
    listed = ", ".join(f"{scheme} {ratio:.3g} x" for scheme, ratio in ratios.items())
    if len(far) == len(ratios):
        return Verdict(REPRODUCED, listed)
    return Verdict(
        CONDITIONAL if far else NOT_REPRODUCED, f"{'against ' + ', '.join(far) + ' only; ' if far else ''}{listed}"
    )


def resource_elements(snr: Outcomes, scheme: str) -> float:
    """Return the channel uses of one question, pilots included: their mean over the axes."""
    if scheme not in snr.results.schemes:
        raise NotMeasured(f"{scheme} is not in accuracy-vs-snr")
    uses = snr.results.along("data_res", scheme) + snr.results.along("pilot_res", scheme)
    if np.isnan(uses).all():
        raise NotMeasured(f"{scheme} is not complete in accuracy-vs-snr")
    return float(np.nanmean(uses))


RULES: Sequence[tuple[str, str, Callable[[Outcomes, Outcomes], Verdict]]] = (
    (
        "machine tokens are above the raw image (benchmark 1) at high SNR",
        "at the highest SNR the interval of machine-tokens - raw-image is above 0; under conditions: a family of "
        "questions has McNemar p < 0.05 / number of families in favour of machine-tokens",
        above_raw_image,
    ),
    (
        "DeepJSCC (benchmark 2) is never above the raw image and collapses at low SNR",
        f"at every SNR the interval of deepjscc - raw-image is at most 0, and at {LOW_DB:g} dB deepjscc keeps less "
        f"than {KEPT:g} of its gain over question-only at the highest SNR; under conditions: only at a lower SNR",
        deepjscc_collapses,
    ),
    (
        "captions (benchmark 3) are poor",
        f"at every SNR from {FROM_DB:g} dB on the interval of caption - machine-tokens is below 0; under conditions: "
        "at some of them",
        captions_poor,
    ),
    (
        "the JTCC is close to uncompressed tokens (benchmark 4) at high SNR and robust at low SNR",
        f"at the highest SNR the interval of machine-tokens - machine-tokens-uncompressed is above {-100 * CLOSE:g} "
        f"points, and at {LOW_DB:g} dB machine-tokens keeps more than {KEPT:g} of its gain over question-only; under "
        "conditions: only from a higher SNR on",
        close_and_robust,
    ),
    (
        "accuracy has a knee in the number of tokens; beyond it there is only robustness",
        "the knee is the smallest number that no larger one beats (interval above 0) at the highest SNR; it is neither "
        f"the first nor the last, and the interval of what the number below it loses is at {100 * ABRUPT:g} points or "
        "more; the largest number is better at the lowest SNR (interval above 0); under conditions: all but the last",
        knee,
    ),
    (
        "the overhead is far below the others'",
        f"deepjscc, caption, machine-tokens-uncompressed and, where it was run, jpeg-ldpc take {FAR:g} times the "
        "channel uses or more, pilots included; under conditions: some of them",
        overhead_far_below,
    ),
)


# Why the shipped weights cannot test a claim, by its number.
UNTESTABLE = {
    5: "the shipped task agent was pretrained on five tokens in most of its examples, and answers 64, 79, 88 and 97 % "
    "from 1, 2, 3 and 5 perfect ones: the knee is built in",
    6: "it was judged without pilots; with them uncompressed tokens take 2.15 times the channel uses, and what counts "
    "as far decides the verdict",
}


def judge(snr: Results | None, tokens: Results | None) -> list[Claim]:
    """Judge the six claims.

    Parameters
    ----------
    snr, tokens : Results or None
        Of accuracy-vs-snr and of accuracy-vs-tokens.
    """
    outcomes = Outcomes(snr, "accuracy-vs-snr"), Outcomes(tokens, "accuracy-vs-tokens")
    claims = []
    for number, (text, rule, apply) in enumerate(RULES, 1):
        try:
            judgement = apply(*outcomes)
        except NotMeasured as reason:
            judgement = Verdict(NOT_MEASURED, str(reason))
        few = min((estimate.num_questions for estimate in judgement.numbers), default=FEW)
        if few < FEW:
            judgement = Verdict(UNDECIDED, f"{few} questions are too few, {FEW} are needed", judgement.numbers)
        if number in UNTESTABLE and judgement.verdict != NOT_MEASURED:
            measured = f" (measured: {judgement.conditions})" if judgement.conditions else ""
            judgement = Verdict(WITHDRAWN, UNTESTABLE[number] + measured, judgement.numbers)
        claims.append(Claim(number, text, rule, judgement))
    return claims


def write(folder: Path, claims: Sequence[Claim], origin: Mapping[str, Any]) -> list[Path]:
    """Write `claims.json` and `claims.md` to a run folder; `origin` says which runs they come from."""
    content = {"origin": dict(origin), "claims": [asdict(claim) for claim in claims]}
    lines = ["# The paper's claims", ""]
    for claim in claims:
        lines += [f"{claim.number}. **{claim.text}**: {claim.judgement.in_words()}.", "", f"   Rule: {claim.rule}.", ""]
        lines += [f"   - {number}" for number in claim.judgement.numbers]
        lines += [""] if claim.judgement.numbers else []
    lines += ["Differences in points of accuracy, with 95 % intervals (bootstrap over images).", ""]
    lines += [f"{name}: {value}" for name, value in origin.items()]
    paths = [folder / "claims.json", folder / "claims.md"]
    write_atomically(paths[0], json.dumps(content, indent=1).encode())
    write_atomically(paths[1], ("\n".join(lines) + "\n").encode())
    return paths


def _undecided(values: Sequence[float]) -> str:
    return f"; undecided at {_listed(values)} dB" if values else ""


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
