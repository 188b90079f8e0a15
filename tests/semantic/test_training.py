import json
import math
import random
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic import training
from semantic.training import fit, save_half, write_card
from tests.mutants import generator
from tests.semantic.models import build_task_model, changed, parameters_of

ROOT = Path(__file__).resolve().parents[2]


def walk(tmp_path, *, groups=None, **options):
    """Fit numbers whose gradient never changes: Adam then moves each by exactly the learning rate, step after step."""
    numbers = [torch.nn.Parameter(torch.zeros(())) for _ in range(len(groups or [1]))]
    seen = []

    def step(share):
        seen.append((share, [n.item() for n in numbers]))
        return sum(numbers), {"share": share}

    parameters = (
        numbers if groups is None else [{"params": [n], "lr": lr} for n, lr in zip(numbers, groups, strict=True)]
    )
    arguments = {"lr": 0.1, "log": tmp_path / "log.jsonl", "weight_decay": 0.0, "rng": random.Random()} | options
    fit(step, parameters, **arguments)
    places = torch.tensor([place for _, place in seen] + [[n.item() for n in numbers]], dtype=torch.float64)
    return [share for share, _ in seen], -places.diff(dim=0)


def factor(share, warmup_share=0.03):
    return min(1.0, share / warmup_share + 0.01) * 0.5 * (1 + math.cos(math.pi * share))


def test_the_learning_rate_warms_up_and_then_follows_the_cosine(tmp_path):
    shares, moved = walk(tmp_path, steps=100)
    assert shares == pytest.approx([k / 100 for k in range(100)])
    expected = torch.tensor([0.1 * factor(share) for share in shares], dtype=torch.float64)
    assert torch.allclose(moved[:, 0], expected, rtol=1e-3, atol=1e-6)
    assert moved[:, 0].argmax() == 3  # the end of the warm-up
    assert moved[-1, 0] < 1e-3 * moved.max()


def test_each_group_has_its_own_peak(tmp_path):
    _, moved = walk(tmp_path, groups=[0.1, 0.3], steps=20)
    assert torch.allclose(moved[:, 1], 3 * moved[:, 0], rtol=1e-3)


def test_work_is_saved_now_and_then_and_at_the_end(tmp_path):
    saved = []
    walk(tmp_path, steps=25, save_steps=10, save=lambda: saved.append((tmp_path / "log.checkpoint").exists()))
    assert saved == [False, True, True]  # after 10 and 20 steps, each before its checkpoint, and at the end
    assert not list(tmp_path.glob("*checkpoint"))


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_weights(tmp_path):
    class Counter:
        def __init__(self):
            self.count = 0

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    def run(folder, stop_at=None, **options):
        torch.manual_seed(0)
        model, counter, rng = torch.nn.Linear(4, 4), Counter(), random.Random()

        def step(share):
            counter.count += 1
            if counter.count == stop_at:
                raise KeyboardInterrupt
            x = torch.randn(8, 4) * rng.random()
            return (model(x) - x.flip(-1)).square().mean(), {}

        arguments = {"steps": 30, "lr": 0.05, "log": folder / "log.jsonl", "rng": rng, "seed": 3} | options
        fit(step, model.parameters(), state={"counter": counter}, save_steps=10, **arguments)
        return parameters_of(model), counter.count

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop_at=18)
    with pytest.raises(ValueError, match=r"log.checkpoint is the checkpoint of another training .* delete it"):
        run(tmp_path / "stopped", seed=4)
    (stopped, count), (whole, _) = run(tmp_path / "stopped"), run(tmp_path / "whole")
    assert count == 30  # the steps after the checkpoint were done again
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_a_log_has_each_step_once_however_often_the_run_was_stopped(tmp_path):
    def run(stop_at=None, done=0):
        numbers, count = torch.nn.Parameter(torch.zeros(())), iter(range(done, 100))

        def step(share):
            if next(count) == stop_at:
                raise KeyboardInterrupt
            return numbers * 1.0, {}

        fit(step, [numbers], steps=20, lr=0.1, log=log, rng=random.Random(), every=2, save_steps=5)

    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 2, "loss": 9.0}\n{"st')  # of a run that was killed before its first checkpoint
    for stop_at, done in ((9, 0), (14, 5), (None, 10)):
        with nullcontext() if stop_at is None else pytest.raises(KeyboardInterrupt):
            run(stop_at, done)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(2, 21, 2))
    assert lines[0]["loss"] != 9


