"""The guide of the folder does what it says: its code blocks are run as they are written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import semantic
from semantic import AgentLink, agent_training, training
from tests.semantic.models import NoisyChannel, pictures, write_split

FOLDER = Path(semantic.__file__).parent
TEXT = (FOLDER / "README.md").read_text()


def blocks(heading, language="python"):
    """Return the code blocks of a section."""
    level = len(heading) - len(heading.lstrip("#"))
    section = TEXT.partition(f"\n{heading}\n")[2]
    section = re.split(rf"^#{{2,{level}}} ", section, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, f"{heading} has no block"
    return found


def test_every_file_of_the_folder_is_named():
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("data/*.py")]:
        if path.name != "__init__.py":
            assert f"`{path.relative_to(FOLDER)}`" in TEXT, path


@pytest.mark.slow
def test_one_question_is_asked_and_answered_as_printed():
    (code,), (printed,) = blocks("## Ask one question"), blocks("## Ask one question", "text")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_adding_a_data_set_takes_one_file_and_one_row(tmp_path):
    new_file, row, use = blocks("### Recipe: adding a data set")
    copy = tmp_path / "semantic"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("pretrained", "clevr-mini", "__pycache__"))
    name = new_file.splitlines()[0].removeprefix("# ")
    assert not (tmp_path / name).exists()
    (tmp_path / name).write_text(new_file)
    place, *added = row.splitlines()
    seam = tmp_path / place.removeprefix("# ")
    lines = seam.read_text().splitlines()
    (old_row,) = [number for number, line in enumerate(lines) if line.startswith("DATASETS")]
    lines[old_row] = "\n".join(line for line in added if line)
    seam.write_text("\n".join(lines))

    data = tmp_path / "FOLDER"
    data.mkdir()
    for number, (picture, size) in enumerate(zip(pictures(2), ((40, 30), (24, 24)), strict=True)):
        Image.fromarray(picture).resize(size).save(data / f"{number}.png")
    (data / "val.csv").write_text(
        "image,question,answer,kind\n1.png,what is it ?,red,colour\n0.png,how many ?,2,number\n1.png,how ?,so,manner\n"
    )
    script = "from semantic.data import load_dataset\n" + use
    script += "print([(dataset.image(q.image_index).shape, q.question, q.answer, q.family) for q in dataset.questions])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "[((24, 24, 3), 'what is it ?', 'red', 'colour'), ((30, 40, 3), 'how many ?', '2', 'number'), "
        "((24, 24, 3), 'how ?', 'so', 'manner')]"
    )


def test_bringing_a_pair_of_models_makes_a_folder_that_can_be_used_and_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_split(tmp_path / "scenes", split, 3)
    monkeypatch.setattr(
        agent_training, "fit", lambda step, groups, **options: training.fit(step, groups, **{**options, "steps": 1})
    )
    namespace = {"channel": NoisyChannel()}
    models, first_folder, trained = blocks("### Recipe: bringing a pair of models")
    exec(models, namespace)
    exec(first_folder, namespace)
    fresh = AgentLink.from_pretrained("pair")
    assert (fresh.num_tokens, fresh.width) == (5, 64)
    exec(trained, namespace)
    agents = AgentLink.from_pretrained("trained")
    assert not torch.equal(agents.sensor.slots, fresh.sensor.slots)
    agents.channel = NoisyChannel()
    assert len(agents.answer(pictures(2), ["how many things are there ?"] * 2, snr_db=20.0)) == 2
