"""The paper's first claim, that machine tokens beat the noiseless image, as a trial of five arms in two worlds.

The source world is condition A of CLEVR-CoGenT (some colours to a shape) and has two families of questions; the target
world is condition B with all six. The sensor's model is trained in the source world. What comes behind has equal steps,
the same questions at every step, and learns from their answers alone:

- R0: the sensor's model answers from the noiseless image, never trained in the target world. The paper's benchmark 1.
- T1: machine tokens. LoRA of R0, slots and code are trained in the target world through the link.
- R1: the same LoRA of R0, trained on the model's own answers to noiseless images of the target world, without a link.
- T0: as T1, but LoRA stays at zero.
- B1: LoRA of the task agent, trained on the same questions without any image: what the world's answers alone tell.

`train_arms` trains them, `ask_arms` asks all of them the same questions, `compare_arms` takes differences: T1 - R0, the
paper's condition; T1 - R1, equal training; (T1 - T0) - (R1 - R0), what LoRA adds to tokens less what it adds to the
sensor's answers; T1 - B1.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.archive import write_atomically
from studies.jobs import StudyError

if TYPE_CHECKING:
    from studies.claims import Estimate
    from studies.tables import Grid

STUDY = "accuracy-vs-snr"  # in which the arms are asked
SETTINGS, DONE = "arms.json", "done"
TOWER, SENSOR = "tower", "R0"  # folders of what the arms start from
ARMS = {  # arm: the folder of its pair, and the curve that asks it
    "R0": ("T1", "raw-image"),  # T1's sensor without its LoRA
    "R1": ("R1", "raw-image"),
    "T1": ("T1", "machine-tokens"),
    "T0": ("T0", "machine-tokens"),
    "B1": ("B1", "question-only"),
}
CONTRASTS = {  # difference: what it says, and the arms' weights in it
    "T1 - R0": ("the paper's condition", {"T1": 1, "R0": -1}),
    "T1 - R1": ("equal training", {"T1": 1, "R1": -1}),
    "(T1 - T0) - (R1 - R0)": ("difference in differences", {"T1": 1, "T0": -1, "R1": -1, "R0": 1}),
    "T1 - B1": ("beyond what answers alone tell", {"T1": 1, "B1": -1}),
}


# --- training ------------------------------------------------------------------------------------------------------


def train_arms(
    out: Path,
    source: Path,
    target: Path,
    task: Path,
    channel: Any,
    steps: int,
    sensor_steps: int,
    tower_steps: int = 2400,
    vision: Path | None = None,
    seed: list[int] = [0, 1, 2],  # noqa: B006 -- typer's own way; never changed
    source_families: list[str] = ["query", "exist"],  # noqa: B006
    batch: int = 24,
    lr: float = 1e-3,
    r: int = 16,
    width: int = 64,
    max_images: int | None = None,
) -> None:
    """Train the arms of claim 1 with equal steps; what is done is kept, and the same command resumes.

    Parameters
    ----------
    out : Path
        Folder for the arms: a folder for each seed, and in it one for each arm.
    source : Path
        Folder of the source world: splits `train` and `val` of `tokenlink scenes --condition A`.
    target : Path
        Folder of the target world: the same of `--condition B`.
    task : Path
        Folder of the pretrained task agent, the same for all seeds.
    channel : callable
        Link that T1 and T0 are trained over.
    steps : int
        Training steps of every arm.
    sensor_steps : int
        Training steps of the sensor's model in the source world.
    tower_steps : int
        Training steps of the vision tower in the source world.
    vision : Path, optional
        Folder of a pretrained tower, for all seeds, instead.
    seed : list of int
        Seeds, of everything that is trained; each has a chain of its own.
    source_families : list of str
        Families of questions that the sensor's model learns in the source world.
    batch : int
        Examples per step of every arm.
    lr : float
        Peak learning rate of every arm's LoRA.
    r : int
        Rank of every arm's LoRA.
    width : int
        Real numbers per token of T1 and T0.
    max_images : int, optional
        Number of images of each split to use, the first ones.

    Raises
    ------
    ValueError
        If the folder holds arms of other settings.
    """
    from semantic.endpoints import agents, lora, sensor
    from semantic.endpoints import vision as tower
    from semantic.training import described

    equal = {"steps": steps, "batch": batch, "lr": lr, "r": r, "max_images": max_images}
    before: dict[str, Any] = {"width": width, "sensor_steps": sensor_steps, "source_families": sorted(source_families)}
    before["link"] = described(channel)
    before |= {"tower_steps": tower_steps} if vision is None else {"vision": vision.name}
    _refuse_other_settings(
        Path(out), {**equal, **before, "source": source.name, "target": target.name, "task": task.name}
    )
    for number in seed:
        folder = Path(out) / f"seed-{number}"
        learned = vision or folder / TOWER
        same = {"data": target, "sensor": folder / SENSOR, "task": task, "seed": number, **equal}
        through_link = {**same, "channel": channel, "width": width, "answers_only": True}
        stages = {} if vision else {TOWER: partial(tower.main, data=source, steps=tower_steps)}
        stages[SENSOR] = partial(
            sensor.main,
            data=source,
            vision=learned,
            task=task,
            steps=sensor_steps,
            families=list(source_families),
            writing=0.0,  # no arm has an earlier teacher of tokens
        )
        stages = {name: partial(stage, seed=number, max_images=max_images) for name, stage in stages.items()}
        stages |= {
            "R1": partial(lora.main, **same),
            "B1": partial(lora.main, **same, blind=True),
            "T1": partial(agents.main, **through_link),
            "T0": partial(agents.main, **through_link, frozen_lora=True),
        }
        for name, stage in stages.items():
            if not (folder / name / DONE).exists():
                print(f"{folder / name}", flush=True)
                stage(out=folder / name)
                (folder / name / DONE).touch()


def _refuse_other_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings of the first training of a folder, and refuse others: its arms are to have had equal ones."""
    path = out / SETTINGS
    if not path.exists():
        write_atomically(path, (json.dumps(settings, indent=1) + "\n").encode())
    elif (earlier := _settings(out)) != settings:
        changed = ", ".join(
            f"{name} {earlier.get(name)!r} there and {settings.get(name)!r} now"
            for name in sorted({*earlier, *settings})
            if earlier.get(name) != settings.get(name)
        )
        raise ValueError(f"{out} holds arms that were trained otherwise: {changed}; take another --out")


