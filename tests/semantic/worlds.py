"""Scenes and questions that several tests look at."""

import functools
import random
import re

import numpy as np

from semantic.data.scenes import draw_scene, questions_for, relate
from semantic.tasks import ATTRIBUTES, DIRECTIONS, SYNONYMS


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


def reflected(scene):
    """Return the scene as the mirrored picture shows it: reflected at the upright plane through the camera's axis."""
    right = np.array(scene["directions"]["right"])
    objects = []
    for obj in scene["objects"]:
        place = np.array(obj["3d_coords"])
        objects.append({**obj, "3d_coords": (place - 2 * (place @ right) * right).tolist()})
        objects[-1].pop("pixel_coords", None)
    return {**scene, "objects": objects, "relationships": relate(objects, scene["directions"])}


VALUE_OF = {word: value for values in ATTRIBUTES.values() for value in values for word in SYNONYMS.get(value, (value,))}
VALUE_OF |= {word + "s": value for word, value in VALUE_OF.items() if value in ATTRIBUTES["shape"]}
TAIL = re.compile(r" (left of|right of|in front of|behind|with the same (\w+) as) the ")


class Reader:
    """Answers from the words alone: what a pupil who has the picture and the question, but no program, would do."""

    def __init__(self, scene):
        self.objects, self.relationships = scene["objects"], scene["relationships"]

    def things(self, phrase):
        phrase, tail, anchor = phrase, TAIL.search(phrase), None
        found = range(len(self.objects))
        if tail:
            anchor = self.thing(phrase[tail.end() :])
            phrase = phrase[: tail.start()]
            if attribute := tail[2]:
                found = [i for i in found if i != anchor and self.the(attribute, i) == self.the(attribute, anchor)]
            else:
                side = {"left of": "left", "right of": "right", "in front of": "front"}.get(tail[1], tail[1])
                found = self.relationships[side][anchor]
        assert ("other " in f" {phrase}") == bool(tail and tail[2])  # "other" goes with "same", and with nothing else
        words = [w for w in phrase.split() if w not in ("other", "thing", "things", "object", "objects")]
        return [i for i in found if all(VALUE_OF[w] in self.objects[i].values() for w in words)]

    def thing(self, phrase):
        (only,) = self.things(phrase)
        return only

    def the(self, attribute, index):
        return self.objects[index][attribute]

    def answer(self, question):
        text = question.removesuffix(" ?").replace("another", "a other")
        yes = {True: "yes", False: "no"}
        for pattern in (
            r"what (?P<a>color|shape|size|material) is the (?P<x>.+)",
            r"what is the (?P<a>color|shape|size) of the (?P<x>.+)",
            r"what is the (?P<x>.+) (?P<a>made of)",
        ):
            if m := re.fullmatch(pattern, text):
                return self.the({"made of": "material"}.get(m["a"], m["a"]), self.thing(m["x"]))
        if m := re.fullmatch(r"is there a (.+)|is a (.+) visible", text):
            return yes[bool(self.things(m[1] or m[2]))]
        if m := re.fullmatch(r"how many (.+) are there|what number of (.+) are visible", text):
            return str(len(self.things(m[1] or m[2])))
        if m := re.fullmatch(r"how many (.+) are ((?:left|right|in front|behind|with) .+)", text):
            return str(len(self.things(f"{m[1]} {m[2]}")))
        if m := re.fullmatch(r"does the (.+) have the same (\w+) as the (.+)", text):
            return yes[self.the(m[2], self.thing(m[1])) == self.the(m[2], self.thing(m[3]))]
        if m := re.fullmatch(r"is the (color|shape|size|material) of the (.+) that of the (.+)", text):
            return yes[self.the(m[1], self.thing(m[2])) == self.the(m[1], self.thing(m[3]))]
        for pattern, holds in (
            (r"are there as many (.+) as (.+)|is the number of (.+) equal to the number of (.+)", "__eq__"),
            (r"are there fewer (.+) than (.+)|is the number of (.+) less than the number of (.+)", "__lt__"),
            (r"are there more (.+) than (.+)|is the number of (.+) greater than the number of (.+)", "__gt__"),
        ):
            if m := re.fullmatch(pattern, text):
                first, second = (len(self.things(phrase)) for phrase in m.groups() if phrase)
                return yes[getattr(first, holds)(second)]
        raise AssertionError(f"a question in unknown words: {question}")
