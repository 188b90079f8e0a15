"""Studies along a property of trained agents, on stand-ins that differ in it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from semantic.token_choice import ANY
from studies import (
    accuracy_vs_seed,
    accuracy_vs_snr,
    accuracy_vs_tokens,
    accuracy_vs_width,
    archive,
    plots,
    tables,
    workbench,
)
from studies.config import ConfigError, resolve
from studies.curves import CURVES
from studies.schemes.carriers import adaptive
from studies.study_config import ModelsConfig
from tests.studies.fakes import FAKE_CHOICE, LEDGER, FakeAgents

STUDIES = [(accuracy_vs_tokens, "num_tokens"), (accuracy_vs_width, "width"), (accuracy_vs_seed, "seed")]
SCHEMES = ("machine-tokens", "raw-image", "question-only", "machine-tokens-adaptive")
CHOICE = replace(FAKE_CHOICE, accuracy={ANY: [[0.1, 0.2, 0.9], [0.9, 0.9, 0.905]]})


REAL_LOAD_AGENTS = workbench.load_agents
SHIPPED = {
    "clevr-mini": "2x3",
    "clevr-mini-1": "1x3",
    "clevr-mini-adaptive": "3x3",
    "clevr-mini-width-16": "2x1",
    "clevr-mini-seed-0": "2x3x0",
    "clevr-mini-seed-1": "2x3x1",
}


class Pair(FakeAgents):
    """A pair of a shape that its name says; the fakes' own where it says none."""

    def __init__(self, name):
        super().__init__()
        self.model_hash = f"hash of {name}"
        if name != "blind":
            self.num_tokens, self.width, *seed = (int(number) for number in SHIPPED.get(name, name).split("x"))
            self.seed = seed[0] if seed else None


@pytest.fixture
def pairs(fakes, stand_in):
    """Agents by name, `NUMBERxWIDTH` or `NUMBERxWIDTHxSEED`; the link's ledger counts the numbers that are sent."""
    made = {}
    stand_in(workbench, "load_agents", lambda name: made.get(name) or made.setdefault(name, Pair(name)))
    stand_in(adaptive, "load_token_choice", lambda name: CHOICE)

    def ledger(num_tokens, width):
        reals = num_tokens * width
        return replace(LEDGER, data_res=reals, idle_res=96, total_res=100 + reals)

    fakes["channel"].link.ledger = ledger
    return made


def small(study, **changes):
    names = {
        accuracy_vs_tokens: {"pairs": ("4x3", "1x3", "2x3"), "schemes": SCHEMES},
        accuracy_vs_width: {"pairs": ("2x5", "2x3")},
        accuracy_vs_seed: {"pairs": ("2x3x7", "2x3x1", "2x3x4")},
    }[study]
    models = ModelsConfig(machine_tokens="blind", machine_tokens_adaptive="3x3")
    fixed = {"num_questions": 30, "batch_size": 7, "snr_db": (0.0, 15.0), "models": models}
    return study.Config(**{**fixed, **names, **changes})


def test_each_place_of_the_axis_has_agents_of_its_own(pairs, tmp_path):
    results, failed, _ = accuracy_vs_tokens.main(small(accuracy_vs_tokens), out=tmp_path)
    assert not failed
    assert list(results.axes) == ["num_tokens", "snr_db"]
    np.testing.assert_array_equal(results.coordinates["num_tokens"], [1, 2, 4])
    assert results.variables["correct"].shape == (4, 3, 2, 30)
    accuracy = results.of("accuracy", "machine-tokens")
    # the stand-in averages its numbers: more of them, less noise
    assert (np.diff(accuracy[:, 0]) > 0).all()
    np.testing.assert_array_equal(results.along("data_res", "machine-tokens")[:, 0], [3, 6, 12])
    for scheme in ("raw-image", "question-only"):
        assert len(np.unique(results.of("accuracy", scheme))) == 1
    assert results.attributes["model_hash_machine_tokens"] == "hash of 1x3 hash of 2x3 hash of 4x3"
    assert results.attributes["model_hash_raw_image"] == "hash of blind"


def test_every_pair_looks_once_per_question_and_lines_are_computed_once(pairs, tmp_path):
    config = small(accuracy_vs_tokens)
    accuracy_vs_tokens.main(config, out=tmp_path)
    assert {name: agents.num_encoded for name, agents in pairs.items()} == {
        **dict.fromkeys(("1x3", "2x3", "4x3", "3x3"), config.num_questions), "blind": 0,
    }  # fmt: skip
    # machine tokens and the adaptive scheme at 3 x 2 places each, and two lines
    assert len(list((tmp_path / "points").iterdir())) == 14


