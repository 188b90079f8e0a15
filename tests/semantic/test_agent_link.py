import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from semantic import JTCC, AgentLink, TokenScaler
from semantic.agent_link import build_agents
from semantic.endpoints.architecture import build_tokenizer
from semantic.model_files import ModelFileError
from semantic.obfuscation import obfuscate
from semantic.rehash import rehash
from semantic.sensor_agent import SensorAgent
from tests.semantic.models import HIDDEN, QUESTIONS, NoisyChannel, changed, language_config, parameters_of, pictures

IMAGES = pictures(len(QUESTIONS))


@pytest.fixture
def saved(agents, pair, tmp_path):
    """Agents on disk beside the pretrained pair, as training leaves them."""
    agents.save_pretrained(tmp_path / "agents", sensor=str(pair / "sensor"), task_agent=str(pair / "task"))
    return tmp_path / "agents"


# --- the way of a question ---------------------------------------------------------------------------------------


def test_answers_go_from_image_to_code_over_the_channel_to_the_task_agent(agents):
    agents.channel = channel = NoisyChannel()
    answers = agents.answer(IMAGES, QUESTIONS, snr_db=3.0, realisation=torch.arange(6))
    ((codes, snr_db, realisation),) = channel.calls
    assert torch.equal(codes, agents.encode(IMAGES, QUESTIONS))
    assert codes.shape == (6, agents.num_tokens, agents.width)
    assert (snr_db, realisation.tolist()) == (3.0, [0, 1, 2, 3, 4, 5])
    codes_hat, error_var = channel(codes, snr_db=3.0, realisation=range(6))
    assert answers == agents.answer_codes(codes_hat, QUESTIONS, error_var)
    assert answers == agents.task_agent.answer(QUESTIONS, prefix=agents.code.decode(codes_hat, error_var))
    assert answers != agents.answer_codes(codes, QUESTIONS)  # the noise was there


def test_the_same_realisation_gives_the_same_answers_whatever_the_batch(agents):
    agents.channel = NoisyChannel()
    together = agents.answer(IMAGES, QUESTIONS, snr_db=0.0, realisation=torch.arange(6))
    one_by_one = [
        agents.answer(IMAGES[k : k + 1], QUESTIONS[k : k + 1], snr_db=0.0, realisation=torch.tensor([k]))[0]
        for k in range(6)
    ]
    assert together == one_by_one


def test_of_a_question_only_its_vague_description_is_sent(agents, monkeypatch):
    told = []
    tokens = SensorAgent.tokens

    def listen(self, images, descriptions):
        told.extend(descriptions)
        return tokens(self, images, descriptions)

    monkeypatch.setattr(SensorAgent, "tokens", listen)
    questions = ["what color is the small ball ?", "what color is the big red cube ?", "is there a ball ?"]
    sent = agents.encode([IMAGES[0]] * 3, questions)
    assert told == [obfuscate("what color is it ?")] * 2 + [obfuscate("is there a ball ?")]
    assert torch.equal(sent[0], sent[1])  # two detailed questions of one kind send the same numbers, bit by bit
    assert not torch.equal(sent[0], sent[2])


def test_without_a_channel_nothing_is_sent(agents):
    with pytest.raises(RuntimeError, match=r"no channel is set; assign one first: agents.channel = TokenChannel\("):
        agents.answer(IMAGES, QUESTIONS, snr_db=0.0)


@pytest.mark.parametrize(
    "sizes",
    [{"hidden_size": 16}, {"hidden_size": 16, "received_size": HIDDEN}, {"hidden_size": HIDDEN, "received_size": 16}],
)
@pytest.mark.parametrize("kind", ["jtcc", "uncompressed"])
def test_a_code_for_tokens_of_another_length_is_refused(agents, kind, sizes):
    code = JTCC(**sizes, width=8) if kind == "jtcc" else TokenScaler(**sizes)
    with pytest.raises(ValueError, match=f"Build it with hidden_size={HIDDEN}, received_size={HIDDEN}$"):
        AgentLink(agents.sensor, code, agents.task_agent)


# --- what counts as the same agents ------------------------------------------------------------------------------


