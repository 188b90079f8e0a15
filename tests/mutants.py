"""Damage to files, by a seed: bits and bytes of any file, values and keys of JSON, whatever a reader must survive."""

import copy
import json
import os
import random

SEED = int(os.environ.get("TOKENLINK_SEED", "0"))  # of another round: TOKENLINK_SEED=1 pytest -m thousands
JUNK = [
    None, True, False, 0, -1, 1, 3.5, 1e308, 2**70, "", "x", "\ud83d", "<image>", "../../x", "/dev/zero", [], {},
    [[]], [None], {"a": 1}, 9 * "long ",
]  # fmt: skip


def generator(seed):
    """Random numbers of this round."""
    return random.Random(seed + 1000 * SEED)


def of_bytes(content, rng):
    """Return content with one thing wrong: a bit, a run of bytes, an end, a piece out of place, a piece too much."""
    content = bytearray(content)
    at = rng.randrange(len(content))
    length = rng.randrange(1, 1 + min(64, len(content)))
    kind = rng.randrange(6)
    if kind == 0:
        content[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        del content[at : at + length]
    elif kind == 4:
        content[at:at] = rng.randbytes(length)
    else:
        other = rng.randrange(len(content))
        content[at : at + length], content[other : other + length] = (
            content[other : other + length], content[at : at + length],
        )  # fmt: skip
    return bytes(content)


def of_json(value, rng):
    """Return a copy of a JSON value with one place in it replaced, removed, doubled or renamed."""
    whole = copy.deepcopy(value)
    places = list(_places(whole))
    parent, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0 or (kind == 3 and isinstance(parent, list)):
        parent[key] = copy.deepcopy(rng.choice(JUNK))
    elif kind == 1:
        del parent[key]
    elif kind == 2:
        other, name = rng.choice(places)
        parent[key] = copy.deepcopy(other[name]) if name in other or isinstance(other, list) else None
    else:
        parent[f"{key}_"] = parent.pop(key)
    return json.dumps(whole).encode()


def attempt(read):
    """Return what a function returns, or None and the error that it raises."""
    try:
        return read(), None
    except Exception as error:
        return None, error


def _places(value):
    """Name every place in a JSON value by its parent and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield value, key
        yield from _places(part)
