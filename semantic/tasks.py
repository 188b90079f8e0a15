"""The task world: attributes, questions with functional programs, and the executor that answers them.

Programs and files keep CLEVR's layout (Johnson et al., CVPR 2017): a program is a list of nodes
``{"function", "inputs", "value_inputs"}``, and the last node's value is the answer. The same executor therefore answers
CLEVR's own programs and ours. Templates and wording are our own.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": ("small", "large"),
    "color": ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    "material": ("rubber", "metal"),
    "shape": ("cube", "sphere", "cylinder"),
}
DIRECTIONS = ("left", "right", "front", "behind")
FAMILIES = ("query", "exist", "count", "compare", "spatial", "same")
ZERO_HOP = ("query", "exist", "count")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "tiny"),
    "large": ("large", "big"),
    "rubber": ("rubber", "matte"),
    "metal": ("metal", "shiny"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "thing": ("thing", "object"),
}
PLURALS = {
    **{word: word + "s" for noun in ("cube", "sphere", "cylinder", "thing") for word in SYNONYMS.get(noun, (noun,))},
}
RELATION_PHRASES = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}

Scene = Mapping[str, Any]
Node = dict[str, Any]
Filters = dict[str, str]


# --- executing a program ---------------------------------------------------------------------------------------


def execute(program: Sequence[Node], scene: Scene) -> str:
    """Answer a functional program on a scene.

    Parameters
    ----------
    program : sequence of nodes, CLEVR's layout (``type`` is accepted for ``function``, as some exports have it)
    scene : mapping with ``objects`` and ``relationships``, CLEVR's layout

    Returns
    -------
    str
        "yes"/"no", a number, or an attribute's value.

    Raises
    ------
    ValueError
        If a function is unknown, or ``unique`` meets no or several objects.
    """
    answer = execute_steps(program, scene)[-1]
    return ("yes" if answer else "no") if isinstance(answer, bool) else str(answer)


def execute_steps(program: Sequence[Node], scene: Scene) -> list[Any]:
    """Return every node's value: lists of objects, an object, a number, a word, a truth value. See `execute`."""
    objects, relationships = scene["objects"], scene["relationships"]
    values: list[Any] = []
    for node in program:
        function = node.get("function") or node["type"]
        args = [values[i] for i in node["inputs"]]
        side = node.get("value_inputs") or node.get("side_inputs") or [None]
        values.append(_apply(function, args, side[0], objects, relationships))
    return values


def _apply(function: str, args: list[Any], side: str | None, objects: Sequence[Mapping], relationships: Mapping) -> Any:
    if function == "scene":
        return list(range(len(objects)))
    if function == "unique":
        if len(args[0]) != 1:
            raise ValueError(
                f"unique met {len(args[0])} objects instead of one; the question is ill-posed for this scene"
            )
        return args[0][0]
    if function == "relate":
        return list(relationships[side][args[0]])
    if function == "count":
        return len(args[0])
    if function == "exist":
        return bool(args[0])
    if function in ("intersect", "union"):
        first, second = set(args[0]), set(args[1])
        return sorted(first & second if function == "intersect" else first | second)
    if function in ("equal_integer", "less_than", "greater_than"):
        return {"equal_integer": args[0] == args[1], "less_than": args[0] < args[1], "greater_than": args[0] > args[1]}[
            function
        ]
    verb, _, attribute = function.partition("_")
    if attribute in ATTRIBUTES:
        if verb == "filter":
            return [i for i in args[0] if objects[i][attribute] == side]
        if verb == "query":
            return objects[args[0]][attribute]
        if verb == "same":
            return [
                i for i, other in enumerate(objects) if i != args[0] and other[attribute] == objects[args[0]][attribute]
            ]
        if verb == "equal":
            return args[0] == args[1]
    raise ValueError(f"unknown program function {function!r}; known are CLEVR's own")


_SETS, _NUMBERS = ("set", "set"), ("number", "number")
SIGNATURES: dict[str, tuple[tuple[str, ...], str]] = {
    "scene": ((), "set"),
    "unique": (("set",), "object"),
    "relate": (("object",), "set"),
    "count": (("set",), "number"),
    "exist": (("set",), "truth"),
    "intersect": (_SETS, "set"),
    "union": (_SETS, "set"),
    "equal_integer": (_NUMBERS, "truth"),
    "less_than": (_NUMBERS, "truth"),
    "greater_than": (_NUMBERS, "truth"),
    **{f"filter_{attribute}": (("set",), "set") for attribute in ATTRIBUTES},
    **{f"same_{attribute}": (("object",), "set") for attribute in ATTRIBUTES},
    **{f"query_{attribute}": (("object",), attribute) for attribute in ATTRIBUTES},
    **{f"equal_{attribute}": ((attribute, attribute), "truth") for attribute in ATTRIBUTES},
}  # kinds of each function's inputs and of its value
VALUES: dict[str, tuple[str, ...]] = {
    "relate": DIRECTIONS,
    **{f"filter_{attribute}": values for attribute, values in ATTRIBUTES.items()},
}  # of functions that take one


