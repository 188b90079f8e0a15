"""`answers/`: every question with its right answer and what a scheme answered, JSON lines made from points and data.

An archive has no texts of a data set. They are read from the data set again, whose hash has to be that of the run.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from studies import archive, sweep
from studies.config import ConfigError, content_hash, read_yaml, validate
from studies.plan import Plan, PlannedPoint, read_plan
from studies.run_folder import read_planned
from studies.study_config import DataConfig

FOLDER = "answers"


def write(
    folder: Path, *, data: Path | None = None, on_problem: Callable[[str], Any] = lambda problem: None
) -> list[Path]:
    """Write a file for each scheme of a run, with a line for each of its points and questions.

    A line holds `scheme`, the point's coordinates, `number` (of the question in the split), `image_index`, `family`,
    `realisation`, `question`, `right_answer`, `answer`, `correct` and `confidence`. It is ASCII: whatever else a text
    holds is escaped, so that every line is one line, and no terminal obeys it.

    Parameters
    ----------
    folder : Path
        Run folder.
    data : Path, optional
        Folder of the data set, if it is another than `config.yaml` says.
    on_problem : callable
        Called with a sentence for each point that cannot be used, and one if points are missing.

    Returns
    -------
    list of Path
        In the order of the schemes; none for a scheme of which no point is done.

    Raises
    ------
    ValueError
        If the folder holds no run, or the data set is not the one that the run read.
    """
    plan = read_plan(folder)
    questions, paths, num_missing = dataset_of(folder, plan, data).questions, list[Path](), 0
    for scheme in plan.schemes:
        lines = list[str]()
        for planned in (point for point in plan.points if point.scheme == scheme):
            try:
                point = read_planned(folder, planned)
            except ValueError as error:
                on_problem(str(error))
                point = None
            num_missing += point is None
            if point is not None:
                lines += _lines(planned, point, questions)
        if lines:
            paths.append(folder / FOLDER / f"{scheme}.jsonl")
            archive.write_atomically(paths[-1], "".join(lines).encode("ascii"))
    if not paths:
        raise ValueError(f"no point of {folder} is done yet; run the study first")
    if num_missing:
        on_problem(f"{num_missing} of {len(plan.points)} points are missing so far")
    return paths


def dataset_of(folder: Path, plan: Plan, data: Path | None = None) -> Any:
    """Return the data set that a run read; `data` is its folder, if it is another than `config.yaml` says.

    Raises
    ------
    ValueError
        If `config.yaml` or the data set is not that of the run.
    """
    path = folder / "config.yaml"
    config = read_yaml(path)
    if plan.config is not None and content_hash(config) != plan.config:
        raise ConfigError(
            f"{path} is not the configuration that plan.json was made from; the same `tokenlink run` says what differs"
        )
    where = validate(DataConfig, {**config.get("data", {}), **({} if data is None else {"folder": str(data)})})
    dataset = sweep.dataset_for(where)
    if dataset.data_hash != plan.attributes.get("data_hash"):
        raise ConfigError(
            f"the data set of {where.folder or 'this version'}, split {where.split}, is not the one that {folder} was "
            "computed with; --data FOLDER names another place"
        )
    return dataset


def _lines(planned: PlannedPoint, point: archive.Point, questions: Any) -> Iterator[str]:
    columns = {name: point.arrays[name].tolist() for name in (*archive.QUESTION_COLUMNS, "answer", "correct")}
    unknown = np.full(len(columns["correct"]), np.nan)
    confidence = point.arrays.get("confidence", unknown).tolist()  # older points do not have it
    for row, number in enumerate(columns.pop("question")):
        line = {
            "scheme": planned.scheme,
            **planned.coordinates,
            "number": number,
            **{name: values[row] for name, values in columns.items() if name not in ("answer", "correct")},
            "question": questions[number].question,
            "right_answer": questions[number].answer,
            "answer": columns["answer"][row],
            "correct": bool(columns["correct"][row]),
            "confidence": None if np.isnan(confidence[row]) else round(confidence[row], 6),
        }
        yield json.dumps(line, allow_nan=False) + "\n"
