"""Benchmark 3: the sensor describes the image in words; the task agent reads them in front of the detailed question.

The sensor's own model, without LoRA, writes; it sees the image and a prompt in which nothing but the vague description
may stand for the question. The words cross the digital link in the resource elements of machine tokens, compressed by a
code made for captions (`digital/text_code.py`), with the most robust modulation and code rate that fit the longest of
the study: anything faster would only add losses.
"""

import copy
import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from studies.questions import Batch
from studies.schemes.digital.payload_link import DigitalScheme, PayloadLink, payload_link
from studies.schemes.digital.text_code import TextCode
from studies.workbench import Workbench

PROMPT = "describe the scene :"  # what the embedded sensor has learned to continue; "{vague}" would be filled in
MAX_NEW_TOKENS = 96
NUM_SAMPLES = 1000  # captions of scenes that no split has, from which the code learns


class Text(DigitalScheme):
    """Words over the digital link.

    Parameters
    ----------
    agents : AgentLink
    link : PayloadLink
    code : TextCode
    name : str
        Of what is written: schemes of equal name share the files of their texts.
    write : writes a text for each question of a batch
    read : answers questions, given (texts, questions)
    """

    def __init__(
        self,
        agents: Any,
        link: PayloadLink,
        code: TextCode,
        *,
        name: str,
        write: Callable[[Batch], list[str]],
        read: Callable[[list[str], list[str]], list[str]],
    ):
        super().__init__(agents, link)
        self._code, self._name, self._write, self._read = code, name, write, read
        self._compress = functools.cache(code.encode)

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights, and what is written."""
        return {**self.determined_by(), "text": self._name}

    def encode(self, batch: Batch) -> np.ndarray:
        """Write the texts, str [batch]."""
        return np.array(self._write(batch), dtype=str)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Compress the batch's texts; uint8 [batch, num_bytes], with zeros up to the longest of the study."""
        assert codes is not None
        size = max(len(self._compress(str(text))) for text in codes)
        payloads = [self._compress(str(codes[number])).ljust(size, b"\0") for number in batch.numbers]
        return np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), size)

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> list[str | None]:
        """Send the payloads, and return the texts that arrive."""
        assert sent is not None
        payloads = [row.tobytes() for row in sent]
        mcs = self.link.most_robust(sent.shape[1])
        return self.link.send(payloads, mcs, snr_db, realisation, self._code.decode)

    def answer_arrived(self, batch: Batch, where: list[int], items: list[str]) -> list[str]:
        """Answer from the texts."""
        return self._read(items, [batch.texts[place] for place in where])


def sample_captions(count: int = NUM_SAMPLES) -> list[str]:
    """Describe scenes drawn at random, objects from left to right, as the embedded sensor is taught to."""
    from semantic.data.scenes import describe, draw_scene

    rng = random.Random("captions")
    scenes = [sorted(describe(draw_scene(rng)), key=lambda words: words[4]) for _ in range(count)]
    return [" ".join(word for words in scene for word in words) for scene in scenes]


def describe_images(sensor: Any, batch: Batch) -> list[str]:
    """Let the sensor's own model describe the image of each question; the same image and prompt only once."""
    from semantic.obfuscation import obfuscate

    writer = copy.copy(sensor)  # the same weights; it may write more words
    writer.max_new_tokens = MAX_NEW_TOKENS
    images = batch.images
    keys = [(q.image_index, PROMPT.format(vague=obfuscate(q.question))) for q in batch.questions]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    texts = writer.answer([images[place] for place in first.values()], [prompt for _, prompt in first])
    written = dict(zip(first, texts, strict=True))
    return [written[key] for key in keys]


def build(workbench: Workbench) -> Text:
    """Build the scheme from a run's configuration."""
    agents = workbench.agents(workbench.config.models.machine_tokens)

    def read(texts: list[str], questions: list[str]) -> list[str]:
        return agents.task_agent.answer([f"{text} {question}" for text, question in zip(texts, questions, strict=True)])

    write = functools.partial(describe_images, agents.sensor)
    return Text(agents, payload_link(workbench), TextCode(sample_captions()), name="caption", write=write, read=read)