def test_the_model_hash_moves_with_every_part(agents):
    before = agents.model_hash
    assert agents.model_hash == before
    lora = next(p for name, p in agents.sensor.named_parameters() if "lora_B" in name)
    parts = [
        agents.sensor.slots,
        lora,
        agents.sensor.model.get_input_embeddings().weight,
        agents.code.encode_linear.weight,
        agents.code.power,
        agents.task_agent.model.lm_head.weight,
    ]
    for part in parts:
        with torch.no_grad():
            kept = part.clone()
            part.view(-1)[-1].mul_(1 + 1e-6).add_(1e-6)
            assert agents.model_hash != before
            part.copy_(kept)
        assert agents.model_hash == before


def test_answering_changes_no_agent(agents):
    agents.channel = NoisyChannel()
    before = parameters_of(agents)
    agents.answer(IMAGES, QUESTIONS, snr_db=0.0)
    assert not agents.training
    assert not changed(before, agents)


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [8, None], ids=["jtcc", "uncompressed"])
def test_saved_agents_are_loaded_with_the_same_hash_codes_and_answers(pair, tmp_path, width):
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=width, r=2)
    with torch.no_grad():
        for tensor in [*(p for p in agents.parameters() if p.requires_grad), *agents.code.buffers()]:
            tensor.copy_(torch.rand_like(tensor) - 0.4).abs_()
    agents.save_pretrained(tmp_path, sensor=str(pair / "sensor"), task_agent=str(pair / "task"))
    again = AgentLink.from_pretrained(tmp_path)
    assert again.model_hash == agents.model_hash
    assert (again.num_tokens, again.width) == (3, width or HIDDEN)
    codes = agents.encode(IMAGES, QUESTIONS)
    assert torch.equal(again.encode(IMAGES, QUESTIONS), codes)
    assert again.answer_codes(codes, QUESTIONS) == agents.answer_codes(codes, QUESTIONS)
    assert again.sensor.answer(IMAGES, QUESTIONS) == agents.sensor.answer(IMAGES, QUESTIONS)


@pytest.mark.parametrize("received_size", [16, 48])
@pytest.mark.parametrize("width", [8, None], ids=["jtcc", "uncompressed"])
def test_a_task_agent_may_have_tokens_of_another_length(pair, tmp_path, width, received_size):
    config = language_config(len(build_tokenizer()))
    config.hidden_size = received_size
    LlamaForCausalLM(config).save_pretrained(tmp_path / "task")
    build_tokenizer().save_pretrained(tmp_path / "task")
    agents = build_agents(pair / "sensor", tmp_path / "task", num_tokens=3, width=width, r=2)
    assert agents.code.settings()["received_size"] == received_size
    assert agents.code.decode(agents.encode(IMAGES, QUESTIONS)).shape == (6, 3, received_size)
    agents.save_pretrained(tmp_path / "agents")
    again = AgentLink.from_pretrained(tmp_path / "agents")
    assert again.model_hash == agents.model_hash
    again.channel = agents.channel = NoisyChannel()
    answers = [a.answer(IMAGES, QUESTIONS, snr_db=3.0, realisation=torch.arange(6)) for a in (agents, again)]
    assert answers[0] == answers[1]


def test_a_folder_holds_adapter_code_and_settings_and_nothing_pickled(saved):
    assert sorted(p.name for p in saved.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "agents.json",
        "code.safetensors",
    ]
    settings = json.loads((saved / "agents.json").read_text())
    assert settings["num_tokens"] == 3
    assert settings["code"] == {"kind": "jtcc", "hidden_size": HIDDEN, "width": 8, "num_tokens": 3}
    assert set(load_file(saved / "code.safetensors")) >= {"slots", "power", "encode_linear.weight"}


