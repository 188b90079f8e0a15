"""Pretraining of the language model on text alone: scene descriptions, questions, answers.

A small receiver reads soft prefixes only if it has learned to. It learns four ways of reading:

- words: "small red rubber cube c07 r15" for every object. A model that learns nothing else has never met a vector in
  place of words, as a general language model.
- superposed: one vector per object, the scaled sum of its six words' embeddings, with noise, at the position of the
  image patch that would show the object. A vision tower will later have to produce these vectors.
- dealt: the superposed vectors are dealt out to N tokens, like cards, and received through noise. Object k goes to
  token k mod N and is turned k // N times; the turns tell the objects of one token apart. This is the grammar of a
  machine language for any number of tokens.
- tokens: the model reads superposed vectors and writes N tokens, its own last hidden states, which are pulled towards
  the dealt ones. It answers from them alone, through noise. Sometimes it also has to put the scene in words.

The trained model is the task agent, which is frozen afterwards. The sensor's language model starts from a copy of it,
as LLaVA-1.5 starts from a finished LLM.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from semantic.data.packing import Packed, answer_loss, attention_mask, encode_question, lay_out, pack
from semantic.data.scenes import describe, draw_scene, patch_index, questions_for, scene_rng
from semantic.endpoints.architecture import (
    BOS,
    GRID,
    MAX_SLOTS,
    NOTHING,
    OBJECT,
    SLOTS,
    build_task_model,
    build_tokenizer,
    single_precision,
    token_ids,
)
from semantic.endpoints.pointers import NO_POINTER, Pointers, encode_targets
from semantic.loading import load_model, without_progress_bar
from semantic.task_agent import input_embeddings, normalize_tokens
from semantic.tasks import ZERO_HOP, family
from semantic.training import Metrics, fit, mixed_precision, save_half, write_card

MAX_OBJECTS = 10
LENGTH = 108  # of packed questions [words]
CAPTION_SHARE = 0.2  # of the scenes that are read as tokens and also put in words
QUESTION_START = 1 + GRID * GRID  # position of a question behind <s> and an image
SLOT_START = QUESTION_START + 12  # position of the tokens behind an image and a vague description
TURN = 31  # dimensions by which one turn rotates a vector; prime to any usual width


@dataclass(frozen=True)
class TextScene:
    """A scene in words, and its encoded questions."""

    words: np.ndarray  # int64 [num_objects, 6]
    patches: np.ndarray  # int64 [num_objects], raster index of the patch with the object's centre
    caption: np.ndarray | None = None  # "describe the scene :" and the objects from left to right
    questions: list[np.ndarray] = field(default_factory=list)
    pointers: list[np.ndarray] = field(default_factory=list)  # of every question's words: see `encode_targets`
    zero_hop: list[int] = field(default_factory=list)  # numbers of the questions without a relation, the first lessons


def encode_scene(tokenizer: PreTrainedTokenizerFast, scene: dict, questions: list[dict]) -> TextScene:
    """Encode a scene's description and its questions."""
    words = np.array([tokenizer.convert_tokens_to_ids(words) for words in describe(scene)], dtype=np.int64)
    encoded = [encode_question(tokenizer, q["question"], q["answer"]) for q in questions]
    pointers = [encode_targets(q, scene) for q in questions]
    easy = [k for k, q in enumerate(questions) if family(q["program"]) in ZERO_HOP]
    patches = np.array(patch_index(scene, GRID), dtype=np.int64)
    return TextScene(words, patches, encode_caption(tokenizer, words), encoded, pointers, easy)


def encode_caption(tokenizer: PreTrainedTokenizerBase, words: np.ndarray) -> np.ndarray:
    """Return the ids of ``describe the scene :``, the objects from left to right, and ``</s>``."""
    ordered = words[np.argsort(words[:, 4])].ravel()
    start = tokenizer("describe the scene :", add_special_tokens=False)["input_ids"]
    return np.array([*start, *ordered, tokenizer.eos_token_id], dtype=np.int64)


def draw_text_scenes(
    tokenizer: PreTrainedTokenizerFast, count: int, seed: int, min_objects: int = 3, max_objects: int = 6
) -> list[TextScene]:
    """Draw scenes that are only described, not rendered, with up to four questions of each family."""
    scenes = []
    for index in range(count):
        rng = scene_rng(seed, f"text {min_objects} to {max_objects}", index, "text")
        scene = draw_scene(rng, min_objects, max_objects)
        scenes.append(encode_scene(tokenizer, scene, questions_for(scene, rng, 4)))
    return scenes


