"""Sensing: what it saves that the sensor reads an image once for all questions about it.

The shipped pair expresses the questions of the shipped split, in the batches of a study, and answers a part of them
without LoRA. Its rival reads every prompt whole, image and text. Both get images that are loaded, and look at each of
them once per batch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.table import Table

from semantic import AgentLink, SensorAgent
from semantic.adapters import without_lora
from semantic.data import shipped_split
from semantic.task_agent import generate
from studies.benchmarks.clock import take_turns
from studies.provenance import package_versions
from studies.questions import Batch, batches, choose_questions

NUM_QUESTIONS, BATCH = 2000, 100  # of a study
ANSWERED = 4  # one batch out of so many is also answered
PROMPTS = 50  # that the language model reads at a time
GOAL = 2.5  # ratio of the times for tokens
MAX_DIFFERENCE = 1e-5  # of tokens, over the largest
Run = Callable[[SensorAgent, list[np.ndarray], list[str]], Any]  # of images and texts


def whole_tokens(sensor: SensorAgent, images: list[np.ndarray], descriptions: list[str]) -> torch.Tensor:
    """Express images like `SensorAgent.tokens`, each pair by a whole prompt."""
    keys = [(id(image), text) for image, text in zip(images, descriptions, strict=True)]
    pairs = dict(zip(keys, images, strict=True))
    features, texts = sensor.image_tokens(list(pairs.values())), [text for _, text in pairs]
    done = []
    with torch.no_grad():
        for start in range(0, len(pairs), PROMPTS):
            part = torch.stack(features[start : start + PROMPTS])
            done.append(sensor.express(part, *sensor.tokenize(texts[start : start + PROMPTS], part.shape[1])))
    row = {key: n for n, key in enumerate(pairs)}
    return torch.cat(done)[[row[key] for key in keys]]


def whole_answers(sensor: SensorAgent, images: list[np.ndarray], questions: list[str]) -> list[str]:
    """Answer questions like `SensorAgent.answer`, each by a whole prompt."""
    answers = []
    with torch.no_grad(), without_lora(sensor.model):
        features = sensor.image_tokens(images)
        for start in range(0, len(questions), PROMPTS):
            part = torch.stack(features[start : start + PROMPTS])
            input_ids, mask = sensor.tokenize(questions[start : start + PROMPTS], part.shape[1])
            embeds = sensor.embed(input_ids, part)
            answers += generate(sensor.model, sensor.processor.tokenizer, embeds, mask, sensor.max_new_tokens)
    return answers


def measure(*, rounds: int = 5, on_case: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Time both sides on every batch, in turns.

    Parameters
    ----------
    rounds : int
        Measurements of a batch, of which the median is taken.
    on_case : callable
        Told the name of each part before it runs.

    Returns
    -------
    dict
        `tokens` and `answers`, with the processor time [s] of either side and of the vision tower, which both need;
        `largest` token and `difference` of tokens; the number of answers that are `different`.
    """
    torch.set_num_threads(1)
    agents, split = AgentLink.from_pretrained("clevr-mini"), shipped_split()
    asked = list(batches(split, choose_questions(split.questions, NUM_QUESTIONS, 0), BATCH))
    on_case("tokens")
    tokens = [race_to_tokens(agents, batch, rounds) for batch in asked]
    on_case("answers")
    answers = [race_to_answers(agents, batch, rounds) for batch in asked[::ANSWERED]]
    total = {"largest": max, "difference": max}  # of the batches; sums of all else
    return {
        "versions": package_versions(),
        **{
            name: {key: total.get(key, sum)(row[key] for row in rows) for key in rows[0]}
            for name, rows in {"tokens": tokens, "answers": answers}.items()
        },
    }


def race_to_tokens(agents: AgentLink, batch: Batch, rounds: int) -> dict[str, float]:
    """Time both on the vague descriptions of a batch, and compare their tokens."""
    texts = agents.describe(batch.texts)
    result, whole, shared = race(agents.sensor, whole_tokens, SensorAgent.tokens, batch.images, texts, rounds)
    return {**result, "largest": whole.abs().max().item(), "difference": (shared - whole).abs().max().item()}


def race_to_answers(agents: AgentLink, batch: Batch, rounds: int) -> dict[str, float]:
    """Time both on the detailed questions of a batch, and compare their answers."""
    result, whole, shared = race(agents.sensor, whole_answers, SensorAgent.answer, batch.images, batch.texts, rounds)
    return {**result, "different": sum(a != b for a, b in zip(whole, shared, strict=True))}


def race(
    sensor: SensorAgent, whole: Run, shared: Run, images: list[np.ndarray], texts: list[str], rounds: int
) -> tuple[dict[str, float], Any, Any]:
    """Return counts and times, what the whole prompts gave, and what the shared images gave."""
    given: dict[str, Any] = {}
    seconds = take_turns(
        {
            "whole_s": lambda: given.update(whole=whole(sensor, images, texts)),
            "shared_s": lambda: given.update(shared=shared(sensor, images, texts)),
            "tower_s": lambda: sensor.image_tokens(images),
        },
        rounds=rounds,
    )
    counts = {"prompts": len(texts), "images": len({id(image) for image in images})}
    return {**counts, **seconds}, given["whole"], given["shared"]


def ratio(times: dict[str, float]) -> float:
    """How many times as fast shared images are."""
    return times["whole_s"] / times["shared_s"]


def tables(report: dict[str, Any]) -> list[Table]:
    """One table."""
    table = Table(title="Sensing the shipped split: processor time in s", title_justify="left", box=None)
    for column in ("", "prompts", "images", "whole", "shared", "of which tower", "ratio", "goal"):
        table.add_column(column, justify="right" if column else "left")
    for name, goal in (("tokens", f"{GOAL}"), ("answers", "")):
        row = report[name]
        counts = (f"{row[key]}" for key in ("prompts", "images"))
        times = (f"{row[key]:.1f}" for key in ("whole_s", "shared_s", "tower_s"))
        table.add_row(name, *counts, *times, f"{ratio(row):.2f}", goal)
    table.caption = (
        f"tokens differ by {difference(report):.1e} of the largest (at most {MAX_DIFFERENCE:.0e}); "
        f"{report['answers']['different']} answers differ (at most 0)"
    )
    return [table]


def difference(report: dict[str, Any]) -> float:
    """Largest difference of tokens, over the largest token."""
    return report["tokens"]["difference"] / report["tokens"]["largest"]


def shortfalls(report: dict[str, Any]) -> list[str]:
    """What misses its goal."""
    missed = []
    if ratio(report["tokens"]) < GOAL:
        missed.append(f"tokens are computed {ratio(report['tokens']):.2f} times as fast, not {GOAL}")
    if not difference(report) <= MAX_DIFFERENCE:
        missed.append(f"tokens differ by {difference(report):.1e} of the largest")
    if report["answers"]["different"]:
        missed.append(f"{report['answers']['different']} of {report['answers']['prompts']} answers differ")
    return missed