def test_folders_that_are_moved_together_still_find_each_other(agents, pair, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    for name in ("sensor", "task"):
        (first / name).symlink_to(pair / name)
    agents.save_pretrained(first / "agents", sensor="../sensor", task_agent="../task")
    first.rename(second)
    assert AgentLink.from_pretrained(second / "agents").model_hash == agents.model_hash


def test_loaded_agents_can_be_saved_anywhere_and_loaded_from_there(agents, pair, tmp_path):
    (tmp_path / "first").mkdir()
    for name in ("sensor", "task"):
        (tmp_path / "first" / name).symlink_to(pair / name)
    agents.save_pretrained(tmp_path / "first" / "agents", sensor="../sensor", task_agent="../task")
    AgentLink.from_pretrained(tmp_path / "first" / "agents").save_pretrained(tmp_path / "far" / "away" / "copy")
    assert AgentLink.from_pretrained(tmp_path / "far" / "away" / "copy").model_hash == agents.model_hash


def test_a_hub_id_and_its_revision_survive_saving(saved, tmp_path):
    agents = AgentLink.from_pretrained(saved)
    agents._origin["sensor"] |= {"model": "someone/llava", "revision": "abc"}
    agents.save_pretrained(tmp_path / "copy")
    entry = json.loads((tmp_path / "copy" / "agents.json").read_text())["sensor"]
    assert (entry["model"], entry["revision"]) == ("someone/llava", "abc")


def test_agents_of_unknown_origin_ask_where_their_models_are(agents, tmp_path):
    agents = AgentLink(agents.sensor, agents.code, agents.task_agent)
    with pytest.raises(ValueError, match="the address of the sensor's model is unknown; give save_pretrained"):
        agents.save_pretrained(tmp_path / "x")
    with pytest.raises(ValueError, match="the address of the task_agent's model is unknown"):
        agents.save_pretrained(tmp_path / "x", sensor="../sensor")


def test_a_model_that_is_no_longer_there_is_named(agents, pair, tmp_path):
    agents.save_pretrained(tmp_path, sensor="../elsewhere/sensor", task_agent=str(pair / "task"))
    with pytest.raises(FileNotFoundError, match=r"agents.json names the model ../elsewhere/sensor, which is not there"):
        AgentLink.from_pretrained(tmp_path)


def test_an_unknown_name_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is neither a folder with agents.json nor a shipped pair"):
        AgentLink.from_pretrained(tmp_path / "nowhere")


def test_a_code_file_of_another_code_is_refused(saved):
    state = load_file(saved / "code.safetensors")
    del state["power"]
    save_file(state, saved / "code.safetensors")
    rehash(saved)
    with pytest.raises(
        ModelFileError, match=r"does not fit the code of agents\.json: the shape of power is None in the"
    ):
        AgentLink.from_pretrained(saved)


def test_agents_in_bfloat16_send_float32_codes(saved):
    agents = AgentLink.from_pretrained(saved, dtype=torch.bfloat16)
    codes = agents.encode(IMAGES[:2], QUESTIONS[:2])
    assert codes.dtype == torch.float32
    assert len(agents.answer_codes(codes, QUESTIONS[:2])) == 2


# --- the first tokens alone --------------------------------------------------------------------------------------


def test_only_the_first_tokens_are_sent_if_so_asked_and_do_not_depend_on_the_others(pair):
    torch.manual_seed(5)
    nested = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=8, r=2, nested=True).eval()
    nested.code.power.copy_(torch.tensor([1.0, 2.0, 4.0]))
    nested.channel = channel = NoisyChannel()
    answers = nested.answer(IMAGES, QUESTIONS, snr_db=3.0, realisation=torch.arange(6), num_tokens=2)
    ((codes, *_),) = channel.calls
    assert codes.shape == (6, 2, 8)
    assert len(answers) == 6
    fewer = SensorAgent(nested.sensor.model, nested.sensor.processor, num_tokens=2)
    with torch.no_grad():
        fewer.slots.copy_(nested.sensor.slots[:2])
        alone = nested.code.encode(fewer.tokens(IMAGES, [obfuscate(q) for q in QUESTIONS]))
    torch.testing.assert_close(codes, alone, rtol=1e-4, atol=1e-5)


def test_agents_without_a_nested_code_send_all_tokens_or_none(agents):
    agents.channel = NoisyChannel()
    with pytest.raises(ValueError, match="always sends all its tokens"):
        agents.answer(IMAGES, QUESTIONS, snr_db=3.0, num_tokens=2)
    agents.code = TokenScaler(hidden_size=HIDDEN)
    with pytest.raises(ValueError, match="uncompressed tokens are always sent together"):
        agents.answer(IMAGES, QUESTIONS, snr_db=3.0, num_tokens=2)
