"""CLEVR-like scenes: drawn at random, rendered by Mitsuba, written in CLEVR's own JSON layout.

The world is CLEVR's (Johnson et al., CVPR 2017): cubes, spheres and cylinders of two sizes, eight colours and two
materials on a grey floor. Any two objects are at least `MARGIN` apart along each ground direction, which makes every
spatial relation unambiguous, and each object is visible. Sizes, margins and colours are those of the CVPR paper's
public description; geometry, lights, camera and wording are our own.
"""

import io
import json
import math
import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from semantic.foreign_files import parse_json
from semantic.model_files import write_atomically
from semantic.tasks import ATTRIBUTES, DIRECTIONS, FAMILIES, ask

RGB = {
    "gray": (0.34, 0.34, 0.34),
    "red": (0.68, 0.10, 0.10),
    "blue": (0.16, 0.29, 0.84),
    "green": (0.11, 0.41, 0.08),
    "brown": (0.32, 0.19, 0.07),
    "purple": (0.50, 0.15, 0.75),
    "cyan": (0.16, 0.72, 0.72),
    "yellow": (0.95, 0.85, 0.15),
}
CONDITIONS = {  # of CLEVR-CoGenT: colours of cubes and of cylinders; spheres have any
    "A": {"cube": ("gray", "blue", "brown", "yellow"), "cylinder": ("red", "green", "purple", "cyan")},
    "B": {"cube": ("red", "green", "purple", "cyan"), "cylinder": ("gray", "blue", "brown", "yellow")},
}
RADIUS = {"small": 0.35, "large": 0.7}
HALF_WIDTH = 3.0  # objects lie in the square [-3, 3]^2 of the ground plane
GAP = 0.25  # smallest free space between two objects
MARGIN = 0.4  # smallest distance of two objects along each ground direction
MIN_VISIBLE_PIXELS = 30  # of the image, as rendered
WIDTH, HEIGHT, SAMPLES = 192, 128, 8
FIELD_OF_VIEW = 40.0  # [degrees], horizontal
JPEG_QUALITY = 92
NUM_POSITION_BINS = 24  # a bin is 0.36 wide, less than MARGIN: two objects never share one
POSITION_RANGE = 4.32


# --- drawing a scene -------------------------------------------------------------------------------------------


def draw_scene(
    rng: random.Random, min_objects: int = 3, max_objects: int = 6, condition: str | None = None
) -> dict[str, Any]:
    """Draw a scene in CLEVR's layout, without pixel coordinates: camera and light jitter, then objects by rejection.

    With a condition, cubes and cylinders have its colours only; see `CONDITIONS`.

    Returns
    -------
    dict
        Keys ``objects``, ``directions``, ``relationships`` and ``view`` (camera and light positions).
    """
    camera = [7.2 + rng.uniform(-0.3, 0.3), -6.6 + rng.uniform(-0.3, 0.3), 5.4 + rng.uniform(-0.3, 0.3)]
    light = [-4.0 + rng.uniform(-1, 1), -6.0 + rng.uniform(-1, 1), 9.0 + rng.uniform(-1, 1)]
    directions = ground_directions(camera)
    right, front = np.array(directions["right"][:2]), np.array(directions["front"][:2])
    while True:
        objects = _draw_objects(rng, rng.randint(min_objects, max_objects), right, front, condition)
        if objects is not None:
            break
    relationships = relate(objects, directions)
    return {"objects": objects, "directions": directions, "relationships": relationships, "view": [camera, light]}


def _draw_objects(
    rng: random.Random, count: int, right: np.ndarray, front: np.ndarray, condition: str | None
) -> list[dict[str, Any]] | None:
    colors = {} if condition is None else CONDITIONS[condition]
    objects: list[dict[str, Any]] = []
    placed: list[tuple[float, float, float, float, float]] = []
    for _ in range(count):
        size = rng.choice(ATTRIBUTES["size"])
        radius = RADIUS[size]
        for _ in range(50):
            x, y = rng.uniform(-HALF_WIDTH, HALF_WIDTH), rng.uniform(-HALF_WIDTH, HALF_WIDTH)
            u, v = x * right[0] + y * right[1], x * front[0] + y * front[1]
            if all(
                math.hypot(x - px, y - py) >= radius + pr + GAP and abs(u - pu) >= MARGIN and abs(v - pv) >= MARGIN
                for px, py, pr, pu, pv in placed
            ):
                break
        else:
            return None
        placed.append((x, y, radius, u, v))
        shape = rng.choice(ATTRIBUTES["shape"])
        height = radius / math.sqrt(2) if shape == "cube" else radius
        objects.append(
            {
                "size": size,
                "color": rng.choice(colors.get(shape, ATTRIBUTES["color"])),
                "material": rng.choice(ATTRIBUTES["material"]),
                "shape": shape,
                "3d_coords": [x, y, height],
                "rotation": rng.uniform(0, 360),
            }
        )
    return objects


