"""The tables of the quantisers, learned from a pair's codes of training images: a file next to the pair's weights.

They come with the accuracy that payloads of each size reach on validation questions, by which the link adapts.
`tokenlink train quantizer` writes the file. It fits these weights only, and names them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from studies.schemes.digital.quantizers import TransformQuantizer, VectorQuantizer

if TYPE_CHECKING:
    from semantic import AgentLink
    from semantic.data.dataset import Dataset

FILE, CARD = "quantizer.safetensors", "quantizer.md"
LARGE = ("codebooks", "basis")  # in half precision, whose error is far below any quantiser's
KINDS = {"transform": TransformQuantizer, "vector": VectorQuantizer}
Tables = dict[str, np.ndarray]


def load_tables(name_or_folder: str, kind: str, agents: "AgentLink") -> Tables:
    """Read the tables of a kind of quantiser for a pair, shipped or in a folder.

    Raises
    ------
    FileNotFoundError
        If the pair has none.
    ValueError
        If they were learned from codes of other weights, or by another version.
    """
    from semantic.agent_link import shipped_folder

    path = shipped_folder(name_or_folder) / FILE
    remedy = f"`tokenlink train quantizer --out {name_or_folder} --data SCENES` learns it"
    if not path.exists():
        raise FileNotFoundError(f"{name_or_folder} has no {FILE}, which quantises its codes; {remedy}")
    with safe_open(path, "np") as file:
        if file.metadata()["model_hash"] != agents.model_hash:
            raise ValueError(f"{FILE} of {name_or_folder} was learned from the codes of other weights; {remedy} anew")
        names = [name for name in file.keys() if name.startswith(f"{kind}.")]
        tables = {name.partition(".")[2]: file.get_tensor(name).astype(np.float64) for name in names}
    if "accuracy" not in tables:
        raise ValueError(f"{FILE} of {name_or_folder} comes from another version; {remedy} anew")
    return tables


def save_tables(folder: Path, tables: dict[str, Tables], model_hash: str, num_examples: int) -> Path:
    """Write every kind's tables."""
    flat = {
        f"{kind}.{name}": np.ascontiguousarray(table, dtype=np.float16 if name.startswith(LARGE) else np.float32)
        for kind, of_kind in tables.items()
        for name, table in of_kind.items()
    }
    save_file(flat, Path(folder) / FILE, metadata={"model_hash": model_hash, "num_examples": str(num_examples)})
    return Path(folder) / FILE


def measure_accuracy(
    agents: "AgentLink", tables: dict[str, Tables], dataset: "Dataset", num_questions: int, batch_size: int = 100
) -> dict[str, Tables]:
    """Measure each kind's accuracy by size of payload, where all arrive, on a split's first questions.

    Returns
    -------
    dict
        For each kind: `accuracy_bytes` and `accuracy`, [num_sizes], and `accuracy_lost`, from the questions alone.
    """
    import torch

    from semantic.tasks import normalize_answer

    questions = dataset.questions[:num_questions]
    codes, _ = encode_questions(agents, dataset, num_questions, batch_size)

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
            "accuracy_lost": np.array(lost),
        }
    return measured


def sizes_up_to(most: int) -> list[int]:
    """Return sizes in bytes from one to the largest, a quarter apart at most."""
    return sorted({min(most, int(2 ** (step / 3))) for step in range(3 * most.bit_length() + 1)})


def encode_questions(
    agents: "AgentLink", dataset: "Dataset", num_questions: int, batch_size: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of a split's first questions, [num_questions, num_tokens, width], and their images' numbers."""
    questions, codes = dataset.questions[:num_questions], []
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
