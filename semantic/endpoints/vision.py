"""Pretraining of the sensor's vision tower on dense labels from the scene files.

Classifiers read from every patch whether it holds an object's centre, where on the ground that object stands, and the
size, colour, material and shape of the object that covers the patch.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionModel

from semantic.data.clevr import ClevrDataset
from semantic.data.packing import IGNORE
from semantic.data.scenes import FIELD_OF_VIEW, HEIGHT, NUM_POSITION_BINS, RADIUS, WIDTH, position_bins
from semantic.endpoints.architecture import GRID, PATCH_SIZE, single_precision, vision_config
from semantic.loading import load_model, read_tensors, without_progress_bar
from semantic.tasks import ATTRIBUTES
from semantic.training import Metrics, fit, mixed_precision, save_half, write_card

HEADS = {
    **{name: len(values) for name, values in ATTRIBUTES.items()},
    "column": NUM_POSITION_BINS,
    "row": NUM_POSITION_BINS,
}


HEADS_FILE = "heads.safetensors"


def load_images(dataset: ClevrDataset, image_indices: list[int]) -> torch.Tensor:
    """Load images, resized as by the sensor's processor (bicubic): uint8 [num, 3, size, size]."""
    size = GRID * PATCH_SIZE

    def load(index: int) -> np.ndarray:
        image = Image.fromarray(dataset.image(index)).resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(image).transpose(2, 0, 1)

    with ThreadPoolExecutor(2) as pool:
        return torch.from_numpy(np.stack(list(pool.map(load, image_indices))))


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Map uint8 to [-1, 1], as by the sensor's processor (mean and deviation 0.5)."""
    return images.float() / 127.5 - 1


def patch_labels(scene: dict[str, Any], flip: bool = False, shift: tuple[int, int] = (0, 0)) -> dict[str, np.ndarray]:
    """Label the patches of a scene's image, possibly mirrored, then shifted by (right, down) pixels of the square.

    Returns
    -------
    dict of int64 [GRID * GRID]
        ``centre``: 0 or 1. ``column``, ``row``: bins at centres, unless shifted. Attributes: those of the nearest
        object whose projected disc covers the patch's middle. IGNORE elsewhere.
    """
    labels = {name: np.full(GRID * GRID, IGNORE) for name in HEADS} | {"centre": np.zeros(GRID * GRID, dtype=np.int64)}
    size = GRID * PATCH_SIZE
    focal = WIDTH / (2 * np.tan(np.radians(FIELD_OF_VIEW) / 2))
    objects = list(zip(scene["objects"], position_bins(scene), strict=True))
    for obj, (column, row) in sorted(objects, key=lambda o: -o[0]["pixel_coords"][2]):
        centre_x, centre_y, depth = obj["pixel_coords"]
        centre_x = (WIDTH - centre_x if flip else centre_x) + shift[0] * WIDTH / size
        centre_y = centre_y + shift[1] * HEIGHT / size
        covered = np.hypot(_MIDDLE_X - centre_x, _MIDDLE_Y - centre_y) < focal * RADIUS[obj["size"]] / depth
        patch_x, patch_y = int(centre_x / WIDTH * GRID), int(centre_y / HEIGHT * GRID)
        inside = 0 <= patch_x < GRID and 0 <= patch_y < GRID
        patch = patch_y * GRID + patch_x
        if inside:
            covered[patch] = True
            labels["centre"][patch] = 1
            if shift == (0, 0):
                labels["column"][patch] = NUM_POSITION_BINS - 1 - column if flip else column
                labels["row"][patch] = row
        for name, values in ATTRIBUTES.items():
            labels[name][covered] = values.index(obj[name])
    return labels


def augment(images: torch.Tensor, scenes: list[dict[str, Any]], rng: random.Random) -> tuple[torch.Tensor, list[dict]]:
    """Mirror each image with probability 1/2, shift it by up to a patch with probability 1/2, and label it."""
    out, labels = images.clone(), []
    for b, scene in enumerate(scenes):
        flip = rng.random() < 0.5
        shift = (rng.randint(-16, 16), rng.randint(-16, 16)) if rng.random() < 0.5 else (0, 0)
        image = images[b].flip(-1) if flip else images[b]
        out[b] = image.roll((shift[1], shift[0]), (1, 2))  # the pixels that come round are floor
        labels.append(patch_labels(scene, flip, shift))
    return out, labels


