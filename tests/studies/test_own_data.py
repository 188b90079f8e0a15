"""A data set with a layout of its own: one small reader, one line in the table of layouts."""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from semantic import data
from semantic.data import DATASETS
from studies import accuracy_vs_snr, curves, sweep, tables
from studies.accuracy_vs_snr import STUDY, Config
from studies.config import resolve

SIZES = ((24, 32), (48, 40))  # height, width: every other image is larger


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the file: a question that comes without a program."""

    image_index: int
    question: str
    answer: str
    family: str = "free"


class Lines:
    """A split is a file of tab-separated lines, image, question and answer, beside its images."""

    def __init__(self, folder, split):
        self.folder, self.content = folder, (folder / f"{split}.tsv").read_bytes()
        rows = [line.split("\t") for line in self.content.decode().splitlines()]
        self.questions = [Line(int(index), question, answer) for index, question, answer in rows]

    @property
    def data_hash(self):
        images = (self.image(index) for index in sorted({question.image_index for question in self.questions}))
        return hashlib.sha256(self.content + b"".join(image.tobytes() for image in images)).hexdigest()

    def image(self, image_index):
        return np.asarray(Image.open(self.folder / f"{image_index}.png"))


@pytest.fixture
def folder(tmp_path):
    """Twelve images, a grey above a ramp; each is asked for its grey's level twice."""
    folder = tmp_path / "lines"
    folder.mkdir()
    for i in range(12):
        image = np.full((*SIZES[i % 2], 3), i, np.uint8)
        image[16:] = np.linspace(0, 200, image.shape[1], dtype=np.uint8)[:, None]
        Image.fromarray(image).save(folder / f"{i}.png")
    lines = [f"{i}\twhich level is it, {k}?\t{i}" for i in range(12) for k in range(2)]
    (folder / "val.tsv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def own(fakes, stand_in, folder, monkeypatch):
    """A small study that reads the folder, by every curve."""
    monkeypatch.setitem(DATASETS, "lines", Lines)
    stand_in(sweep, "dataset_for", lambda config: data.load_dataset(config.folder, config.split, config.layout))
    data_config = {"folder": str(folder), "split": "val", "layout": "lines"}
    return Config(num_questions=20, batch_size=7, snr_db=(10.0, 40.0), data=data_config)


def test_a_study_runs_over_a_reader_in_one_file(own, tmp_path):
    schemes = [name for name in curves.CURVES if not name.startswith("deepjscc")]  # whose networks have one size
    results, failed, _ = accuracy_vs_snr.main(own.updated({"schemes": schemes}), out=tmp_path / "run")
    assert not failed, failed
    assert set(results.variables["family"]) == {"free"}
    assert results.attributes["data_hash"] == Lines(tmp_path / "lines", "val").data_hash
    assert (results.of("accuracy", "raw-image") == 1).all()
    assert results.of("accuracy", "machine-tokens")[-1] == 1
    assert results.of("accuracy", "jpeg-ldpc")[-1] > 0.5  # images of both sizes arrive
    assert results.of("psnr", "jpeg-ldpc")[-1] > 30
    assert tables.family_table(results).header == ["scheme / family", "free (20)"]


def test_points_depend_on_the_reader_and_on_what_it_reads(own, folder, tmp_path):
    def names():
        sweep.workbench_for.cache_clear()
        sweep.scheme_for.cache_clear()
        return {job.id for job in STUDY.plan(own, tmp_path).jobs}

    before = names()
    assert names() == before
    (folder / "0.png").write_bytes((folder / "2.png").read_bytes())
    assert not names() & before


def test_an_unknown_layout_gets_one_clear_message(fresh, tmp_path):
    config = resolve(Config, assignments=["data.layout=vqa", f"data.folder={tmp_path}"])
    with pytest.raises(ValueError, match=r"^data layout must be one of clevr, easy-vqa, gqa; got 'vqa'$"):
        STUDY.plan(config, tmp_path)
