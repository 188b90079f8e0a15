"""Scenes and questions that several tests look at."""

import functools
import random

from semantic.data.scenes import draw_scene, questions_for
from semantic.tasks import DIRECTIONS


def thing(size, color, material, shape):
    return {"size": size, "color": color, "material": material, "shape": shape}


# Seen from the camera, from left to right: 0, 1, 2, 3; from front to behind: 2, 0, 3, 1.
FOUR_THINGS = {
    "objects": [
        thing("small", "red", "rubber", "cube"),
        thing("large", "red", "metal", "sphere"),
        thing("large", "blue", "metal", "cube"),
        thing("small", "green", "metal", "cylinder"),
    ],
    "relationships": {
        "left": [[], [0], [0, 1], [0, 1, 2]],
        "right": [[1, 2, 3], [2, 3], [3], []],
        "front": [[2], [0, 2, 3], [], [0, 2]],
        "behind": [[1, 3], [], [0, 1, 3], [1]],
    },
}


@functools.cache
def drawn_scenes(count=60):
    return [draw_scene(random.Random(f"scene {i}")) for i in range(count)]


@functools.cache
def asked(count=60, per_family=4):
    """Return (scene, question record) pairs about drawn scenes."""
    return [
        (scene, record)
        for i, scene in enumerate(drawn_scenes(count))
        for record in questions_for(scene, random.Random(f"questions {i}"), per_family)
    ]


def shuffled(scene, order):
    """Return the scene with its objects listed in another order: object `order[k]` comes k-th."""
    place = {old: new for new, old in enumerate(order)}
    relationships = {
        side: [sorted(place[j] for j in scene["relationships"][side][old]) for old in order] for side in DIRECTIONS
    }
    return {**scene, "objects": [scene["objects"][old] for old in order], "relationships": relationships}