def _settings(folder: Path) -> dict[str, Any]:
    from semantic.model_files import read_settings

    return read_settings(folder / SETTINGS)


# --- asking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What all arms answered to the same questions over the same fades.

    Attributes
    ----------
    seeds : list of int
    snr_db : list of float
    correct : dict
        Outcomes of each arm: [num_seeds, num_snr, num_questions]. An arm without link has the same at every SNR.
    image_index, realisation : numpy.ndarray, [num_questions]
    """

    seeds: list[int]
    snr_db: list[float]
    correct: dict[str, np.ndarray]
    image_index: np.ndarray
    realisation: np.ndarray


def ask_arms(folder: Path, config: Any, **options: Any) -> Asked:
    """Ask all arms of a folder; points that are done are kept, as in any study.

    Parameters
    ----------
    folder : Path
        What `train_arms` wrote.
    config : configuration of accuracy-vs-snr
        Questions, link and SNRs; models and schemes are those of the arms. The run folders are in ``folder/runs``.
    **options
        Options of `Study.main`, such as its engine.

    Raises
    ------
    FileNotFoundError
        If no seed of the folder has all its arms.
    StudyError
        If a point could not be computed.
    """
    from studies import study

    of_snr = study.find(STUDY)
    pairs = sorted({pair for pair, _ in ARMS.values()})
    seeds = sorted(
        int(path.name.removeprefix("seed-"))
        for path in folder.glob("seed-*")
        if all((path / pair / DONE).exists() for pair in pairs)
    )
    if not seeds:
        raise FileNotFoundError(
            f"{folder} has no seed whose arms {', '.join(pairs)} are all trained; `tokenlink train arms` trains them"
        )
    columns: dict[str, np.ndarray] = {}
    correct: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for pair in pairs:
            arms = {arm: curve for arm, (of_arm, curve) in ARMS.items() if of_arm == pair}
            models = {"machine_tokens": str((folder / f"seed-{seed}" / pair).resolve())}
            asked = config.updated({"models": models, "schemes": list(arms.values())})
            run = of_snr.main(asked, out=folder / of_snr.folder(asked), **options)
            if run.failed:
                raise StudyError(
                    f"{len(run.failed)} job(s) failed in {run.folder}; the same command repeats only these"
                )
            columns = {name: run.results.variables[name] for name in ("image_index", "realisation")}
            for arm, curve in arms.items():
                correct[arm].append(run.results.of("correct", curve))
    return Asked(seeds, list(config.snr_db), {arm: np.stack(parts) for arm, parts in correct.items()}, **columns)


# --- comparing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contrast:
    """A difference of arms at one SNR, what it says, and whether it is above 0."""

    snr_db: float
    about: str
    estimate: "Estimate"

    @property
    def verdict(self) -> str:
        """In words: where the interval lies, if the questions are enough for one."""
        from studies.claims import FEW

        few = self.estimate.num_questions < FEW
        return "undecided" if few else {True: "above 0", False: "not above 0", None: "undecided"}[self.estimate.above()]


def compare_arms(asked: Asked) -> list[Contrast]:
    """Return every difference at every SNR; intervals are over images, fades and, if there are several, trainings."""
    from studies.claims import Estimate
    from studies.statistics import clustered_mean_interval

    contrasts = []
    for what, (about, weights) in CONTRASTS.items():
        values = np.array([weight * asked.correct[arm].astype(float) for arm, weight in weights.items()]).sum(0)
        for index, snr_db in enumerate(asked.snr_db):
            of_snr = values[:, index]  # [num_seeds, num_questions]
            low, high = _interval(clustered_mean_interval, of_snr, asked)
            contrasts.append(Contrast(snr_db, about, Estimate(what, float(of_snr.mean()), low, high, of_snr.shape[1])))
    return contrasts


def tables(asked: Asked, contrasts: Sequence[Contrast]) -> "list[Grid]":
    """Return the table of the arms' accuracies, and that of the differences with their verdicts."""
    from studies.statistics import clustered_interval
    from studies.tables import Grid

    heads = [f"{at:g} dB" for at in asked.snr_db]
    over = f"95 % interval over images, fades{' and trainings' if len(asked.seeds) > 1 else '; one training'}"
    accuracies = []
    for arm, correct in asked.correct.items():
        cells = []
        for index in range(len(heads)):
            low, high = _interval(clustered_interval, correct[:, index], asked)
            cells.append(f"{100 * correct[:, index].mean():.1f}\n{100 * low:.1f} to {100 * high:.1f}")
        accuracies.append([arm, *cells])
    differences = [
        [f"{what}\n{about}", *(_cell(part) for part in contrasts if part.estimate.what == what)]
        for what, (about, _) in CONTRASTS.items()
    ]
    size = f"{len(asked.image_index)} questions, seeds {', '.join(map(str, asked.seeds))}"
    return [
        Grid(f"Accuracy of the arms [%], {over}; {size}", ["arm", *heads], accuracies),
        Grid(f"Differences [points], {over}", ["difference", *heads], differences),
    ]


def write(folder: Path, asked: Asked, contrasts: Sequence[Contrast]) -> Path:
    """Write `claim-one.json`: accuracies and differences, and the settings that the arms were trained with."""
    content = {
        "trained": _settings(folder),
        "seeds": asked.seeds,
        "snr_db": asked.snr_db,
        "accuracy": {arm: correct.mean(-1).tolist() for arm, correct in asked.correct.items()},  # [seed][snr_db]
        "differences": [asdict(part) | {"verdict": part.verdict} for part in contrasts],
    }
    path = folder / "claim-one.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    return path


def _interval(of: Callable[..., tuple[float, float]], values: np.ndarray, asked: Asked) -> tuple[float, float]:
    """Return an interval of values [num_seeds, num_questions], which share images, fades and trainings."""
    levels = (asked.image_index, asked.realisation, np.arange(len(values))[:, None])
    return of(values.ravel(), [np.broadcast_to(level, values.shape).ravel() for level in levels])


def _cell(part: Contrast) -> str:
    estimate = part.estimate
    return f"{100 * estimate.mean:+.1f}\n{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}\n{part.verdict}"
