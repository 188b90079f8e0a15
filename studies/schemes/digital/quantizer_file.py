"""The tables of the quantisers, learned from a pair's codes of training images: a file next to the pair's weights.

`tokenlink train quantizer` writes it. It fits these weights only, and names them.
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
    if "distortion" not in tables:
        raise ModelFileError(path, f"comes from another version; {remedy} anew")
    check_hash(folder / SETTINGS, read_settings(folder / SETTINGS), FILE)
    if problem := KINDS[kind].problem(tables, (agents.num_tokens, agents.width)):
        raise ModelFileError(path, f"holds no tables of kind {kind} for these agents: {problem}; {remedy} anew")
    return tables


def save_tables(folder: Path, codes: np.ndarray, model_hash: str) -> Path:
    """Learn every kind's tables from codes, [num_examples, num_tokens, width], and write them."""
    tables = {
        f"{kind}.{name}": np.ascontiguousarray(table, dtype=np.float16 if name.startswith(LARGE) else np.float32)
        for kind, quantizer in KINDS.items()
        for name, table in quantizer.learn(codes).items()
    }
    from semantic.agent_settings import SETTINGS
    from semantic.model_files import add_hash

    path = Path(folder).expanduser() / FILE
    save_file(tables, path, metadata={"model_hash": model_hash, "num_examples": str(len(codes))})
    add_hash(path.with_name(SETTINGS), FILE)
    return path


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
