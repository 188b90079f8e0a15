from typing import get_type_hints

import numpy as np
import pytest
from PIL import Image

from semantic.data import DATASETS, ClevrDataset, Dataset, Question, load_dataset, shipped_split
from tests.semantic.models import write_split
from tests.semantic.test_easy_vqa import write_easy_vqa
from tests.semantic.test_gqa import write_gqa

WRITERS = {
    "clevr": write_split,
    "easy-vqa": write_easy_vqa,
    "gqa": write_gqa,
}  # a new layout adds the function that writes a small split of it


def members(protocol):
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clevr")
    write_split(folder, "val", 3)
    return folder


@pytest.mark.parametrize("layout", DATASETS)
def test_every_reader_offers_what_studies_and_training_read(layout, tmp_path):
    WRITERS[layout](tmp_path, "val", 2)
    dataset = load_dataset(tmp_path, "val", layout)
    assert all(hasattr(dataset, name) for name in members(Dataset))
    assert len(dataset.data_hash) == 64
    for question in dataset.questions:
        for name in members(Question):
            kind = get_type_hints(getattr(Question, name).fget)["return"]
            assert isinstance(getattr(question, name), kind), name
        image = dataset.image(question.image_index)
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


def test_images_may_have_any_size_each(folder):
    dataset = ClevrDataset(folder, "val")
    path = folder / "images" / "val" / dataset.questions[1].image_filename
    before = path.read_bytes()
    Image.new("RGB", (31, 17)).save(path)
    sizes = {dataset.image(question.image_index).shape for question in dataset.questions}
    path.write_bytes(before)
    assert sizes == {(128, 192, 3), (17, 31, 3)}


def test_without_a_folder_the_shipped_split_is_read():
    dataset = load_dataset(None, "test")
    assert isinstance(dataset, ClevrDataset)
    assert (dataset.folder, dataset.split) == (shipped_split().folder, "test")


def test_the_home_folder_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_dataset(f"~/{folder.name}", "val").data_hash == ClevrDataset(folder, "val").data_hash


def test_an_unknown_layout_is_refused_with_those_that_are_known(folder):
    with pytest.raises(ValueError, match="data layout must be one of clevr, easy-vqa, gqa; got 'vqa'"):
        load_dataset(folder, "val", "vqa")


def test_another_split_without_a_folder_is_refused_rather_than_replaced_by_the_shipped_one():
    with pytest.raises(
        ValueError, match=r"only the shipped split can be read: 'test'.*got split 'val'.*Give the folder"
    ):
        load_dataset(None, "val")
