"""What the curves of a run share: the configuration, the chosen questions, and agents, loaded when first asked for."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.questions import Batch, batches, choose_questions

if TYPE_CHECKING:
    from semantic import AgentLink
    from semantic.data.dataset import Dataset, Question
    from studies.study_config import StudyConfig


class Workbench:
    """A configuration and its questions, ready to use.

    Parameters
    ----------
    config : StudyConfig
    dataset : Dataset
        Split that the questions are chosen from.
    """

    def __init__(self, config: "StudyConfig", dataset: "Dataset"):
        self.config, self.dataset = config, dataset
        self._readers: set[str] = set()  # agents that can read all questions

    @functools.cached_property
    def chosen(self) -> np.ndarray:
        """Indices of the chosen questions in the split, in the study's order: [num_questions]."""
        return choose_questions(self.dataset.questions, self.config.num_questions, self.config.seed)

    @functools.cached_property
    def questions(self) -> list["Question"]:
        """The chosen questions, in the study's order."""
        return [self.dataset.questions[index] for index in self.chosen]

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """The chosen questions, cut into batches."""
        return list(batches(self.dataset, self.chosen, self.config.batch_size))

    def weights(self, key: str) -> str:
        """Return the name or folder that the configuration gives for weights: a key of `models`, or a name itself."""
        return getattr(self.config.models, key, key)

    def agents(self, key: str) -> "AgentLink":
        """Return the pair of agents that the configuration names for a key of `models`; loaded once per process.

        Raises
        ------
        ValueError
            If one of the run's questions is nothing that they can read; it is named by its number in the split.
        """
        name = self.weights(key)
        agents = load_agents(name, **self._unusual())
        if name not in self._readers:
            agents.check([question.question for question in self.questions], self.chosen.tolist())
            self._readers.add(name)
        return agents

    def question_columns(self) -> dict[str, np.ndarray]:
        """Return what the archive says of each question, [num_questions] each."""
        return {
            "question": self.chosen,
            "image_index": np.array([question.image_index for question in self.questions], dtype=np.int64),
            "family": np.array([question.family for question in self.questions], dtype=str),
            "realisation": np.arange(len(self.questions), dtype=np.int64),
        }

    def determined_by(self) -> dict[str, Any]:
        """Return what every outcome depends on, in every curve."""
        config = self.config
        return {
            "data": self.dataset.data_hash,
            **{name: getattr(config, name) for name in ("seed", "num_questions", "batch_size", "num_threads")},
            **self._unusual(),
        }

    def _unusual(self) -> dict[str, Any]:
        """Return precision and device of the agents where they are not the default, which leaves points their hash."""
        models, fields = self.config.models, type(self.config.models).model_fields
        return {
            name: getattr(models, name) for name in ("dtype", "device") if getattr(models, name) != fields[name].default
        }


@functools.cache
def load_agents(name: str, dtype: str = "float32", device: str = "cpu") -> "AgentLink":
    """Load a pair of agents: a shipped name, or a folder.

    Parameters
    ----------
    name : str
    dtype : str
        Precision of both large models.
    device : str
        Device of the whole pair.

    Raises
    ------
    ValueError
        If torch sees no such device.
    """
    from semantic import AgentLink
    from semantic.loading import device_of, precision_of

    try:
        place = device_of(device)
    except ValueError as error:
        raise ValueError(f"models.{error}") from error
    return AgentLink.from_pretrained(name, dtype=precision_of(dtype)).to(place)


@functools.cache
def weights_hash(agents: "AgentLink") -> str:
    """Return the hash of all weights of a pair of agents, read once per process."""
    return agents.model_hash