def stack_labels(labels: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Stack the labels of several images to int64 [num, GRID * GRID]."""
    return {name: torch.from_numpy(np.stack([part[name] for part in labels])) for name in labels[0]}


_middle = (np.arange(GRID) + 0.5) / GRID
_MIDDLE_X, _MIDDLE_Y = (m.ravel() for m in np.meshgrid(_middle * WIDTH, _middle * HEIGHT))


class DenseHeads(nn.Module):
    """Linear classifiers on each patch's feature, for the pretraining only."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.heads = nn.ModuleDict(
            {"centre": nn.Linear(hidden_size, 2)} | {k: nn.Linear(hidden_size, n) for k, n in HEADS.items()}
        )

    def forward(self, features: torch.Tensor, labels: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the summed cross-entropies, and the accuracies at the objects' centres."""
        features = self.norm(features)
        total, metrics = features.new_zeros(()), {}
        centre = labels["centre"] == 1
        for name, head in self.heads.items():
            where = labels[name] != IGNORE
            logits, target = head(features[where]), labels[name][where]
            weight = torch.tensor([1.0, 8.0]) if name == "centre" else None  # 4 or 5 of 144 patches hold a centre
            total = total + nn.functional.cross_entropy(logits, target, weight)
            right = (logits.detach().argmax(-1) == target)[centre[where]]
            if name in ("column", "row"):
                right = (logits.detach().argmax(-1) - target)[centre[where]].abs() <= 1
            metrics[name] = right.float().mean().item()
        return total, metrics


Split = tuple[torch.Tensor, list[dict[str, Any]]]  # images as `load_images` returns them, and their scenes


@single_precision()
def main(
    out: Path,
    data: Path,
    steps: int,
    seed: int = 0,
    batch: int = 32,
    lr: float = 1e-3,
    max_images: int | None = None,
    init: Path | None = None,
) -> None:
    """Train the sensor's vision tower on rendered scenes.

    Parameters
    ----------
    out : Path
        Folder for the tower, its classifiers, the log and the model card.
    data : Path
        Folder with the splits `train` and `val`, their scenes included.
    steps : int
        Number of training steps.
    seed : int
        Seed of the training.
    batch : int
        Images per step.
    lr : float
        Peak learning rate.
    max_images : int, optional
        Number of images of each split to use, the first ones.
    init : Path, optional
        Earlier result (tower and classifiers) to start from.
    """
    options = dict(locals())
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model, heads = load_tower(init)
    train, val = (load_split(data, split, max_images) for split in ("train", "val"))

    def step(share: float) -> tuple[torch.Tensor, Metrics]:
        images, scenes = train
        index = rng.sample(range(len(images)), batch)
        augmented, labels = augment(images[index], [scenes[i] for i in index], rng)
        return classify(model, heads, augmented, stack_labels(labels))

    def save() -> None:
        save_half(model, out)
        save_file(heads.state_dict(), Path(out) / HEADS_FILE)
        results = evaluate(model, heads, val)
        print("val", results, flush=True)
        title = "CLIP vision tower of the embedded sensor"
        write_card(out, title=title, stage="vision", options=options, results=results)

    fit(
        step,
        [*model.parameters(), *heads.parameters()],
        steps=steps,
        lr=lr,
        log=Path(out) / "training.jsonl",
        rng=rng,
        seed=seed,
        save=save,
        precision=mixed_precision(model),
    )


@without_progress_bar()
@single_precision()
def load_tower(init: Path | None) -> tuple[CLIPVisionModel, DenseHeads]:
    """Return a tower and its classifiers, with fresh weights or those of an earlier result."""
    model = CLIPVisionModel(vision_config()) if init is None else load_model(CLIPVisionModel, init)
    heads = DenseHeads(model.config.hidden_size)
    if init is not None:
        heads.load_state_dict(read_tensors(Path(init) / HEADS_FILE, heads.state_dict(), "these heads"))
    return model, heads


def load_split(data: Path, split: str, max_images: int | None) -> Split:
    """Load the images and scenes of a split."""
    dataset = ClevrDataset(data, split)
    scenes = dataset.scenes[:max_images]
    return load_images(dataset, [s["image_index"] for s in scenes]), scenes


def classify(
    model: CLIPVisionModel, heads: DenseHeads, images: torch.Tensor, labels: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, Metrics]:
    """Return loss and accuracies of the classifiers on images."""
    hidden = model(pixel_values=normalize(images), output_hidden_states=True).hidden_states[-1]
    return heads(hidden[:, 1:], labels)


@torch.no_grad()
def evaluate(model: CLIPVisionModel, heads: DenseHeads, split: Split, batch: int = 50) -> dict[str, float]:
    """Return the mean accuracies over a split."""
    images, scenes = split
    labels = stack_labels([patch_labels(scene) for scene in scenes])
    parts = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        parts.append(classify(model, heads, images[part], {name: label[part] for name, label in labels.items()})[1])
    return {name: round(float(np.mean([metrics[name] for metrics in parts])), 4) for name in parts[0]}
