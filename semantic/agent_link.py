"""Sensor agent, code, channel and task agent in the order of the paper's figure."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from semantic.adapters import add_lora, load_lora, save_lora
from semantic.agent_settings import (
    CODE,
    MODELS,
    SETTINGS,
    read_agent_settings,
    source_of,
    with_hashes,
    write_agent_settings,
)
from semantic.jtcc import JTCC, Code, build_code
from semantic.llm_obfuscation import LLMObfuscator
from semantic.loading import load_model, load_part, read_tensors, shapes_of, without_progress_bar
from semantic.model_files import ModelFileError
from semantic.obfuscation import obfuscate
from semantic.processors import load_processor
from semantic.prompts import task_prompt as prompt_of
from semantic.sensor_agent import ImageLike, SensorAgent
from semantic.task_agent import TaskAgent

Channel = Callable[..., tuple[Tensor, Tensor | None]]  # channel(codes, snr_db=…, realisation=…)
PRETRAINED = Path(__file__).parent / "pretrained"


class AgentLink(nn.Module):
    """Two agents, the code between them, and the channel.

    ``image, question → obfuscate → sensor → tokens → code → channel → code → task agent ← question``

    Parameters
    ----------
    sensor : SensorAgent
    code : JTCC or TokenScaler
    task_agent : TaskAgent
    channel : callable, optional
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``; may also be set later. Without a variance
        (None) codes are taken for free of errors.
    obfuscate : callable
        Detailed question to the vague description that the sensor may see: by default the rules of
        `semantic.obfuscation`, else an `LLMObfuscator` or any callable.
    seed : int, optional
        Seed of the training; distinguishes agents that differ in nothing else.

    Raises
    ------
    ValueError
        If the code's lengths of a token, sent and received, are not those of the agents.
    """

    def __init__(
        self,
        sensor: SensorAgent,
        code: Code,
        task_agent: TaskAgent,
        channel: Channel | None = None,
        obfuscate: Callable[[str], str] = obfuscate,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if (sensor.hidden_size, task_agent.hidden_size) != (code.hidden_size, code.received_size):
            raise ValueError(
                f"the code takes tokens of {code.hidden_size} numbers and returns {code.received_size}; the sensor's "
                f"have {sensor.hidden_size}, the task agent's {task_agent.hidden_size}. Build it with "
                f"hidden_size={sensor.hidden_size}, received_size={task_agent.hidden_size}"
            )
        self.sensor, self.code, self.task_agent, self.channel = sensor, code, task_agent, channel
        self.obfuscate, self.seed = obfuscate, seed
        self._origin: dict[str, dict[str, Any]] = {}
        self.eval()

    @property
    def num_tokens(self) -> int:
        """Number of machine-language tokens per question."""
        return self.sensor.num_tokens

    @property
    def width(self) -> int:
        """Real numbers sent per token."""
        return self.code.width

    @torch.no_grad()
    def encode(
        self, images: Sequence[ImageLike], questions: Sequence[str], num_tokens: int | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the codes of each question; the sensor sees the question's vague description only.

        With `num_tokens`, return those of the first tokens alone; that takes a nested code (`JTCC.first`).
        """
        codes = self.code.encode(self.sensor.tokens(images, self.describe(questions)))
        return codes if num_tokens is None else self.first(codes, num_tokens)

    def describe(self, questions: Sequence[str]) -> list[str]:
        """Return the vague descriptions of detailed questions; the sensor learns nothing else of them."""
        if isinstance(self.obfuscate, LLMObfuscator):
            return self.obfuscate.describe(questions)  # in batches
        return [self.obfuscate(question) for question in questions]

    def check(self, questions: Sequence[str], numbers: Sequence[int] | None = None) -> None:
        """Refuse questions that one of the agents cannot read; `numbers` are those in messages, by default from 0."""
        self.task_agent.check(questions, self.num_tokens, numbers)
        self.sensor.check(questions, self.sensor.max_new_tokens, numbers)

    def first(self, codes: Float[Tensor, "batch tokens width"], num_tokens: int) -> Float[Tensor, "batch first width"]:
        """Return the codes of the first tokens, at the power at which they are sent alone."""
        if not isinstance(self.code, JTCC):
            raise ValueError(
                "uncompressed tokens are always sent together; only the first tokens of a nested code can be sent alone"
            )
        return self.code.first(codes, num_tokens)

    @torch.no_grad()
    def answer_codes(
        self,
        codes_hat: Float[Tensor, "batch tokens width"],
        questions: Sequence[str],
        error_var: Float[Tensor, "batch tokens width"] | None = None,
    ) -> list[str]:
        """Answer detailed questions behind received codes, whose errors have the given variances."""
        return self.task_agent.answer(questions, prefix=self.code.decode(codes_hat, error_var))

    def answer(
        self,
        images: Sequence[ImageLike],
        questions: Sequence[str],
        *,
        snr_db: float | Tensor,
        realisation: Tensor | None = None,
        num_tokens: int | None = None,
    ) -> list[str]:
        """Answer questions about images over the channel.

        Parameters
        ----------
        images, questions : sequences of equal length
        snr_db : float or [batch]
        realisation : int [batch], optional
            Numbers of the fades to meet; by default fresh ones.
        num_tokens : int, optional
            Number of tokens to send, the first ones of a nested code; by default all.

        Raises
        ------
        RuntimeError
            If no channel is set.
        ValueError
            If a question is no text, or longer than a model's positions.
        """
        if self.channel is None:
            raise RuntimeError(
                "no channel is set; assign one first: agents.channel = TokenChannel(AnalogLink(LinkConfig()))"
            )
        self.task_agent.check(questions, num_tokens or self.num_tokens)
        codes = self.encode(images, questions, num_tokens)
        with torch.no_grad():
            codes_hat, error_var = self.channel(codes, snr_db=snr_db, realisation=realisation)
        return self.answer_codes(codes_hat, questions, error_var)

    @property
    def model_hash(self) -> str:
        """SHA-256 of every parameter and buffer, in the order of their names."""
        return hash_of({"sensor": self.sensor, "code": self.code, "task_agent": self.task_agent})

    # --- files ---------------------------------------------------------------------------------------------------

    @classmethod
    @without_progress_bar()
    def from_pretrained(cls, name_or_folder: str | Path, *, dtype: torch.dtype = torch.float32) -> "AgentLink":
        """Load agents from a folder that `save_pretrained` wrote, or a shipped pair by its name.

        Parameters
        ----------
        name_or_folder : str or Path
            Folder, or the name of a shipped pair: a folder of `semantic/pretrained` with an agents.json.
        dtype : torch.dtype
            Precision of both large models; codes are always float32.

        Raises
        ------
        FileNotFoundError
            If there is no such folder or shipped pair.
        ModelFileError
            If a file is missing, damaged, exchanged or foreign. A folder without hashes, as from before there were
            any, is loaded with a warning.
        """
        folder = shipped_folder(name_or_folder)
        settings = read_agent_settings(folder)
        code, state = _load_code(folder, settings.code.model_dump(exclude_none=True), settings.num_tokens)
        source, options = source_of(folder, settings.sensor)
        model = load_model(AutoModelForImageTextToText, source, dtype=dtype, **options)
        load_lora(model, folder)
        processor = load_processor(source, model, **options)
        source, options = source_of(folder, settings.task_agent)
        task_model = load_model(AutoModelForCausalLM, source, dtype=dtype, **options)
        tokenizer = load_part(AutoTokenizer, source, **options)
        try:
            sensor = SensorAgent(model, processor, num_tokens=settings.num_tokens, prompt=settings.sensor.prompt)
            task_agent = TaskAgent(task_model, tokenizer, prompt=settings.task_agent.prompt)
            slots = state.pop("slots")
            agents = cls(sensor, code, task_agent, seed=settings.seed)
            with torch.no_grad():
                sensor.slots.copy_(slots)
        except (
            AttributeError,
            RuntimeError,
            ValueError,
        ) as error:  # models, prompts, shapes that do not fit each other
            raise ModelFileError(folder, f"holds no agents that fit each other: {error}") from error
        code.load_state_dict(state)
        addresses = {name: getattr(settings, name).model_dump(exclude_none=True) for name in MODELS}
        agents._origin = {name: _from_anywhere(folder, entry) for name, entry in addresses.items()}
        return agents

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        sensor: str | None = None,
        task_agent: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Write the trained parts (LoRA, slots, code) and the addresses of the two large models to a folder.

        Parameters
        ----------
        folder : str or Path
        sensor, task_agent : str, optional
            Path relative to `folder`, or hub id, of each model; by default the ones they were loaded from.
        dtype : torch.dtype
            Precision of the trained parts in the files; the code's powers, means and variances stay in float32.

        Raises
        ------
        ValueError
            If a model's address is neither given nor known.
        """
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        origin: dict[str, dict[str, Any]] = {}
        for name, given, prompt in (
            ("sensor", sensor, self.sensor.prompt),
            ("task_agent", task_agent, self.task_agent.prompt),
        ):
            entry = {"model": _expanded(given)} if given else dict(self._origin.get(name, {}))
            origin[name] = {**entry, "prompt": prompt}
            if "model" not in entry:
                raise ValueError(
                    f"the address of the {name}'s model is unknown; give save_pretrained its path relative to {folder}"
                )
        save_lora(self.sensor.model, folder, dtype)
        precise = {name for name, t in self.code.named_buffers() if t.ndim < 2}
        state = {
            name: t.detach().to("cpu", torch.float32 if name in precise else dtype).contiguous()
            for name, t in {**self.code.state_dict(), "slots": self.sensor.slots}.items()
        }
        save_file(state, folder / CODE)
        settings = {"num_tokens": self.num_tokens, "seed": self.seed, "code": self.code.settings(), **origin}
        write_agent_settings(folder, settings)


@without_progress_bar()
def build_agents(
    sensor: str | Path,
    task_agent: str | Path,
    *,
    num_tokens: int = 5,
    width: int | None = 64,
    r: int = 16,
    nested: bool = False,
    sensor_prompt: str | None = None,
    task_prompt: str | None = None,
    sensor_revision: str | None = None,
    task_revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> AgentLink:
    """Put untrained LoRA, slots and code between two pretrained models.

    Parameters
    ----------
    sensor, task_agent : str or Path
        Folder or hub id of each model, with its processor or tokenizer. `AgentLink.save_pretrained` refers to them.
    num_tokens : int
        Machine-language tokens per question.
    width : int or None
        Real numbers per token; None leaves the tokens uncompressed.
    r : int
        Rank of LoRA; its `lora_alpha` is twice that.
    nested : bool
        Whether the first tokens alone may be sent (`JTCC.first`).
    sensor_prompt, task_prompt : str, optional
        Prompts of `SensorAgent` and `TaskAgent`; by default those of the models' own chat templates, where there are
        any.
    sensor_revision, task_revision : str, optional
        Commits, tags or branches of hub ids.
    dtype : torch.dtype
        Precision of both large models.

    Raises
    ------
    ModelFileError
        If a model, processor or tokenizer cannot be loaded.
    ValueError
        If an uncompressed code is to be nested, or if the models do not fit each other.
    """
    if nested and width is None:
        raise ValueError("only a compressed code can be nested; give a width, or leave nested out")
    sensor, task_agent = _expanded(sensor), _expanded(task_agent)
    at_sensor, at_task = ({"revision": at} if at else {} for at in (sensor_revision, task_revision))
    model = load_model(AutoModelForImageTextToText, sensor, dtype=dtype, **at_sensor)
    add_lora(model, r=r, lora_alpha=2 * r)
    processor = load_processor(sensor, model, **at_sensor)
    agent = SensorAgent(model, processor, num_tokens=num_tokens, prompt=sensor_prompt)
    tokenizer = load_part(AutoTokenizer, task_agent, **at_task)
    receiver = TaskAgent(
        load_model(AutoModelForCausalLM, task_agent, dtype=dtype, **at_task),
        tokenizer,
        prompt=prompt_of(tokenizer) if task_prompt is None else task_prompt,
    )
    settings: dict[str, Any] = {
        "hidden_size": agent.hidden_size,
        "received_size": receiver.hidden_size,
        "num_tokens": num_tokens,
    }
    if width is None:
        code = build_code({"kind": "uncompressed", **settings})
    else:
        code = build_code({"kind": "jtcc", **settings, "width": width, "nested_tokens": num_tokens if nested else None})
    agents = AgentLink(agent, code, receiver)
    agents._origin = {
        name: with_hashes(_from_anywhere(Path(), {"model": str(model), **at}))
        for name, model, at in (("sensor", sensor, at_sensor), ("task_agent", task_agent, at_task))
    }
    return agents


def shipped_folder(name_or_folder: str | Path) -> Path:
    """Return the folder of agents: the given one, ``~`` expanded, or the shipped pair of this name.

    Raises
    ------
    FileNotFoundError
        If neither exists.
    """
    for folder in (Path(name_or_folder).expanduser(), PRETRAINED / str(name_or_folder)):
        if (folder / SETTINGS).exists():
            return folder
    shipped = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{SETTINGS}")))
    raise FileNotFoundError(
        f"{name_or_folder} is neither a folder with {SETTINGS} nor a shipped pair; shipped are: {shipped or 'none'}"
    )


def hash_of(parts: dict[str, nn.Module]) -> str:
    """Return the SHA-256 of every parameter and buffer of named modules."""
    digest = hashlib.sha256()
    for part, module in parts.items():
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{part}.{name}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_code(folder: Path, settings: dict[str, Any], num_tokens: int) -> tuple[Code, dict[str, Tensor]]:
    """Build a code, and read its weights and the slots; refuse what does not fit before it takes memory."""
    try:
        needed = shapes_of(lambda: build_code(settings))
    except (TypeError, ValueError) as error:
        raise ModelFileError(folder / SETTINGS, f"describes no code: {error}") from error
    slots = torch.empty(num_tokens, settings["hidden_size"], device="meta")
    state = read_tensors(folder / CODE, {**needed, "slots": slots}, f"the code of {SETTINGS}")
    return build_code(settings), state


def _expanded(address: str | Path) -> str:
    """Return the address of a model, ``~`` expanded if it is a path."""
    return os.path.expanduser(address)


def _from_anywhere(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """Return a model's address without reference to the folder that names it, if it is a folder itself."""
    local = folder / str(entry["model"])
    return {**entry, "model": str(local.resolve())} if local.exists() else entry