def ground_directions(camera: Sequence[float]) -> dict[str, list[float]]:
    """Return the four ground directions, unit vectors, as a camera sees them that looks at the origin."""
    behind = np.array([-camera[0], -camera[1], 0.0])
    behind /= np.linalg.norm(behind)
    left = np.array([-behind[1], behind[0], 0.0])
    vectors = {"left": left, "right": -left, "front": -behind, "behind": behind}
    return {name: vector.tolist() for name, vector in vectors.items()}


def relate(objects: Sequence[dict], directions: dict[str, list[float]], eps: float = 0.2) -> dict[str, list[list[int]]]:
    """List, for each direction and object, the objects that lie on that side of it by more than `eps`."""
    coords = np.array([o["3d_coords"] for o in objects])
    related = {}
    for name in DIRECTIONS:
        along = coords @ np.array(directions[name])
        related[name] = [np.flatnonzero(along > along[i] + eps).tolist() for i in range(len(objects))]
    return related


def position_bins(scene: dict[str, Any]) -> list[tuple[int, int]]:
    """Return each object's (column, row): its position to the right and to the front, in bins finer than the margin."""
    coords = np.array([o["3d_coords"] for o in scene["objects"]])
    axes = np.array([scene["directions"]["right"], scene["directions"]["front"]])
    bins = np.floor((coords @ axes.T + POSITION_RANGE) / (2 * POSITION_RANGE) * NUM_POSITION_BINS).astype(int)
    return [(int(c), int(r)) for c, r in bins.clip(0, NUM_POSITION_BINS - 1)]


def describe(scene: dict[str, Any]) -> list[list[str]]:
    """Put a scene in words: size, colour, material, shape and position ("c07", "r15") of each object."""
    return [
        [o["size"], o["color"], o["material"], o["shape"], f"c{c:02d}", f"r{r:02d}"]
        for o, (c, r) in zip(scene["objects"], position_bins(scene), strict=True)
    ]


def questions_for(
    scene: dict[str, Any], rng: random.Random, per_family: int, families: Sequence[str] = FAMILIES
) -> list[dict[str, Any]]:
    """Ask up to `per_family` different questions of each family about a scene, as far as the scene allows."""
    if unknown := [name for name in families if name not in FAMILIES]:
        raise ValueError(f"families must be among {', '.join(FAMILIES)}, got {unknown[0]!r}")
    records = []
    for name in (name for name in FAMILIES if name in families):
        seen: set[str] = set()
        for _ in range(3 * per_family):
            drawn = ask(rng, scene, name)
            if drawn is None or len(seen) == per_family:
                break
            question, program, answer = drawn
            if question not in seen:
                seen.add(question)
                records.append({"question": question, "answer": answer, "program": program})
    return records


def pixel_coords(scene: dict[str, Any], width: int = WIDTH, height: int = HEIGHT) -> list[list[float]]:
    """Project each object's centre: [x in pixels, y in pixels, distance along the optical axis]."""
    camera = np.array(scene["view"][0])
    forward = np.array([0.0, 0.0, 0.2]) - camera
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    focal = width / (2 * math.tan(math.radians(FIELD_OF_VIEW) / 2))  # [pixels]
    rays = np.array([o["3d_coords"] for o in scene["objects"]]) - camera
    depth = rays @ forward
    x = width / 2 + focal * (rays @ right) / depth
    y = height / 2 - focal * (rays @ np.cross(right, forward)) / depth
    return np.round(np.stack([x, y, depth], axis=-1), 2).tolist()


def patch_index(scene: dict[str, Any], grid: int) -> list[int]:
    """Return the raster index, in a grid x grid partition of the image, of the patch with each object's centre."""
    centres = (
        [o["pixel_coords"] for o in scene["objects"]] if "pixel_coords" in scene["objects"][0] else pixel_coords(scene)
    )
    column_row = [
        (min(max(int(x / WIDTH * grid), 0), grid - 1), min(max(int(y / HEIGHT * grid), 0), grid - 1))
        for x, y, _ in centres
    ]
    return [row * grid + column for column, row in column_row]


# --- rendering -------------------------------------------------------------------------------------------------