def superpose(embedding: torch.Tensor, words: torch.Tensor, object_id: int) -> torch.Tensor:
    """Sum the embeddings of an object's words, and of `<object>`, to one vector of about one word's norm.

    Parameters
    ----------
    embedding : float [vocab, hidden]
    words : int64 [..., 6]

    Returns
    -------
    float [..., hidden]
    """
    vectors = embedding[words].sum(-2) + embedding[object_id]
    return vectors / (words.shape[-1] + 1) ** 0.5


def object_vectors(
    embedding: torch.Tensor, words: Sequence[np.ndarray], object_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each scene's superposed vectors at unit scale, [batch, max_objects, hidden], and a mask of the real ones.

    They describe the objects to the pointers; no gradient flows to the embeddings.
    """
    most = max(len(w) for w in words)
    padded = torch.zeros(len(words), most, words[0].shape[1], dtype=torch.long)
    real = torch.zeros(len(words), most, dtype=torch.bool)
    for b, of_scene in enumerate(words):
        padded[b, : len(of_scene)], real[b, : len(of_scene)] = torch.from_numpy(of_scene), True
    table = embedding.detach()
    return superpose(table, padded, object_id) / table.std(), real


def draw_num_tokens(rng: random.Random) -> int:
    """Draw the number of tokens to write; mostly five."""
    return rng.choices((1, 2, 3, 5, MAX_SLOTS), (0.05, 0.1, 0.1, 0.6, 0.15))[0]


class Reader:
    """Prefixes of questions for one language model, by each way of reading."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.bos, self.object_id, self.nothing = token_ids(tokenizer, [BOS, OBJECT, NOTHING])
        self.slots = torch.tensor(token_ids(tokenizer, list(SLOTS)))

    def words(self, scenes: list[TextScene], rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (inputs_embeds, position_ids, valid) of ``<s>`` and the scenes in words, in random order."""
        length = 1 + max(s.words.size for s in scenes)
        ids = torch.zeros(len(scenes), length, dtype=torch.long)
        for b, scene in enumerate(scenes):
            order = rng.sample(range(len(scene.words)), len(scene.words))
            flat = scene.words[order].ravel()
            ids[b, 0] = self.bos
            ids[b, 1 : 1 + len(flat)] = torch.from_numpy(flat)
        positions = torch.arange(length).expand(len(scenes), -1)
        return input_embeddings(self.model)(ids), positions, ids > 0

    def superposed(
        self, scenes: list[TextScene], rng: random.Random
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the same for one vector per object and some `<nothing>`, with noise, each at its patch's position."""
        num_nothing = rng.randint(0, 12)
        length = 1 + max(len(s.words) for s in scenes) + num_nothing
        patches = torch.zeros(len(scenes), length, dtype=torch.long)
        words = torch.full((len(scenes), length, 6), self.nothing)
        kind = torch.zeros(len(scenes), length, dtype=torch.long)  # 0 padding, 1 object, 2 nothing
        for b, scene in enumerate(scenes):
            shown = [(int(p), k) for k, p in enumerate(scene.patches)]
            shown += [(rng.randrange(GRID * GRID), -1) for _ in range(num_nothing)]
            for column, (patch, k) in enumerate(sorted(shown), start=1):
                patches[b, column] = 1 + patch
                kind[b, column] = 1 if k >= 0 else 2
                if k >= 0:
                    words[b, column] = torch.from_numpy(scene.words[k])
        table = input_embeddings(self.model).weight
        embeds = torch.where((kind == 1)[..., None], superpose(table, words, self.object_id), table[self.nothing])
        noise = torch.randn_like(embeds) * table.detach().std() * torch.empty(len(scenes), 1, 1).uniform_(0, 0.5)
        embeds = torch.cat([table[self.bos].expand(len(scenes), 1, -1), (embeds + noise)[:, 1:]], dim=1)
        valid = kind > 0
        valid[:, 0] = True
        return embeds, patches, valid

    def deal(self, scenes: list[TextScene], num_tokens: int) -> torch.Tensor:
        """Deal the objects' superposed vectors out to tokens, [batch, num_tokens, hidden], normalised.

        Objects come in the order of the patches that show them. Object k goes to token k mod num_tokens and is turned
        k // num_tokens times: its dimensions are rotated by `TURN` each time. A token without an object is `<nothing>`.
        """
        table = input_embeddings(self.model).weight
        rounds = -(-max(len(s.words) for s in scenes) // num_tokens)
        words = torch.zeros(len(scenes), rounds * num_tokens, scenes[0].words.shape[1], dtype=torch.long)
        real = torch.zeros(len(scenes), rounds * num_tokens, 1, dtype=torch.bool)
        for b, scene in enumerate(scenes):
            ordered = scene.words[np.argsort(scene.patches, kind="stable")]
            words[b, : len(ordered)], real[b, : len(ordered)] = torch.from_numpy(ordered), True
        vectors = torch.where(real, superpose(table, words, self.object_id), 0).unflatten(1, (rounds, num_tokens))
        dealt = torch.stack([vectors[:, turn].roll(turn * TURN, -1) for turn in range(rounds)]).sum(0)
        return normalize_tokens(torch.where(real[:, :num_tokens], dealt, table[self.nothing]))

    def write(self, scenes: list[TextScene], rng: random.Random, num_tokens: int) -> torch.Tensor:
        """Return the tokens that the model writes about superposed scenes, [batch, num_tokens, hidden], normalised."""
        embeds, positions, valid = self.superposed(scenes, rng)
        slots = self.model.get_input_embeddings()(self.slots[:num_tokens]).expand(len(scenes), -1, -1)
        slot_positions = (SLOT_START + torch.arange(num_tokens)).expand(len(scenes), -1)
        mask = attention_mask(
            torch.cat([valid, torch.ones(len(scenes), num_tokens, dtype=torch.bool)], 1),
            valid.new_zeros(len(scenes), 0).long(),
        )
        hidden = self.model.model(
            inputs_embeds=torch.cat([embeds, slots], 1),
            attention_mask=mask,
            position_ids=torch.cat([positions, slot_positions], 1),
            use_cache=False,
        ).last_hidden_state[:, -num_tokens:]
        return normalize_tokens(hidden)

    def received(self, tokens: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (inputs_embeds, position_ids, valid) of ``<s>`` and tokens with noise of up to this deviation."""
        return self.prefix(tokens + torch.randn_like(tokens) * torch.empty(len(tokens), 1, 1).uniform_(0, noise))

    def prefix(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the same for received tokens, normalised to the scale of the embeddings."""
        table = input_embeddings(self.model).weight
        tokens = normalize_tokens(tokens) * table.detach().std()
        batch, num_tokens, _ = tokens.shape
        embeds = torch.cat([table[self.bos].expand(batch, 1, -1), tokens], dim=1)
        positions = torch.arange(1 + num_tokens).expand(batch, -1)
        return embeds, positions, torch.ones(batch, 1 + num_tokens, dtype=torch.bool)

    def read(
        self, prefix: tuple[torch.Tensor, torch.Tensor, torch.Tensor], packed: Packed, start: int
    ) -> tuple[torch.Tensor, ...]:
        """Return every block's states of packed questions behind a prefix; each question begins at position `start`."""
        embeds, positions, valid = prefix
        hidden = self.model.model(
            inputs_embeds=torch.cat([embeds, self.model.get_input_embeddings()(packed.input_ids)], 1),
            attention_mask=attention_mask(valid, packed.segment),
            position_ids=torch.cat([positions, start + packed.offset], 1),
            use_cache=False,
            output_hidden_states=True,
        ).hidden_states
        return tuple(states[:, embeds.shape[1] :] for states in hidden)


@dataclass(frozen=True)
class Lesson:
    """A part of the pretraining."""

    scenes: list[TextScene]
    zero_hop: bool  # only questions that need no relation
    ways: dict[str, float]  # ways of reading, with their shares
    enough: float  # accuracy at which the next lesson begins
    at_most: float  # share of the run by which the next lesson begins at the latest

    @property
    def main_way(self) -> str:
        """The way of reading that tells whether the lesson is learned."""
        return max(self.ways, key=lambda way: self.ways[way])


def draw_lessons(
    tokenizer: PreTrainedTokenizerFast, num_scenes: int, seed: int, words_only: bool = False
) -> list[Lesson]:
    """Draw the lessons, easy ones first: without these the model guesses for very long."""
    whole = draw_text_scenes(tokenizer, num_scenes, seed)
    first = "words" if words_only else "superposed"
    easy = [
        Lesson(draw_text_scenes(tokenizer, 2000, seed, 1, 2), True, {first: 1.0}, 0.92, 0.03),
        Lesson(draw_text_scenes(tokenizer, 4000, seed, 1, 4), True, {first: 1.0}, 0.88, 0.06),
    ]
    if words_only:
        return [*easy, Lesson(whole, False, {"words": 0.95, "blind": 0.05}, 2.0, 1.0)]
    return [
        *easy,
        Lesson(whole, False, {"superposed": 0.75, "words": 0.2, "blind": 0.05}, 0.85, 0.35),
        Lesson(
            whole, False, {"superposed": 0.13, "words": 0.08, "dealt": 0.7, "tokens": 0.05, "blind": 0.04}, 2.0, 1.0
        ),
    ]


class Course:
    """The lessons of a run, one after the other.

    Parameters
    ----------
    lessons : list of Lesson
    """

    def __init__(self, lessons: list[Lesson]) -> None:
        self.lessons = lessons
        self.skill = 0.0  # running accuracy at this lesson's main way of reading

    def lesson(self, share: float) -> Lesson:
        """Return the lesson of a step: the next one if this one has been learned, or has had its share of the run."""
        if self.skill > self.lessons[0].enough or share > self.lessons[0].at_most:
            self.lessons.pop(0)
            self.skill = 0.0
            print(f"{len(self.lessons)} lesson(s) to go", flush=True)
        return self.lessons[0]

    def state_dict(self) -> dict[str, float]:
        """Return where the course stands."""
        return {"lessons": len(self.lessons), "skill": self.skill}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Go on where a course stood."""
        self.lessons, self.skill = self.lessons[-int(state_dict["lessons"]) :], state_dict["skill"]

    def learned(self, metrics: Metrics) -> None:
        """Take note of the accuracy of a step, if it read in the lesson's main way."""
        if (accuracy := metrics.get(self.lessons[0].main_way)) is not None:
            self.skill += 0.03 * (accuracy - self.skill)


@dataclass(frozen=True)
class Exercise:
    """A batch of scenes, one way of reading them, and the packed questions."""

    scenes: list[TextScene]
    way: str
    packed: Packed
    targets: torch.Tensor  # of the pointers, [batch, LENGTH, 3]


def draw_exercise(lesson: Lesson, batch: int, rng: random.Random) -> Exercise:
    """Draw scenes of a lesson, the order of their questions, and the way of reading them."""
    scenes = rng.sample(lesson.scenes, batch)
    asked = [s.zero_hop if lesson.zero_hop else range(len(s.questions)) for s in scenes]
    orders = [rng.sample(numbers, len(numbers)) for numbers in asked]
    way = rng.choices(list(lesson.ways), list(lesson.ways.values()))[0]
    spoken = way in ("dealt", "tokens")
    captions = [s.caption if spoken and rng.random() < CAPTION_SHARE else None for s in scenes]
    packed = pack([[s.questions[k] for k in o] for s, o in zip(scenes, orders, strict=True)], LENGTH, captions)
    targets = [[s.pointers[k] for k in o] for s, o in zip(scenes, orders, strict=True)]
    return Exercise(scenes, way, packed, lay_out(targets, LENGTH, NO_POINTER, captions))


def exercise_loss(
    reader: Reader, pointers: Pointers, exercise: Exercise, rng: random.Random
) -> tuple[torch.Tensor, Metrics]:
    """Return the loss of an exercise: answers, written tokens where there are any, and pointing."""
    model, scenes, way = reader.model, exercise.scenes, exercise.way
    writing = torch.zeros(())  # distance of the written tokens from the dealt ones
    if way == "blind":  # a question without any prefix gets the best guess
        prefix, start = reader.prefix(torch.zeros(len(scenes), 0, model.config.hidden_size)), 1
    elif way == "words":
        prefix = reader.words(scenes, rng)
        start = prefix[0].shape[1]
    elif way == "superposed":
        prefix, start = reader.superposed(scenes, rng), QUESTION_START
    else:
        num_tokens = draw_num_tokens(rng)
        tokens = dealt = reader.deal(scenes, num_tokens)
        if way == "tokens":
            tokens = reader.write(scenes, rng, num_tokens)
        writing = (tokens - dealt.detach()).square().mean()
        prefix, start = reader.received(tokens, noise=0.7), 1 + num_tokens
    states = reader.read(prefix, exercise.packed, start)
    loss, accuracy = answer_loss(states[-1], exercise.packed, model.lm_head)
    metrics = {way: accuracy.item()}
    if way == "tokens":
        metrics["writing"] = writing.item()
        loss = loss + writing
    if way != "blind":
        vectors = object_vectors(input_embeddings(model).weight, [s.words for s in scenes], reader.object_id)
        pointing = pointers(states, *vectors, exercise.targets)
        metrics["pointing"] = pointing.item()
        loss = loss + pointing
    return loss, metrics


@single_precision()
def main(
    out: Path,
    steps: int,
    seed: int = 0,
    num_scenes: int = 20000,
    batch: int = 12,
    lr: float = 1e-3,
    init: Path | None = None,
    words_only: bool = False,
) -> None:
    """Train the task agent's language model on text alone.

    Parameters
    ----------
    out : Path
        Folder for model, tokenizer, pointers, the log and the model card.
    steps : int
        Number of training steps.
    seed : int
        Seed of the training.
    num_scenes : int
        Described scenes to draw; they differ from every rendered split.
    batch : int
        Scenes per step.
    lr : float
        Peak learning rate.
    init : Path, optional
        Earlier result to start from, with the last lesson. Its words keep their vectors: a sensor that was trained
        towards them also fits this result.
    words_only : bool
        Let it read scenes in words and nothing else: a receiver that was never taught to read tokens.
    """
    options = dict(locals())
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = build_tokenizer()
    model = build_task_model(tokenizer) if init is None else load_language_model(init)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; vocabulary {len(tokenizer)}")
    lessons = draw_lessons(tokenizer, num_scenes, seed, words_only)
    pointers = Pointers(model.config.hidden_size)
    if init is not None:
        pointers.load(init)
        input_embeddings(model).requires_grad_(False)
        del lessons[:-1]
    course, reader = Course(lessons), Reader(model, tokenizer)

    def step(share: float) -> tuple[torch.Tensor, Metrics]:
        loss, metrics = exercise_loss(reader, pointers, draw_exercise(course.lesson(share), batch, rng), rng)
        course.learned(metrics)
        return loss, metrics

    def save() -> None:
        save_half(model, out)
        tokenizer.save_pretrained(out)
        pointers.save(out)
        results = evaluate(reader, tokenizer, seed + 1)
        print("val", results, flush=True)
        write_card(out, title="The embedded task agent's Llama", stage="task", options=options, results=results)

    fit(
        step,
        [p for p in (*model.parameters(), *pointers.parameters()) if p.requires_grad],
        steps=steps,
        lr=lr,
        log=Path(out) / "training.jsonl",
        rng=rng,
        seed=seed,
        state={"course": course},
        save=save,
        precision=mixed_precision(model),
    )


@without_progress_bar()
def load_language_model(folder: Path) -> LlamaForCausalLM:
    """Load a result of this stage, in float32."""
    return load_model(LlamaForCausalLM, folder)


@torch.no_grad()
def evaluate(reader: Reader, tokenizer: PreTrainedTokenizerFast, seed: int, num_scenes: int = 100) -> dict[str, float]:
    """Return the share of right answers about new scenes, for each way of reading."""
    scenes = draw_text_scenes(tokenizer, num_scenes, seed)
    packed = pack([s.questions for s in scenes], length=330)
    rng = random.Random(seed)
    words = reader.words(scenes, rng)
    prefixes = {
        "words": (words, words[0].shape[1]),
        "superposed": (reader.superposed(scenes, rng), QUESTION_START),
        **{f"{n} dealt": (reader.received(reader.deal(scenes, n), noise=0.0), 1 + n) for n in (1, 2, 3, 5)},
        "5 tokens": (reader.received(reader.write(scenes, rng, 5), noise=0.0), 6),
        "blind": (reader.prefix(torch.zeros(num_scenes, 0, reader.model.config.hidden_size)), 1),
    }
    answered = {}
    for name, (prefix, start) in prefixes.items():
        _, accuracy = answer_loss(reader.read(prefix, packed, start)[-1], packed, reader.model.lm_head)
        answered[name] = round(accuracy.item(), 4)
    return answered
