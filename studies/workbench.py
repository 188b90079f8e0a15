"""What the schemes of a run share: the chosen questions, the models and the link, each loaded when first asked for."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from phy.config import LinkConfig
from studies.config import Record
from studies.questions import Batch, batches, choose_questions

if TYPE_CHECKING:
    from bridge import TokenChannel
    from semantic import AgentLink
    from semantic.data.clevr import ClevrDataset
    from semantic.deepjscc import DeepJSCC
    from semantic.token_choice import TokenChoice


class DataConfig(Record, frozen=True):
    """Where questions and images come from."""

    folder: str | None = Field(default=None, description="folder in CLEVR's layout; null: the shipped split")
    split: str = Field(default="test", description="split to read from the folder")


class ModelsConfig(Record, frozen=True):
    """Which weights are used: a shipped name or a folder."""

    machine_tokens: str = "clevr-mini"
    machine_tokens_uncompressed: str = "clevr-mini-uncompressed"
    machine_tokens_adaptive: str = "clevr-mini-adaptive"
    deepjscc: str = "deepjscc"
    deepjscc_small: str = "deepjscc-small"
    code_prior: str | None = Field(
        default=None, description="what machine-tokens' recovery knows of the codes: a file of `tokenlink train prior`"
    )


class StudyConfig(Record, frozen=True):
    """What every study on questions and a link needs to know; a study adds its own axes."""

    seed: int = Field(default=0, ge=0, description="chooses the questions; link.seed draws the fades")
    num_questions: int = Field(default=2000, ge=1, description="per point, spread evenly over the families")
    batch_size: int = Field(default=100, ge=1, description="questions per forward pass; sums round with it")
    num_threads: int = Field(default=1, ge=1, description="of each process; sums round with it")
    data: DataConfig = DataConfig()
    models: ModelsConfig = ModelsConfig()
    link: LinkConfig = LinkConfig()

    def public(self) -> dict[str, Any]:
        """Return the configuration as it may be published: folders of this machine are reduced to their last part."""
        plain = self.plain()
        for section, keys in (("data", ("folder",)), ("models", tuple(plain["models"]))):
            plain[section].update({key: without_place(plain[section][key]) for key in keys})
        return plain


class Workbench:
    """Everything a configuration names, ready to use.

    Parameters
    ----------
    config : StudyConfig
    """

    def __init__(self, config: StudyConfig):
        self.config = config

    @functools.cached_property
    def dataset(self) -> "ClevrDataset":
        """The split that the questions are chosen from."""
        return load_dataset(self.config.data)

    @functools.cached_property
    def chosen(self) -> np.ndarray:
        """Indices of the chosen questions, in the study's order: [num_questions]."""
        return choose_questions(self.dataset.questions, self.config.num_questions, self.config.seed)

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """The chosen questions, cut into batches."""
        return list(batches(self.dataset, self.chosen, self.config.batch_size))

    @functools.cached_property
    def channel(self) -> "TokenChannel":
        """The link, as PyTorch sees it; `channel.link` is the link itself."""
        return make_channel(self.config.link)

    def channel_with_prior(self, path: str) -> "TokenChannel":
        """Return the link, its recovery told what a file says of the codes."""
        return make_channel(self.config.link, path)

    def agents(self, name: str) -> "AgentLink":
        """Return the pair of agents of that name; it is loaded once per process."""
        return load_agents(name)

    def token_choice(self, name: str) -> "TokenChoice":
        """Return the table that says how many tokens the agents of that name send."""
        return load_token_choice(name)

    def deepjscc(self, name: str) -> "DeepJSCC":
        """Return the image code of that name; it is loaded once per process."""
        return load_deepjscc(name)

    def question_facts(self) -> dict[str, np.ndarray]:
        """Return what the archive says of each question, [num_questions] each."""
        questions = [self.dataset.questions[index] for index in self.chosen]
        return {
            "question": self.chosen,
            "image_index": np.array([question.image_index for question in questions], dtype=np.int64),
            "family": np.array([question.family for question in questions], dtype=str),
            "realisation": np.arange(len(questions), dtype=np.int64),
        }

    def determined_by(self) -> dict[str, Any]:
        """Return what every outcome depends on, whatever the scheme."""
        config = self.config
        return {
            "data": self.dataset.data_hash,
            **{name: getattr(config, name) for name in ("seed", "num_questions", "batch_size", "num_threads")},
        }


@functools.cache
def load_dataset(data: DataConfig) -> "ClevrDataset":
    """Load a split."""
    from semantic.data import shipped_split
    from semantic.data.clevr import ClevrDataset

    return shipped_split() if data.folder is None else ClevrDataset(Path(data.folder).expanduser(), split=data.split)


@functools.cache
def load_agents(name: str) -> "AgentLink":
    """Load a pair of agents: a shipped name, or a folder."""
    from transformers.utils import logging

    from semantic import AgentLink

    logging.disable_progress_bar()  # each worker would draw its own, across ours
    return AgentLink.from_pretrained(name)


@functools.cache
def load_token_choice(name: str) -> "TokenChoice":
    """Load the table that lies next to a pair of agents."""
    from semantic.token_choice import TokenChoice

    return TokenChoice.from_pretrained(name, load_agents(name))


@functools.cache
def load_deepjscc(name: str) -> "DeepJSCC":
    """Load an image code: a shipped name, or a folder."""
    from semantic.deepjscc import DeepJSCC

    return DeepJSCC.from_pretrained(name)


@functools.cache
def make_channel(link: LinkConfig, prior: str | None = None) -> "TokenChannel":
    """Build a link, with the prior of a file where one is given, and put it behind the bridge."""
    from bridge import TokenChannel  # before phy: it fixes the order in which the two frameworks are loaded
    from phy import AnalogLink, CodePrior

    return TokenChannel(AnalogLink(link, prior=None if prior is None else CodePrior.load(prior)))


def without_place(name: str | None) -> str | None:
    """Reduce a folder of this machine to its last part; shipped names stay."""
    return Path(name).name if name and name.startswith(("/", "~", ".")) else name