class Renderer:
    """Render drawn scenes with Mitsuba 3 (path tracing, up to 3 bounces) and count the visible pixels of objects."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT, samples: int = SAMPLES) -> None:
        import mitsuba as mi

        mi.set_variant("scalar_rgb")
        self._mi: Any = mi  # its members depend on the variant, unknown to its stubs
        self.width, self.height, self.samples = width, height, samples

    def _scene(self, scene: dict[str, Any]) -> Any:
        mi, transform = self._mi, self._mi.ScalarTransform4f
        camera, light = scene["view"]
        content: dict[str, Any] = {
            "type": "scene",
            "sensor": {
                "type": "perspective",
                "fov": FIELD_OF_VIEW,
                "to_world": transform().look_at(origin=camera, target=[0, 0, 0.2], up=[0, 0, 1]),
                "film": {"type": "hdrfilm", "width": self.width, "height": self.height, "pixel_format": "rgb"},
            },
            "sky": {"type": "constant", "radiance": {"type": "rgb", "value": 0.4}},
            "key": {
                "type": "rectangle",
                "to_world": transform().look_at(origin=light, target=[0, 0, 0], up=[0, 0, 1]) @ transform().scale(2.0),
                "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [9.0, 9.0, 8.5]}},
            },
            "fill": {
                "type": "rectangle",
                "to_world": transform().look_at(origin=[8, 5, 7], target=[0, 0, 0], up=[0, 0, 1])
                @ transform().scale(1.5),
                "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [4.0, 4.0, 4.5]}},
            },
            "floor": {
                "type": "rectangle",
                "to_world": transform().scale(60),
                "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.5}},
            },
        }
        for i, obj in enumerate(scene["objects"]):
            content |= self._object(f"object{i}", obj)
        return mi.load_dict(content)

    def _object(self, name: str, obj: dict[str, Any]) -> dict[str, Any]:
        transform = self._mi.ScalarTransform4f
        color = {"type": "rgb", "value": list(RGB[obj["color"]])}
        if obj["material"] == "rubber":
            bsdf = {"type": "diffuse", "reflectance": color}
        else:
            bsdf = {"type": "roughconductor", "alpha": 0.08, "specular_reflectance": color}
        (x, y, z), radius = obj["3d_coords"], RADIUS[obj["size"]]
        if obj["shape"] == "sphere":
            return {name: {"type": "sphere", "center": [x, y, z], "radius": radius, "bsdf": bsdf}}
        if obj["shape"] == "cube":
            pose = transform().translate([x, y, z]) @ transform().rotate([0, 0, 1], obj["rotation"])
            return {name: {"type": "cube", "to_world": pose @ transform().scale(z), "bsdf": bsdf}}
        top = transform().translate([x, y, 2 * z]) @ transform().scale(radius)
        return {
            name: {"type": "cylinder", "p0": [x, y, 0], "p1": [x, y, 2 * z], "radius": radius, "bsdf": bsdf},
            name + "top": {"type": "disk", "to_world": top, "bsdf": bsdf},
        }

    def visible_pixels(self, scene: dict[str, Any]) -> list[int]:
        """Count the pixels that show each object, by a ray through every fourth pixel."""
        mi = self._mi
        loaded = self._scene(scene)
        sensor = loaded.sensors()[0]
        counts = dict.fromkeys(range(len(scene["objects"])), 0)
        step = 2
        for row in range(0, self.height, step):
            for column in range(0, self.width, step):
                pixel = mi.ScalarPoint2f((column + 0.5) / self.width, (row + 0.5) / self.height)
                ray, _ = sensor.sample_ray(0.0, 0.5, pixel, mi.ScalarPoint2f(0.5, 0.5))
                hit = loaded.ray_intersect_preliminary(ray)
                if hit.is_valid() and (name := hit.shape.id()).startswith("object"):
                    counts[int(name.removeprefix("object").removesuffix("top"))] += step * step
        return [counts[i] for i in range(len(counts))]

    def render(self, scene: dict[str, Any], seed: int) -> np.ndarray:
        """Render a scene to uint8 sRGB [height, width, 3]."""
        mi = self._mi
        integrator = mi.load_dict({"type": "path", "max_depth": 4})
        image = mi.render(self._scene(scene), integrator=integrator, spp=self.samples, seed=seed)
        return np.asarray(mi.Bitmap(image).convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.UInt8, srgb_gamma=True))


# --- files -----------------------------------------------------------------------------------------------------


def scene_rng(seed: int, split: str, index: int, purpose: str) -> random.Random:
    """Return the generator of one scene's layout or questions; it depends on the four arguments alone."""
    return random.Random(f"{seed}/{split}/{index}/{purpose}")


def draw_visible_scene(
    renderer: Renderer, rng: random.Random, min_objects: int, max_objects: int, condition: str | None = None
) -> dict[str, Any]:
    """Draw scenes until every object shows at least `MIN_VISIBLE_PIXELS` and has its centre in the image."""
    while True:
        scene = draw_scene(rng, min_objects, max_objects, condition)
        coords = pixel_coords(scene)
        if all(0 <= x < renderer.width and 0 <= y < renderer.height for x, y, _ in coords) and (
            min(renderer.visible_pixels(scene)) >= MIN_VISIBLE_PIXELS
        ):
            for obj, centre in zip(scene["objects"], coords, strict=True):
                obj["pixel_coords"] = centre
            return scene