def check_program(program: Sequence[Node]) -> str:
    """Return the kind of a program's answer: "truth", "number", or an attribute.

    Raises
    ------
    ValueError
        If it could not be executed on any scene, or ends in no answer.
    """
    kinds: list[str] = []
    for index, node in enumerate(program):
        function, inputs, given = node["function"], node["inputs"], node["value_inputs"]
        if function not in SIGNATURES:
            raise ValueError(f"node {index} of the program has the unknown function {function!r:.80}")
        needed, kind = SIGNATURES[function]
        if any(not 0 <= k < index for k in inputs):
            raise ValueError(
                f"node {index} of the program, {function}, takes inputs {inputs}, which do not come before it"
            )
        found = tuple(kinds[k] for k in inputs)
        if found != needed:
            raise ValueError(f"node {index} of the program, {function}, takes {needed or 'no input'}, got {found}")
        values = VALUES.get(function)
        if len(given) != (values is not None) or (values and given[0] not in values):
            among = f"one of {', '.join(values)}" if values else "no value"
            raise ValueError(f"node {index} of the program, {function}, takes {among}, got {given!r:.80}")
        kinds.append(kind)
    if not kinds or kinds[-1] in ("set", "object"):
        raise ValueError(f"the program ends in {kinds[-1] if kinds else 'nothing'}, which is no answer")
    return kinds[-1]


def answers_to(kind: str, answer: str) -> bool:
    """Return whether an answer is of a kind, as `check_program` returns it."""
    if kind == "truth":
        return answer in ("yes", "no")
    return answer in ATTRIBUTES[kind] if kind in ATTRIBUTES else answer.isdecimal()


def family(program: Sequence[Node]) -> str:
    """Name the question family of a program by its functions alone, which works for CLEVR's files too."""
    functions = [node.get("function") or node["type"] for node in program]
    if "relate" in functions:
        return "spatial"
    if any(f.startswith("same_") for f in functions):
        return "same"
    if functions[-1].startswith(("equal_", "less_", "greater_")):
        return "compare"
    return functions[-1].partition("_")[0]  # query, exist or count


def normalize_answer(text: str) -> str:
    """Return an answer as CLEVR's exact match compares it: in lower case, without outer space or final full stop."""
    return text.strip().strip(".").strip().lower()


# --- writing a program and its wording -------------------------------------------------------------------------