def test_the_points_of_machine_tokens_are_those_of_the_main_study(pairs, tmp_path):
    models = ModelsConfig(machine_tokens="2x3")
    main = accuracy_vs_snr.Config(
        num_questions=30, batch_size=7, models=models, snr_db=(0.0, 15.0), schemes=("machine-tokens",)
    )
    expected, *_ = accuracy_vs_snr.main(main, out=tmp_path / "main")
    results, *_ = accuracy_vs_tokens.main(small(accuracy_vs_tokens), out=tmp_path / "tokens")
    at_two = results.of("correct", "machine-tokens")[1]
    np.testing.assert_array_equal(at_two, expected.of("correct", "machine-tokens"))


def test_the_adaptive_scheme_sends_what_the_table_says_and_is_charged_its_mean(pairs, tmp_path):
    results, *_ = accuracy_vs_tokens.main(small(accuracy_vs_tokens), out=tmp_path)
    spent = results.along("data_res", "machine-tokens-adaptive")
    # the table wants three tokens at 0 dB, which is more than the proposal takes at first, and one at 15 dB
    np.testing.assert_array_equal(spent, [[3, 3], [3, 3], [9, 3]])
    assert results.of("accuracy", "machine-tokens-adaptive")[2, 1] > 0.9
    assert np.isnan(results.along("loss_rate", "machine-tokens-adaptive")).all()
    fixed = small(accuracy_vs_tokens, pairs=("1x3", "3x3"), schemes=("machine-tokens",))
    expected, *_ = accuracy_vs_tokens.main(fixed, out=tmp_path / "fixed")
    adaptive = results.of("correct", "machine-tokens-adaptive")[2]
    np.testing.assert_array_equal(adaptive[0], expected.of("correct", "machine-tokens")[1, 0])
    np.testing.assert_array_equal(adaptive[1], expected.of("correct", "machine-tokens")[0, 1])


def test_questions_of_different_kinds_get_different_numbers(pairs, stand_in, tmp_path):
    kinds = {"the number of things": [[0.9] * 3] * 2, ANY: [[0.1, 0.5, 0.9]] * 2}
    many = dict.fromkeys(kinds, 1000)
    stand_in(adaptive, "load_token_choice", lambda name: replace(CHOICE, accuracy=kinds, num_questions=many))
    config = small(accuracy_vs_tokens, schemes=("machine-tokens-adaptive",))
    bench = accuracy_vs_tokens.STUDY.plan(config, tmp_path).workbench
    asked = {text: i for i, text in enumerate(question.question for question in bench.questions)}
    two = ["this is a question about the number of things .", "what ?"]
    bench.agents("machine_tokens_adaptive").describe = lambda questions: [two[asked[text] % 2] for text in questions]
    scheme = CURVES["machine-tokens-adaptive"].build(bench)
    batch = bench.batches[0]
    codes = scheme.encoder.encode(batch)
    answers, delivery = scheme.answer(codes, batch, 60.0)
    assert [codes_hat.shape for codes_hat in delivery.items] == [(1, 3), (3, 3)] * 3 + [(1, 3)]
    assert [sent.shape for sent in delivery.codes] == [codes_hat.shape for codes_hat in delivery.codes_hat]
    assert [variance.shape for variance in delivery.error_var] == [item.shape for item in delivery.items]
    assert answers == [question.answer for question in batch.questions]
    assert scheme.carrier.cost(60.0)["data_res"] == pytest.approx((3 + 9) / 2)


def test_accuracy_is_told_against_mean_channel_uses(pairs, tmp_path):
    results, *_ = accuracy_vs_tokens.main(small(accuracy_vs_tokens), out=tmp_path)
    grid = tables.uses_table(results)
    assert grid.header == ["scheme", "REs", "0 dB", "REs", "15 dB"]
    assert [row[0] for row in grid.rows] == [
        f"machine-tokens{kind}, {n} token{'s' * (n > 1)}" for kind in ("", "-adaptive") for n in (1, 2, 4)
    ]  # fmt: skip
    assert [row[1] for row in grid.rows] == ["7", "10", "16", "7", "7", "13"]  # four of pilots
    accuracy = 100 * results.of("accuracy", "machine-tokens-adaptive")[2]
    assert [float(cell.split("\n")[0]) for cell in grid.rows[-1][2::2]] == pytest.approx(accuracy, abs=0.05)


