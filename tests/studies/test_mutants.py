"""Damaged files of every kind: each is refused with a message of ours, or holds what it held before."""

import contextlib
import json
import random

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from studies import archive, run_folder
from studies.accuracy_vs_snr import Config
from studies.config import ConfigError, parse_yaml, resolve
from studies.events import EventLog, event_problems
from studies.plan import Plan, read_plan
from tests.mutants import SEED
from tests.studies.test_archive import build, point

EXAMPLES = pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=pytest.mark.thousands)])
ODD = [
    None,
    True,
    False,
    0,
    -1,
    2**64,
    10**400,
    1e308,
    "",
    "../x",
    "/etc/passwd",
    "=1",
    "\ud83d",
    "x" * 300,
    [],
    {},
    [[]],
]


def every(examples, strategy, check):
    """Check this many examples, the same ones each time in a round."""
    quiet = settings(
        derandomize=not SEED,
        deadline=None,
        max_examples=examples,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    checked = quiet(given(strategy)(check))
    (seed(SEED)(checked) if SEED else checked)()


def drawn(function, content):
    """Damage of a content, decided by a drawn seed alone: drawing every byte of it would take most of the time."""
    return st.integers(0, 2**32 - 1).map(lambda number: function(content, random.Random(number)))


TOKENS = ["null", "true", "1e999", "-0", "NaN", "[]", "{}", "*a", "&a ", "!!int ", "\t", ":", "\\ud83d"]


def mutant(content, rng):
    """Flip, cut, remove, empty, repeat, insert or overwrite bytes of a content, up to three times."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        first, last = sorted(rng.choices(range(len(damaged) + 1), k=2))
        kind = rng.choice(["flip", "flip", "flip", "cut", "remove", "zero", "repeat", "insert", "overwrite"])
        if kind == "flip" and first < len(damaged):
            damaged[first] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del damaged[first:]
        elif kind == "remove":
            del damaged[first:last]
        elif kind == "zero":
            damaged[first:last] = bytes(last - first)
        elif kind == "repeat":
            damaged[first:first] = damaged[first:last]
        elif kind == "insert":
            damaged[first:first] = rng.randbytes(rng.randint(1, 8))
        elif kind == "overwrite":
            token = rng.choice(TOKENS).encode()
            damaged[first : first + len(token)] = token
    return bytes(damaged)


def edited(content, rng):
    """Change, remove, add, exchange or rewrite values of a tree as JSON has them, up to three times."""
    content = json.loads(json.dumps(content))
    for _ in range(rng.randint(1, 3)):
        node, keys = content, sorted(content)
        while keys:
            key = rng.choice(keys)
            below = node[key]
            if not isinstance(below, (dict, list)) or not below or rng.random() < 0.3:
                break
            node, keys = below, sorted(below) if isinstance(below, dict) else range(len(below))
        kind = rng.choice(["change", "change", "remove", "add", "exchange", "as text"])
        if kind == "add" and isinstance(node, dict):
            node[rng.choice(["more", "../x", "", "schema", "study"])] = rng.choice(ODD)
        elif kind == "add":
            node.append(rng.choice(ODD))
        elif not keys:
            continue
        elif kind == "change":
            node[key] = rng.choice(ODD)
        elif kind == "remove":
            del node[key]
        elif kind == "exchange":
            other = rng.choice(keys)
            node[key], node[other] = node[other], node[key]
        elif kind == "as text":
            node[key] = str(node[key])
    return content


# --- points and results --------------------------------------------------------------------------------------------


@pytest.fixture
def a_point(tmp_path):
    arrays = {"correct": np.arange(40, dtype=np.uint8) % 2, "answer": ["yes", "no"] * 20, "codes": np.ones((3, 2))}
    return archive.write_point(tmp_path, {"scheme": "a", "coordinates": {"snr_db": 5.0}}, arrays, {"psnr": 20.0})


@EXAMPLES
def test_no_damaged_point_is_read(a_point, examples):
    content = a_point.read_bytes()

    def check(damaged):
        a_point.write_bytes(damaged)
        if damaged == content:
            archive.read_point(a_point)
            return
        with pytest.raises(ValueError, match="cannot be used"):
            archive.read_point(a_point)

    every(examples, drawn(mutant, content), check)


@EXAMPLES
def test_no_damaged_results_are_read(tmp_path, examples):
    points = [({"scheme": name, "snr_db": at}, point([0, 1, 1])) for name in ("a", "b") for at in (-5.0, 5.0)]
    path = build(tmp_path / "results.h5", points)
    content = path.read_bytes()

    def check(damaged):
        if damaged != content:
            with pytest.raises(ValueError, match="is not what its SHA-256 says"):
                archive.parse_results(damaged)

    every(examples, drawn(mutant, content), check)


def test_a_result_that_is_changed_with_the_tools_of_hdf5_is_refused(tmp_path):
    path = build(tmp_path / "results.h5", [({"scheme": "a", "snr_db": -5.0}, point([0, 1, 1]))])
    with h5py.File(path, "a") as file:
        file["accuracy"][0, 0] = 1
    with pytest.raises(ValueError, match="its content is not what its SHA-256 says"):
        archive.read_results(path)


# --- the plan ------------------------------------------------------------------------------------------------------


@pytest.fixture
def a_plan(tmp_path):
    places = [(name, at) for name in ("a", "b") for at in (-5.0, 0, 5.5)]
    points = [
        {"hash": f"{i:032x}", "scheme": name, "coordinates": {"snr_db": at}} for i, (name, at) in enumerate(places)
    ]
    content = {
        "study": "s",
        "schemes": ["a", "b"],
        "axes": {"snr_db": [-5.0, 0, 5.5]},
        "points": points,
        "config": "0" * 32,
        "attributes": {"study": "s", "config_hash": "f" * 32, "seed": 3, "config_json": "{}"},
    }
    (tmp_path / "plan.json").write_bytes(Plan.model_validate(content).written())
    return tmp_path


def plan_or_refusal(folder, whole):
    try:
        found = read_plan(folder)
    except ValueError as error:
        assert "plan.json" in str(error)  # noqa: PT017 -- or it holds the same
        assert len(str(error)) < 2000  # noqa: PT017
    else:
        assert found == whole


@EXAMPLES
def test_no_damaged_plan_is_believed(a_plan, examples):
    whole, path = read_plan(a_plan), a_plan / "plan.json"

    def check(damaged):
        path.write_bytes(damaged)
        plan_or_refusal(a_plan, whole)

    every(examples, drawn(mutant, path.read_bytes()), check)


@EXAMPLES
def test_no_edited_plan_is_believed(a_plan, examples):
    whole, path = read_plan(a_plan), a_plan / "plan.json"

    def check(other):
        path.write_text(json.dumps(other))
        plan_or_refusal(a_plan, whole)

    every(examples, drawn(edited, json.loads(path.read_text())), check)


@EXAMPLES
def test_an_edited_plan_of_an_older_version_leaves_no_folder_and_no_traceback(a_plan, examples):
    path = a_plan / "plan.json"
    content = {**json.loads(path.read_text()), "schema_version": 1}
    del content["plan_hash"], content["config"]

    def check(other):
        path.write_text(json.dumps(other))
        try:
            plan = read_plan(a_plan)
        except ValueError as error:
            assert "plan.json" in str(error)  # noqa: PT017 -- or it is a plan
            return
        for name in (
            plan.study,
            str(plan.attributes["study"]),
            *plan.schemes,
            *(planned.hash for planned in plan.points),
        ):
            assert (a_plan / name).parent == a_plan
        with contextlib.suppress(ValueError):
            run_folder.collect(a_plan)

    every(examples, drawn(edited, content), check)


# --- configuration and events --------------------------------------------------------------------------------------

TEXT = Config(snr_db=(-5.0, 0.0, 12.5)).to_yaml()


def config_or_refusal(**source):
    try:
        config = resolve(Config, **source)
    except ConfigError as error:
        assert len(str(error)) < 20_000  # noqa: PT017 -- or it is a configuration
        return None
    assert Config.model_validate(parse_yaml(config.to_yaml())) == config
    return config


@EXAMPLES
def test_a_damaged_configuration_is_refused_or_one_of_ours_and_check_tells_it_from_the_runs(tmp_path, examples):
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    whole = resolve(Config, file=path)
    plan = Plan.model_construct(config=run_folder.content_hash(whole.plain()))

    def check(damaged):
        path.write_bytes(damaged)
        config_or_refusal(file=path)
        if not run_folder.config_problems(tmp_path, plan):
            assert parse_yaml(damaged.decode()) == whole.plain()

    every(examples, drawn(mutant, TEXT.encode()), check)


@EXAMPLES
def test_an_edited_configuration_is_refused_or_one_of_ours(tmp_path, examples):
    path = tmp_path / "config.yaml"

    def check(other):
        path.write_text(yaml.safe_dump(other, allow_unicode=False))
        config_or_refusal(file=path)

    every(examples, drawn(edited, yaml.safe_load(TEXT)), check)


KEYS = [
    "seed",
    "snr_db",
    "schemes",
    "link",
    "link.num_tx_ant",
    "link.phase_mask",
    "data",
    "data.folder",
    "models",
    "zzz",
]
YAML = st.text(st.sampled_from("[]{},:&*!|>'\"%@`#-?~.0123456789eExyntrufals_ \n\t\\\0\x85\ud83d"), max_size=30)


@EXAMPLES
def test_any_assignment_is_refused_or_gives_one_of_our_configurations(examples):
    def check(assignment):
        config_or_refusal(assignments=["=".join(assignment)])

    every(examples, st.tuples(st.sampled_from(KEYS), YAML), check)


@EXAMPLES
def test_a_damaged_line_of_events_is_named(tmp_path, examples):
    log = EventLog(tmp_path / "events.jsonl")
    log.write("started", jobs=3, engine="inline")
    log.write("done", job="a, 5 dB", seconds=0.25)
    content = log.path.read_bytes()
    lines = [json.loads(line) for line in content.splitlines()]

    def check(damaged):
        log.path.write_bytes(damaged)
        problems, num_unhashed = event_problems(log.path)
        if not problems and not num_unhashed:
            assert all(json.loads(line) in lines for line in damaged.splitlines())

    every(examples, drawn(mutant, content), check)