_renderer: Renderer | None = None


def _render_one(
    index: int, *, out: Path, split: str, seed: int, min_objects: int, max_objects: int, condition: str | None = None
) -> None:
    global _renderer  # one Mitsuba per worker process
    name = f"CLEVR_{split}_{index:06d}"
    image_path, scene_path = out / "images" / split / f"{name}.jpg", out / "scenes" / split / f"{name}.json"
    if scene_path.exists():
        return
    _renderer = _renderer or Renderer()
    rng = scene_rng(seed, split, index, "layout")
    scene = draw_visible_scene(_renderer, rng, min_objects, max_objects, condition)
    buffer = io.BytesIO()
    Image.fromarray(_renderer.render(scene, seed=index)).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    write_atomically(image_path, buffer.getvalue())
    scene = {"image_index": index, "image_filename": image_path.name, "split": split, **scene}
    write_atomically(scene_path, json.dumps(scene).encode())  # last: it marks the image as whole


def _prepare_renderer() -> None:
    """Render on one thread, and end when the process that asked for the scenes does, however that ends."""
    import drjit

    drjit.set_thread_count(1)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(
    out: Path,
    count: int,
    split: str = "val",
    seed: int = 0,
    workers: int | None = None,
    questions_per_family: int = 2,
    min_objects: int = 3,
    max_objects: int = 6,
    condition: str | None = None,
    families: list[str] | None = None,
) -> None:
    """Render scenes and their questions, in CLEVR's folder layout; finished scenes are kept.

    Parameters
    ----------
    out : Path
        Folder that gets ``images/SPLIT/*.jpg``, ``scenes/CLEVR_SPLIT_scenes.json`` and
        ``questions/CLEVR_SPLIT_questions.json``.
    count : int
        Number of scenes. A scene depends on seed, split and its own number alone.
    split : str
        Name of the split.
    seed : int
        Seed of the scenes and questions.
    workers : int, optional
        Number of processes; by default one per core.
    questions_per_family : int
        Questions of each family per scene, as far as the scene allows.
    min_objects, max_objects : int
        Range of the number of objects in a scene.
    condition : str, optional
        Condition of CLEVR-CoGenT, A or B: cubes and cylinders have half of the colours each, and B exchanges the halves
        of A. By default every shape has any colour.
    families : list of str, optional
        Families of questions; by default all six.

    Raises
    ------
    ValueError
        If an option is nothing that can be drawn, or the folder holds scenes of other settings.
    """
    if condition not in (None, *CONDITIONS):
        raise ValueError(f"condition must be {' or '.join(CONDITIONS)}, got {condition!r}; leave it out for any colour")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    out = Path(out).expanduser()
    settings: dict[str, Any] = {"seed": seed, "min_objects": min_objects, "max_objects": max_objects}
    settings |= {"condition": condition} if condition else {}
    for folder in (out / "images" / split, out / "scenes" / split, out / "questions"):
        folder.mkdir(parents=True, exist_ok=True)
    _refuse_other_settings(out / "scenes" / split / "settings.json", settings)
    render = partial(_render_one, out=out, split=split, **settings)
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn"), _prepare_renderer) as pool:
        for _ in tqdm(pool.map(render, range(count), chunksize=8), total=count, desc=f"{split} scenes", unit="scene"):
            pass
    paths = [out / "scenes" / split / f"CLEVR_{split}_{i:06d}.json" for i in range(count)]
    scenes = [parse_json(path, path.read_bytes()) for path in paths]
    info = {"split": split, "license": "Apache-2.0", "generator": "tokenlink scenes", **settings}
    write_atomically(out / "scenes" / f"CLEVR_{split}_scenes.json", _compact({"info": info, "scenes": scenes}).encode())
    questions = []
    for scene in scenes:
        rng = scene_rng(seed, split, scene["image_index"], "questions")
        for record in questions_for(scene, rng, questions_per_family, families or FAMILIES):
            image = {"image_index": scene["image_index"], "image_filename": scene["image_filename"], "split": split}
            questions.append({**image, "question_index": len(questions), **record})
    write_atomically(
        out / "questions" / f"CLEVR_{split}_questions.json",
        _compact({"info": info, "questions": questions}).encode(),
    )


def _compact(content: dict[str, Any]) -> str:
    rounded = json.loads(json.dumps(content), parse_float=lambda digits: round(float(digits), 5))
    return json.dumps(rounded, separators=(",", ":"))


def _refuse_other_settings(path: Path, settings: dict[str, Any]) -> None:
    if not path.exists():
        write_atomically(path, json.dumps(settings).encode())
    elif (earlier := parse_json(path, path.read_bytes())) != settings:
        raise ValueError(
            f"{path.parent} holds scenes drawn with {earlier}, this run asks for {settings}; use another --out"
        )