@pytest.mark.parametrize(("study", "axis"), STUDIES)
def test_the_figure_has_a_curve_for_each_snr_and_the_table_a_row_for_each_place(pairs, drawn, study, axis, tmp_path):
    results, _, folder = study.main(small(study), out=tmp_path)
    name = study.STUDY.name
    rows = [line.split(",") for line in (folder / "figures" / f"{name}.csv").read_text().splitlines()]
    assert rows[0][:4] == ["scheme", axis, "snr_db", "accuracy"]
    written = {tuple(row[:3]): float(row[3]) for row in rows[1:]}
    last = results.coordinates[axis][-1]
    assert written["machine-tokens", f"{last:g}", "15"] == results.of("accuracy", "machine-tokens")[-1, -1]
    assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    grid = tables.accuracy_table(results)
    assert grid.header[1:] == [f"{value:g}" for value in results.coordinates[axis]]
    assert {"machine-tokens, 0 dB", "machine-tokens, 15 dB", "raw-image"} <= {row[0] for row in grid.rows}
    at_end = next(row[-1] for row in grid.rows if row[0] == "machine-tokens, 15 dB")
    assert at_end.startswith(f"{100 * results.of('accuracy', 'machine-tokens')[-1, -1]:.1f}\n")
    for make in (tables.family_table, tables.comparison_table, tables.ledger_table):
        assert make(results).rows


def test_the_adaptive_scheme_is_drawn_where_the_proposal_takes_as_much(pairs, tmp_path):
    results, *_ = accuracy_vs_tokens.main(small(accuracy_vs_tokens), out=tmp_path)
    where = [plots.positions_of(results, "num_tokens", "machine-tokens-adaptive", (i,)).tolist() for i in (0, 1)]
    assert where == [[1, 1, 3], [1, 1, 1]]


def test_the_spread_over_training_seeds_is_told_and_a_pair_without_one_is_refused(pairs, tmp_path):
    results, *_ = accuracy_vs_seed.main(small(accuracy_vs_seed), out=tmp_path)
    np.testing.assert_array_equal(results.coordinates["seed"], [1, 4, 7])
    accuracy = 100 * results.of("accuracy", "machine-tokens")[:, 0]
    cells = tables.spread_table(results).rows[0]
    assert cells[0] == "0"
    expected = [accuracy.mean(), np.std(accuracy, ddof=1), accuracy.min(), accuracy.max()]
    assert [float(cell) for cell in cells[1:]] == pytest.approx(expected, abs=0.05)
    with pytest.raises(ConfigError, match="pairs: 2x3 was saved without its seed"):
        accuracy_vs_seed.STUDY.plan(small(accuracy_vs_seed, pairs=("2x3",)), tmp_path)


def test_a_missing_pair_and_two_of_one_place_are_refused(pairs, stand_in, tmp_path):
    with pytest.raises(ConfigError, match="pairs: 2x3 and 2x4 both have num_tokens 2"):
        accuracy_vs_tokens.STUDY.plan(small(accuracy_vs_tokens, pairs=("2x3", "2x4")), tmp_path)
    stand_in(workbench, "load_agents", REAL_LOAD_AGENTS)
    with pytest.raises(FileNotFoundError, match=r"no-such-pair is neither a folder with agents\.json nor a"):
        accuracy_vs_tokens.STUDY.plan(small(accuracy_vs_tokens, pairs=("no-such-pair",)), tmp_path)


def test_the_archive_names_no_place_of_this_machine(pairs, tmp_path):
    made = pairs.setdefault(str(tmp_path / "mine"), Pair("5x3"))
    assert made.num_tokens == 5
    config = small(accuracy_vs_tokens, pairs=("2x3", str(tmp_path / "mine")), schemes=("machine-tokens",))
    results, *_ = accuracy_vs_tokens.main(config, out=tmp_path / "run")
    assert json.loads(str(results.attributes["config_json"]))["pairs"] == ["2x3", "mine"]
    assert str(tmp_path).encode() not in (tmp_path / "run" / "results.h5").read_bytes()
    assert archive.read_results(tmp_path / "run" / "results.h5").attributes["study"] == "accuracy-vs-tokens"


@pytest.mark.parametrize("study", [study for study, _ in STUDIES])
def test_the_tiny_study_runs(pairs, drawn, study, tmp_path):
    config = resolve(study.Config, layers=[study.STUDY.tiny])
    results, failed, _ = study.main(config, out=tmp_path)
    assert not failed
    assert results.attributes["num_missing_points"] == 0
    assert results.schemes == list(config.schemes)
    assert results.variables["correct"].shape == (len(config.schemes), 2, 2, 24)