def fit_slowly(folder):
    """Train long enough to be killed meanwhile."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)

    def step(share):
        time.sleep(0.01)
        return (model(torch.randn(8, 4)) - 1).square().mean(), {}

    def save():
        save_file(model.state_dict(), folder / "model.safetensors")

    log = folder / "log.jsonl"
    fit(step, model.parameters(), steps=100, lr=0.05, log=log, rng=random.Random(), every=5, save=save, save_steps=7)


@pytest.mark.thousands
def test_trainings_that_are_killed_at_any_moment_end_with_the_same_weights(tmp_path):
    """Some thirty kills, between the loading of the frameworks and the last step."""
    (whole := tmp_path / "whole").mkdir()
    fit_slowly(whole)
    expected, rng, kills = load_file(whole / "model.safetensors"), generator(11), 0
    code = f"import pathlib, sys; from {__name__} import fit_slowly; fit_slowly(pathlib.Path(sys.argv[1]))"
    for number in range(8):
        (folder := tmp_path / str(number)).mkdir()
        for lasts in [rng.uniform(0, 0.6) for _ in range(4)] + [1000]:
            trainer = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
            with trainer:
                trainer.stdout.readline()  # it has begun
                try:
                    assert trainer.wait(lasts) == 0
                    break
                except subprocess.TimeoutExpired:
                    trainer.kill()
                    kills += 1
        weights = load_file(folder / "model.safetensors")
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        lines = (folder / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [*range(5, 101, 5)]
    assert kills >= 16


def test_progress_says_what_is_left(tmp_path, capsys):
    walk(tmp_path, steps=25, every=10)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split(":")[0] for line in shown] == [f"step {n} of 25, about 1 min left" for n in (10, 20)]
    assert all(", share 0." in line for line in shown)


def test_a_log_line_holds_the_means_since_the_last(tmp_path):
    walk(tmp_path, steps=25, every=10)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert lines[0]["share"] == pytest.approx(sum(range(10)) / 10 / 25, abs=1e-4)
    assert lines[1]["share"] == pytest.approx(sum(range(10, 20)) / 10 / 25, abs=1e-4)
    assert lines[1]["loss"] < lines[0]["loss"] < 0


def test_a_metric_that_is_not_always_measured_is_averaged_over_its_own_steps(tmp_path):
    number = torch.nn.Parameter(torch.zeros(()))
    values = iter(range(10))

    def step(share):
        k = next(values)
        return number * 1.0, {"rare": float(k)} if k % 5 == 0 else {}

    fit(step, [number], steps=10, lr=0.1, log=tmp_path / "log.jsonl", rng=random.Random(), every=10)
    assert json.loads((tmp_path / "log.jsonl").read_text())["rare"] == 2.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_says_where(tmp_path, bad):
    number = torch.nn.Parameter(torch.zeros(()))
    losses = iter([1.0, 1.0, bad, 1.0])

    def step(share):
        return number + next(losses), {}

    with pytest.raises(FloatingPointError, match=rf"the loss is {bad} at step 2; lower lr \(now 0.1\)"):
        fit(step, [number], steps=10, lr=0.1, log=tmp_path / "log.jsonl", rng=random.Random())


def test_the_same_steps_give_the_same_weights(tmp_path):
    def run():
        torch.manual_seed(3)
        model = torch.nn.Linear(4, 4)

        def step(share):
            x = torch.randn(8, 4)
            return (model(x) - x.flip(-1)).square().mean(), {}

        fit(step, model.parameters(), steps=60, lr=0.05, log=tmp_path / "log.jsonl", rng=random.Random())
        x = torch.randn(64, 4)
        return parameters_of(model), (model(x) - x.flip(-1)).square().mean().item()

    (first, loss), (second, _) = run(), run()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert loss < 0.1  # about 1.3 before


def test_enormous_gradients_are_clipped_together(tmp_path):
    numbers = [torch.nn.Parameter(torch.zeros(())) for _ in range(2)]

    def step(share):
        return 3e6 * numbers[0] + 4e6 * numbers[1], {}

    kept = []
    original = torch.optim.AdamW.step

    def watch(self, *args, **kwargs):
        kept.append([n.grad.item() for n in numbers])
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watch)
        fit(step, numbers, steps=2, lr=0.1, log=tmp_path / "log.jsonl", rng=random.Random())
    assert kept[0] == pytest.approx([0.6, 0.8], rel=1e-3)


def test_weights_are_saved_in_half_precision_and_go_on_in_full(tmp_path):
    model = build_task_model()
    before = parameters_of(model)
    save_half(model, tmp_path)
    assert not changed(before, model)
    stored = load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16}
    for name, tensor in stored.items():
        assert torch.equal(tensor, before[name].half())


def test_a_card_gives_the_command_and_the_results_but_no_folder_of_this_machine(tmp_path):
    options = {"out": tmp_path / "vision", "max_images": None, "seed": 3, "min_snr_db": -10.0}
    write_card(tmp_path, title="A tower", stage="vision", options=options, results={"shape": 0.93})
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# A tower\n")
    assert "tokenlink train vision --out vision --seed 3 --min-snr-db -10.0\n" in text
    assert "| shape | 0.93 |" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(("float32", "bfloat16", "enabled"), [(1.0, 8.0, True), (1.0, 0.6, False), (1.0, 1.2, False)])
def test_products_are_in_bfloat16_only_where_that_is_faster(monkeypatch, float32, bfloat16, enabled):
    speeds = {torch.float32: float32, torch.bfloat16: bfloat16}
    monkeypatch.setattr(training, "products_per_second", speeds.__getitem__)
    model = build_task_model()
    with training.mixed_precision(model):
        assert model(torch.tensor([[1, 5, 6]])).logits.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert (model.config._attn_implementation == training.FLOAT32_ATTENTION) == enabled


def test_mixed_precision_changes_gradients_by_its_rounding_alone(monkeypatch):
    ids = torch.randint(5, 100, (4, 12), generator=torch.Generator().manual_seed(0))

    def gradient(speed):
        monkeypatch.setattr(training, "products_per_second", {torch.float32: 1.0, torch.bfloat16: speed}.__getitem__)
        torch.manual_seed(0)
        model = build_task_model()
        with training.mixed_precision(model):
            loss = model(ids, labels=ids).loss
        loss.backward()
        return torch.cat([p.grad.ravel() for p in model.parameters()])

    exact, rounded = gradient(0.5), gradient(8.0)
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.1  # 2^-9 in every product, twelve in a row and back


def test_the_attention_of_a_training_leaves_no_trace_in_what_is_saved(tmp_path):
    model = build_task_model()
    save_half(model, tmp_path / "before")
    model.set_attn_implementation(training.FLOAT32_ATTENTION)
    save_half(model, tmp_path / "after")
    assert (tmp_path / "before/config.json").read_text() == (tmp_path / "after/config.json").read_text()
