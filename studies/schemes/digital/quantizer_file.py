"""The tables of the quantisers, learned from a pair's codes of training images: a file next to the pair's weights.

They come with the accuracy that payloads of each size reach on validation questions, by which the link adapts.
`tokenlink train quantizer` writes the file. It fits these weights only, and names them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from studies.questions import choose_questions
from studies.schemes.digital.quantizers import TransformQuantizer, VectorQuantizer, unlike

if TYPE_CHECKING:
    from semantic import AgentLink
    from semantic.data.dataset import Dataset, Question

FILE, CARD = "quantizer.safetensors", "quantizer.md"
LARGE = ("codebooks", "basis")  # in half precision, whose error is far below any quantiser's
WORTH = ("accuracy_bytes", "accuracy", "accuracy_lost")  # what payloads are worth, beside the tables of each kind
KINDS = {"transform": TransformQuantizer, "vector": VectorQuantizer}
Tables = dict[str, np.ndarray]


def load_tables(name_or_folder: str, kind: str, agents: "AgentLink") -> Tables:
    """Read the tables of a kind of quantiser for a pair, shipped or in a folder.

    Raises
    ------
    FileNotFoundError
        If the pair has none.
    ModelFileError
        If they are damaged, were learned from codes of other weights, or by another version.
    """
    from semantic.agent_link import shipped_folder
    from semantic.agent_settings import SETTINGS
    from semantic.model_files import ModelFileError, check_hash, read_settings

    folder = shipped_folder(name_or_folder)
    path = folder / FILE
    remedy = f"`tokenlink train quantizer --out {name_or_folder} --data SCENES` learns it"
    if not path.exists():
        raise FileNotFoundError(f"{name_or_folder} has no {FILE}, which quantises its codes; {remedy}")
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if name.startswith(f"{kind}.")]
            tables = {name.partition(".")[2]: file.get_tensor(name).astype(np.float64) for name in names}
    except Exception as error:  # SafetensorError is no ValueError; others come of dtypes that NumPy does not have
        raise ModelFileError(path, f"is no safetensors file, or is damaged: {error}; {remedy} anew") from error
    if metadata.get("model_hash") != agents.model_hash:
        raise ModelFileError(path, f"was learned from the codes of other weights; {remedy} anew")
    if "accuracy" not in tables:
        raise ModelFileError(path, f"comes from another version; {remedy} anew")
    check_hash(folder / SETTINGS, read_settings(folder / SETTINGS), FILE)
    own = {name: table for name, table in tables.items() if name not in WORTH}
    problem = KINDS[kind].problem(own, (agents.num_tokens, agents.width)) or _worth_problem(tables)
    if problem:
        raise ModelFileError(path, f"holds no tables of kind {kind} for these agents: {problem}; {remedy} anew")
    return tables


def _worth_problem(tables: Tables) -> str:
    """Say why tables tell no accuracy by size of payload; empty if they do."""
    worth = {name: table for name, table in tables.items() if name in WORTH}
    num_sizes = max(1, tables["accuracy"].size)
    if problem := unlike(worth, {"accuracy_bytes": (num_sizes,), "accuracy": (num_sizes,), "accuracy_lost": (1,)}):
        return problem
    if tables["accuracy_bytes"][0] < 1 or np.any(np.diff(tables["accuracy_bytes"]) <= 0):
        return "accuracy_bytes are not rising from one byte or more"
    if not all(0 <= tables[name].min() <= tables[name].max() <= 1 for name in ("accuracy", "accuracy_lost")):
        return "accuracies must lie between 0 and 1"
    return ""


def save_tables(folder: Path, tables: dict[str, Tables], model_hash: str, num_examples: int) -> Path:
    """Write every kind's tables."""
    flat = {
        f"{kind}.{name}": np.ascontiguousarray(table, dtype=np.float16 if name.startswith(LARGE) else np.float32)
        for kind, of_kind in tables.items()
        for name, table in of_kind.items()
    }
    from semantic.agent_settings import SETTINGS
    from semantic.model_files import add_hash

    path = Path(folder).expanduser() / FILE
    save_file(flat, path, metadata={"model_hash": model_hash, "num_examples": str(num_examples)})
    add_hash(path.with_name(SETTINGS), FILE)
    return path


def measure_accuracy(
    agents: "AgentLink", tables: dict[str, Tables], dataset: "Dataset", num_questions: int, batch_size: int = 100
) -> dict[str, Tables]:
    """Measure each kind's accuracy by size of payload, where all arrive, on questions from all over a split.

    Returns
    -------
    dict
        For each kind: `accuracy_bytes` and `accuracy`, [num_sizes], and `accuracy_lost`, from the questions alone.
    """
    import torch

    from semantic.tasks import normalize_answer

    chosen = choose_questions(dataset.questions, min(num_questions, len(dataset.questions)), seed=0)
    questions = [dataset.questions[index] for index in chosen]
    codes, _ = encode_questions(agents, dataset, questions, batch_size)

    def accuracy(answer: Callable[[slice, list[str]], list[str]]) -> float:
        parts = [slice(start, start + batch_size) for start in range(0, len(questions), batch_size)]
        answers = [text for part in parts for text in answer(part, [q.question for q in questions[part]])]
        right = [normalize_answer(a) == normalize_answer(q.answer) for a, q in zip(answers, questions, strict=True)]
        return float(np.mean(right))

    lost = accuracy(lambda part, texts: agents.task_agent.answer(texts))
    measured = {}
    for kind, of_kind in tables.items():
        sizes = sizes_up_to(KINDS[kind].most_bytes(codes.shape[1:]))
        reached = []
        for size in sizes:
            coder = KINDS[kind](of_kind, size)
            decoded = torch.as_tensor(np.stack([coder.decode(payload) for payload in coder.encode(codes)]))
            reached.append(accuracy(lambda part, texts, decoded=decoded: agents.answer_codes(decoded[part], texts)))
        measured[kind] = {
            "accuracy_bytes": np.array(sizes),
            "accuracy": np.array(reached),
            "accuracy_lost": np.array([lost]),
        }
    return measured


def sizes_up_to(most: int) -> list[int]:
    """Return sizes in bytes from one to the largest, a quarter apart at most."""
    return sorted({min(most, int(2 ** (step / 3))) for step in range(3 * most.bit_length() + 1)})


def encode_questions(
    agents: "AgentLink", dataset: "Dataset", questions: "Sequence[Question]", batch_size: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of some questions of a split, [num_questions, num_tokens, width], and their images' numbers."""
    codes = []
    for start in range(0, len(questions), batch_size):
        part = questions[start : start + batch_size]
        images = {index: dataset.image(index) for index in {q.image_index for q in part}}
        encoded = agents.encode([images[q.image_index] for q in part], [q.question for q in part])
        codes.append(encoded.numpy(force=True))
    return np.concatenate(codes), np.array([question.image_index for question in questions])


def error(
    quantizer: Callable[[Tables, int], TransformQuantizer | VectorQuantizer],
    tables: Tables,
    codes: np.ndarray,
    num_bytes: int,
) -> float:
    """Return E|codes_hat - codes|^2 / E|codes|^2 of codes in payloads of a size."""
    coder = quantizer(tables, num_bytes)
    decoded = np.stack([coder.decode(payload) for payload in coder.encode(codes)])
    return float(np.sum((decoded - codes) ** 2) / np.sum(codes**2))