class _Program:
    """A program under construction; each method appends nodes and returns the last one's index."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, function: str, *inputs: int, value: str | None = None) -> int:
        value_inputs = [] if value is None else [value]
        self.nodes.append({"function": function, "inputs": list(inputs), "value_inputs": value_inputs})
        return len(self.nodes) - 1

    def filter(self, filters: Filters, start: int | None = None) -> int:
        node = self.add("scene") if start is None else start
        for attribute, value in filters.items():
            node = self.add(f"filter_{attribute}", node, value=value)
        return node

    def unique(self, filters: Filters, start: int | None = None) -> int:
        return self.add("unique", self.filter(filters, start))


def _noun_phrase(rng: random.Random, filters: Filters, plural: bool = False) -> str:
    words = [rng.choice(SYNONYMS.get(filters[a], (filters[a],))) for a in ("size", "color", "material") if a in filters]
    noun = rng.choice(SYNONYMS.get(filters.get("shape", "thing"), (filters.get("shape", "thing"),)))
    return " ".join([*words, PLURALS[noun] if plural else noun])


def _matches(obj: Mapping, filters: Filters) -> bool:
    return all(obj[a] == v for a, v in filters.items())


def _attribute_sets(rng: random.Random, sizes: Iterable[int], exclude: Iterable[str] = ()) -> list[tuple[str, ...]]:
    names = [a for a in ATTRIBUTES if a not in exclude]
    sets = []
    for size in sizes:
        level = list(combinations(names, size))
        rng.shuffle(level)
        sets += level
    return sets


def _refer(rng: random.Random, objects: Sequence[Mapping], target: int, exclude: Iterable[str] = ()) -> Filters | None:
    """Find a description, without the excluded attributes, that fits the target object alone."""
    for names in _attribute_sets(rng, (1, 2, 3, 4), exclude):
        filters = {a: objects[target][a] for a in names}
        if sum(_matches(o, filters) for o in objects) == 1:
            return filters
    return None


def _ask_attribute(rng: random.Random, exclude: Iterable[str] = ()) -> str:
    """Draw the asked attribute; colour and shape more often, because two-valued answers can be guessed."""
    names = [a for a in ATTRIBUTES if a not in exclude]
    weights = {"color": 0.4, "shape": 0.3, "material": 0.15, "size": 0.15}
    return rng.choices(names, [weights[a] for a in names])[0]


def _filters_with_count(
    rng: random.Random, objects: Sequence[Mapping], names: Sequence[str], wanted: int
) -> Filters | None:
    """Draw values for the named attributes such that exactly `wanted` of the objects match."""
    counts = Counter(tuple(o[a] for a in names) for o in objects)
    if wanted:
        fitting = [values for values, n in counts.items() if n == wanted]
        return dict(zip(names, rng.choice(sorted(fitting)), strict=True)) if fitting else None
    for _ in range(8):
        values = tuple(rng.choice(ATTRIBUTES[a]) for a in names)
        if values not in counts:
            return dict(zip(names, values, strict=True))
    return None


def _ask_set(
    rng: random.Random, objects: Sequence[Mapping], within: Sequence[int], kind: str, exclude: Iterable[str] = ()
) -> Filters | None:
    """Draw filters for an exist or count question over the objects `within`, its answer drawn first."""
    subset = [objects[i] for i in within]
    names = rng.choice(_attribute_sets(rng, (1, 1, 2) if kind == "count" else (1, 2, 2), exclude))
    if kind == "exist":
        wanted = rng.random() < 0.5
        if not wanted:
            return _filters_with_count(rng, subset, names, 0)
        if not subset:
            return None
        obj = rng.choice(subset)
        return {a: obj[a] for a in names}
    return _filters_with_count(rng, subset, names, rng.choice((0, 1, 2, 3)))


def _query(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    objects, asked = scene["objects"], _ask_attribute(rng)
    filters = _refer(rng, objects, rng.randrange(len(objects)), exclude=(asked,))
    if filters is None:
        return None
    p = _Program()
    p.add(f"query_{asked}", p.unique(filters))
    return _query_wording(rng, asked, f"the {_noun_phrase(rng, filters)}"), p.nodes


def _query_wording(rng: random.Random, asked: str, subject: str) -> str:
    if asked == "material":
        return rng.choice((f"what is {subject} made of ?", f"what material is {subject} ?"))
    return rng.choice((f"what {asked} is {subject} ?", f"what is the {asked} of {subject} ?"))


def _exist(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    filters = _ask_set(rng, scene["objects"], range(len(scene["objects"])), "exist")
    if filters is None:
        return None
    p = _Program()
    p.add("exist", p.filter(filters))
    return rng.choice(
        (f"is there a {_noun_phrase(rng, filters)} ?", f"is a {_noun_phrase(rng, filters)} visible ?")
    ), p.nodes


def _count(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    filters = _ask_set(rng, scene["objects"], range(len(scene["objects"])), "count")
    if filters is None:
        return None
    p = _Program()
    p.add("count", p.filter(filters))
    things = _noun_phrase(rng, filters, plural=True)
    return rng.choice((f"how many {things} are there ?", f"what number of {things} are visible ?")), p.nodes


def _compare(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    return _compare_numbers(rng, scene) if rng.random() < 0.5 else _compare_attribute(rng, scene)


def _compare_numbers(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    objects = scene["objects"]
    function = rng.choice(("equal_integer", "less_than", "greater_than"))
    wanted = rng.random() < 0.5
    attribute = rng.choice(tuple(ATTRIBUTES))
    other = attribute if rng.random() < 0.5 else rng.choice(tuple(ATTRIBUTES))
    for _ in range(12):  # new values only: redrawing the attributes too would let them give the answer away
        first = {attribute: rng.choice(objects)[attribute] if rng.random() < 0.7 else rng.choice(ATTRIBUTES[attribute])}
        second = {other: rng.choice(objects)[other] if rng.random() < 0.7 else rng.choice(ATTRIBUTES[other])}
        a, b = (sum(_matches(o, f) for o in objects) for f in (first, second))
        holds = {"equal_integer": a == b, "less_than": a < b, "greater_than": a > b}[function]
        if first != second and holds == wanted:
            break
    else:
        return None
    p = _Program()
    p.add(function, p.add("count", p.filter(first)), p.add("count", p.filter(second)))
    x, y = (_noun_phrase(rng, f, plural=True) for f in (first, second))
    wordings = {
        "equal_integer": (f"are there as many {x} as {y} ?", f"is the number of {x} equal to the number of {y} ?"),
        "less_than": (f"are there fewer {x} than {y} ?", f"is the number of {x} less than the number of {y} ?"),
        "greater_than": (f"are there more {x} than {y} ?", f"is the number of {x} greater than the number of {y} ?"),
    }
    return rng.choice(wordings[function]), p.nodes


def _compare_attribute(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    objects, asked = scene["objects"], _ask_attribute(rng)
    wanted = rng.random() < 0.5
    pairs = [
        (i, j)
        for i in range(len(objects))
        for j in range(len(objects))
        if i != j and (objects[i][asked] == objects[j][asked]) == wanted
    ]
    if not pairs:
        return None
    i, j = rng.choice(pairs)
    first, second = _refer(rng, objects, i, exclude=(asked,)), _refer(rng, objects, j, exclude=(asked,))
    if first is None or second is None:
        return None
    p = _Program()
    query = f"query_{asked}"
    p.add(f"equal_{asked}", p.add(query, p.unique(first)), p.add(query, p.unique(second)))
    x, y = _noun_phrase(rng, first), _noun_phrase(rng, second)
    return (
        rng.choice(
            (f"does the {x} have the same {asked} as the {y} ?", f"is the {asked} of the {x} that of the {y} ?")
        ),
        p.nodes,
    )


def _through(
    rng: random.Random, scene: Scene, kind: str, related: Sequence[int], relation: tuple[str, str], filters: Filters
) -> tuple[str, list[Node]] | None:
    """Ask about the objects reached from a reference object through a relation (spatial, or "same as")."""
    objects, (function, side) = scene["objects"], relation
    spatial = function == "relate"
    same = () if spatial else (side,)
    p = _Program()
    hop = p.add("relate", p.unique(filters), value=side) if spatial else p.add(f"same_{side}", p.unique(filters))
    anchor = f"the {_noun_phrase(rng, filters)}"
    tail = f"{RELATION_PHRASES[side]} {anchor}" if spatial else f"with the same {side} as {anchor}"
    other = "" if spatial else "other "
    if kind == "query":
        asked = _ask_attribute(rng, exclude=same)
        for names in _attribute_sets(rng, (0, 1, 2), exclude=(asked, *same)):
            chosen = [
                i for i in related if sum(all(objects[i][a] == objects[j][a] for a in names) for j in related) == 1
            ]
            if chosen:
                target = objects[rng.choice(chosen)]
                wanted = {a: target[a] for a in names}
                p.add(f"query_{asked}", p.unique(wanted, hop))
                return _query_wording(rng, asked, f"the {other}{_noun_phrase(rng, wanted)} {tail}"), p.nodes
        return None
    wanted = _ask_set(rng, objects, related, kind, exclude=same)
    if wanted is None:
        return None
    p.add(kind, p.filter(wanted, hop))
    if kind == "exist":
        return f"is there a{'nother' if other else ''} {_noun_phrase(rng, wanted)} {tail} ?", p.nodes
    return f"how many {other}{_noun_phrase(rng, wanted, plural=True)} are {tail} ?", p.nodes


def _hop_kind(rng: random.Random) -> str:
    return rng.choices(("query", "count", "exist"), (0.5, 0.3, 0.2))[0]


def _spatial(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    objects, target = scene["objects"], rng.randrange(len(scene["objects"]))
    filters, side = _refer(rng, objects, target), rng.choice(DIRECTIONS)
    if filters is None:
        return None
    return _through(rng, scene, _hop_kind(rng), scene["relationships"][side][target], ("relate", side), filters)


def _same(rng: random.Random, scene: Scene) -> tuple[str, list[Node]] | None:
    objects, target = scene["objects"], rng.randrange(len(scene["objects"]))
    filters, side = _refer(rng, objects, target), rng.choice(tuple(ATTRIBUTES))
    if filters is None:
        return None
    related = [i for i, o in enumerate(objects) if i != target and o[side] == objects[target][side]]
    return _through(rng, scene, _hop_kind(rng), related, ("same", side), filters)


GENERATORS: dict[str, Callable[[random.Random, Scene], tuple[str, list[Node]] | None]] = {
    "query": _query,
    "exist": _exist,
    "count": _count,
    "compare": _compare,
    "spatial": _spatial,
    "same": _same,
}


def ask(rng: random.Random, scene: Scene, family_name: str, attempts: int = 30) -> tuple[str, list[Node], str] | None:
    """Ask a well-posed question of a family about a scene.

    The wanted answer is drawn before the question. This balances the answers and makes guessing pay little.

    Parameters
    ----------
    rng : random.Random
    scene : mapping, CLEVR's layout
    family_name : one of `FAMILIES`
    attempts : int
        Number of draws after which the scene is given up for this family.

    Returns
    -------
    (question, program, answer), or None if the scene allows no such question.
    """
    for _ in range(attempts):
        drawn = GENERATORS[family_name](rng, scene)
        if drawn is not None:
            question, program = drawn
            return question, program, execute(program, scene)
    return None
