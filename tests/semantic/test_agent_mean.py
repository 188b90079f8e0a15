"""The mean of agents against the mean of their weights, and the code's constants against the codes themselves."""

import pytest
import torch

from semantic import AgentLink
from semantic.agent_link import build_agents
from semantic.agent_mean import measure_code, take_mean, trained_parameters
from semantic.data.clevr import ClevrDataset
from semantic.jtcc import JTCC, TokenScaler
from semantic.training import write_card
from studies.training import train_mean
from tests.semantic.models import HIDDEN, NoisyChannel, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", 6)
    write_split(folder, "val", 3)
    return folder


def agents_of(pair, seed, width=8, **options):
    """Agents whose trained parts are drawn at random."""
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=width, r=4, **options)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained_parameters(agents):
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return agents


def test_the_mean_is_taken_of_every_trained_weight_and_of_nothing_else(pair):
    several = [agents_of(pair, seed) for seed in range(3)]
    expected = [torch.stack(parts).mean(0) for parts in zip(*map(trained_parameters, several), strict=True)]
    frozen = {name: p.clone() for name, p in several[0].task_agent.named_parameters()}
    take_mean(several[0], several[1:])
    for parameter, mean in zip(trained_parameters(several[0]), expected, strict=True):
        torch.testing.assert_close(parameter, mean)
    assert all(torch.equal(p, frozen[name]) for name, p in several[0].task_agent.named_parameters())


@pytest.mark.parametrize("change", ["width", "task agent"])
def test_agents_of_no_common_start_have_no_mean(pair, change):
    agents, other = agents_of(pair, 0), agents_of(pair, 1, width=6 if change == "width" else 8)
    if change == "task agent":
        with torch.no_grad():
            next(other.task_agent.parameters()).add_(1)
    with pytest.raises(ValueError, match="agents number 2 have another code, rank or task agent than the first"):
        take_mean(agents, [other])


def drawn_tokens(count=400, seed=0):
    """Tokens of some mean, scale and covariance."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3 * HIDDEN, 3 * HIDDEN, generator=rng) / HIDDEN**0.5
    return 0.3 + (torch.randn(count, 3 * HIDDEN, generator=rng) @ mixing).view(count, 3, HIDDEN)


@pytest.mark.parametrize("nested", [None, 3])
def test_measured_codes_have_unit_power_and_their_own_moments(nested):
    code, tokens = JTCC(hidden_size=HIDDEN, width=6, num_tokens=3, nested_tokens=nested), drawn_tokens()
    code.measure(tokens)
    code.eval()
    for number in (3,) if nested is None else (1, 2, 3):
        assert code.encode(tokens[:, :number]).square().mean().item() == pytest.approx(1, abs=1e-4)
    codes = code.encode(tokens).flatten(1) * code._power(3).sqrt()
    torch.testing.assert_close(code.moments.mean, codes.mean(0), rtol=1e-3, atol=1e-4)
    covariance = torch.cov(codes.T.double(), correction=0)
    assert (code.moments.dense() - covariance).norm() < 2e-3 * covariance.norm()


def test_measured_tokens_are_standardised():
    code, tokens = TokenScaler(hidden_size=HIDDEN, num_tokens=3), drawn_tokens()
    code.measure(tokens)
    codes = code.eval().encode(tokens)
    torch.testing.assert_close(codes.mean((0, 1)), torch.zeros(HIDDEN), atol=1e-5, rtol=0)
    torch.testing.assert_close(codes.square().mean((0, 1)), torch.ones(HIDDEN), atol=1e-4, rtol=0)
    covariance = torch.cov(codes.flatten(1).T.double(), correction=0)
    assert (code.moments.dense().diagonal() - covariance.diagonal()).abs().max() < 2e-3


def test_a_code_is_measured_on_questions_spread_over_the_split(pair, data):
    agents, dataset = agents_of(pair, 0), ClevrDataset(data, "train")
    assert measure_code(agents, dataset, len(dataset.questions), batch_size=7) == len(dataset.questions)
    images = [dataset.image(q.image_index) for q in dataset.questions]
    codes = agents.encode(images, [q.question for q in dataset.questions])
    assert codes.square().mean().item() == pytest.approx(1, abs=1e-4)
    assert measure_code(agents, dataset, 2) in (2, 3)


def test_the_stage_writes_the_mean_its_moments_and_its_card(pair, data, tmp_path):
    for seed in (0, 1):
        agents_of(pair, seed).save_pretrained(
            tmp_path / str(seed), sensor=str(pair / "sensor"), task_agent=str(pair / "task")
        )
    init = [tmp_path / "0", tmp_path / "1"]
    train_mean(tmp_path / "mean", data, init, NoisyChannel(), num_questions=20)
    mean, *parts = (AgentLink.from_pretrained(tmp_path / name) for name in ("mean", "0", "1"))
    for parameter, *of_parts in zip(*map(trained_parameters, (mean, *parts)), strict=True):
        torch.testing.assert_close(parameter, torch.stack(of_parts).mean(0), rtol=2e-3, atol=2e-3)  # stored as halves
    assert mean.code.moments.factor.any()
    card = (tmp_path / "mean" / "README.md").read_text()
    assert "tokenlink train mean --out mean --data" in card
    assert "--init 0 --init 1 --num-questions 20" in card
    assert "accuracy at -5 dB" in card


def test_a_card_repeats_an_option_that_was_given_several_times(tmp_path):
    write_card(tmp_path, title="A", stage="mean", options={"init": [tmp_path / "a", tmp_path / "b"]}, results={})
    assert "tokenlink train mean --init a --init b\n" in (tmp_path / "README.md").read_text()
