"""Models and texts of others: scaled embeddings, checkpointed layers, settings of decoding, markup, lengths."""

import copy

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig, OPTConfig, OPTForCausalLM

from semantic import LLMObfuscator
from semantic.agent_training import answer_from_tokens
from semantic.data.packing import encode_question, pack
from semantic.endpoints.architecture import build_tokenizer
from semantic.evaluation_mode import evaluate
from semantic.sensor_agent import SensorAgent
from semantic.task_agent import TaskAgent, input_embeddings
from semantic.texts import as_plain_text
from tests.semantic.models import HIDDEN, QUESTIONS, build_sensor_model, build_task_model, pictures
from tests.semantic.test_llm_obfuscation import Scripted, chat_tokenizer

IMAGES = pictures(2)


def gemma(hidden_size=64):
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(build_tokenizer()),
        hidden_size=hidden_size,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Gemma3ForCausalLM(config)


# --- embeddings that a layer scales ------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden_size", [64, 256])
def test_a_prefix_has_the_scale_of_what_the_embedding_layer_returns(hidden_size):
    agent = TaskAgent(gemma(hidden_size), build_tokenizer())
    returned = agent.model.get_input_embeddings()(torch.arange(len(build_tokenizer()))).std().item()
    assert returned == pytest.approx(0.02 * hidden_size**0.5, rel=0.05)  # the weights have 0.02
    assert agent.prefix(torch.randn(3, 2, hidden_size)).std().item() == pytest.approx(returned, rel=0.02)
    assert len(agent.answer(QUESTIONS, prefix=torch.randn(6, 2, hidden_size))) == 6


def test_slots_start_at_the_scale_of_what_the_embedding_layer_returns(monkeypatch):
    model, tokenizer = build_sensor_model(), build_tokenizer()
    layer = input_embeddings(model)
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda ids: 8 * forward(ids))
    processor = type("Processor", (), {"tokenizer": tokenizer, "image_token": "<image>", "image_token_id": 4})()
    slots = SensorAgent(model, processor, num_tokens=50).slots
    assert slots.std().item() == pytest.approx(8 * layer.weight.std().item(), rel=0.1)


# --- checkpointed layers -----------------------------------------------------------------------------------------


def kept_bytes(loss):
    """Compute a loss and its gradient; return both, and the bytes kept between them."""
    sizes = {}

    def keep(tensor):
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss()
    value.backward()
    return value.item(), sum(sizes.values())


def test_checkpointing_works_in_training_with_the_same_gradient_and_no_dropout(agents):
    for config in (agents.sensor.model.config.text_config, agents.task_agent.model.config):
        config.attention_dropout = 0.5
    for module in agents.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    features = torch.stack(agents.sensor.image_tokens(IMAGES)).float()
    ids, mask = agents.sensor.tokenize(["this is a question about the color of a thing ."] * 2, features.shape[1])
    tokenizer = agents.task_agent.tokenizer
    packed = pack([[encode_question(tokenizer, "is there a cube ?", "yes")]] * 2, 20)
    trained = [agents.sensor.slots, *(p for n, p in agents.sensor.named_parameters() if "lora_" in n)]
    for parameter in trained:
        parameter.requires_grad_()

    def loss():
        tokens = agents.sensor.express(features, ids, mask)
        return answer_from_tokens(agents.task_agent, agents.code.decode(agents.code.encode(tokens)), packed)[0]

    def measured():
        agents.code.eval()  # whose power would move
        for parameter in trained:
            parameter.grad = None
        value, size = kept_bytes(loss)
        return value, size, [p.grad.clone() for p in trained]

    agents.train()
    value, size, gradient = measured()
    agents.sensor.model.activation_checkpointing_enable()
    agents.task_agent.model.activation_checkpointing_enable()
    agents.train()
    checkpointed, smaller, same_gradient = measured()
    assert smaller < 0.4 * size
    assert checkpointed == pytest.approx(value, rel=1e-6)
    for before, after in zip(gradient, same_gradient, strict=True):
        assert torch.allclose(before, after, rtol=1e-4, atol=1e-7)
    expected = copy.deepcopy(agents).eval()
    assert not agents.sensor.model.training
    assert agents.sensor.tokens(IMAGES * 3, QUESTIONS).equal(expected.sensor.tokens(IMAGES * 3, QUESTIONS))
    assert agents.sensor.answer(IMAGES * 3, QUESTIONS) == expected.sensor.answer(IMAGES * 3, QUESTIONS)
    assert agents.task_agent.answer(QUESTIONS) == expected.task_agent.answer(QUESTIONS)
    agents.eval()
    assert measured()[1] > 0.9 * size  # nothing is checkpointed any more


def test_a_layer_that_drops_out_by_its_own_flag_does_not_when_checkpointed():
    torch.manual_seed(0)
    model = OPTForCausalLM(OPTConfig(vocab_size=20, hidden_size=16, ffn_dim=16, num_hidden_layers=2,
                                     num_attention_heads=2, word_embed_proj_dim=16, dropout=0.5))  # fmt: skip
    embeds = torch.randn(2, 5, 16, requires_grad=True)
    evaluate(model, checkpoint=False)
    expected = model(inputs_embeds=embeds).logits
    model.activation_checkpointing_enable()
    evaluate(model, checkpoint=True)
    assert torch.equal(model(inputs_embeds=embeds).logits, expected)
    evaluate(model, checkpoint=True)  # again, as every training step does
    assert torch.equal(model(inputs_embeds=embeds).logits, expected)


# --- settings of decoding ----------------------------------------------------------------------------------------

OWN_SETTINGS = [
    {"num_beams": 4},
    {"repetition_penalty": 1.9},
    {"no_repeat_ngram_size": 1},
    {"do_sample": True, "temperature": 5.0},
    {"suppress_tokens": list(range(20, 160))},
    {"forced_eos_token_id": 70},
    {"min_new_tokens": 6},
    {"exponential_decay_length_penalty": (1, 9.0)},
    {"prompt_lookup_num_tokens": 3},
    {"num_beams": 2, "num_return_sequences": 2},
    {"return_dict_in_generate": False, "output_scores": True},
    {"max_length": 2},
    {"cache_implementation": "static"},
    {"stop_strings": ["a"]},
]


@pytest.mark.parametrize("settings", OWN_SETTINGS, ids=str)
def test_decoding_is_greedy_whatever_the_checkpoint_says(agents, settings):
    expected = agents.task_agent.answer(QUESTIONS), agents.sensor.answer(IMAGES * 3, QUESTIONS)
    for model in (agents.task_agent.model, agents.sensor.model):
        for name, value in settings.items():
            setattr(model.generation_config, name, value)
    own = agents.task_agent.model.generation_config
    answers = agents.task_agent.answer(QUESTIONS), agents.sensor.answer(IMAGES * 3, QUESTIONS)
    assert answers == expected
    assert [a.confidence for a in answers[0]] == [a.confidence for a in expected[0]]
    assert agents.task_agent.model.generation_config is own  # for whoever uses the model otherwise


def test_an_obfuscators_model_decodes_greedily_too():
    tokenizer = chat_tokenizer()
    model = build_task_model()
    expected = LLMObfuscator(model, tokenizer, prompt="{question}", max_new_tokens=6).describe(QUESTIONS)
    model.generation_config = GenerationConfig(eos_token_id=2, num_beams=3, repetition_penalty=1.9)
    assert LLMObfuscator(model, tokenizer, prompt="{question}", max_new_tokens=6).describe(QUESTIONS) == expected


def test_the_end_of_an_answer_is_the_checkpoints_or_else_the_tokenizers():
    model = build_task_model()
    expected = TaskAgent(model, build_tokenizer()).answer(QUESTIONS)
    model.generation_config.eos_token_id = None
    assert TaskAgent(model, build_tokenizer()).answer(QUESTIONS) == expected
    model.generation_config.eos_token_id = [2, 70]
    assert len(TaskAgent(model, build_tokenizer()).answer(QUESTIONS)) == 6


# --- markup ------------------------------------------------------------------------------------------------------

MARKUP = ["<image>", "<s>", "</s>", "<pad>", "<object>", "<slot0>", "<image><image>", "<<s>s>", "a<image>b"]


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_in_a_text_is_text(agents, markup):
    tokenizer = agents.task_agent.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    question = f"what is {markup} ?"
    (plain,) = as_plain_text([question], tokenizer)
    assert plain.replace(" ", "") == question.replace(" ", "")
    assert not special & set(tokenizer(plain, add_special_tokens=False)["input_ids"])
    assert len(agents.task_agent.answer([question], prefix=torch.randn(1, 3, HIDDEN))) == 1
    assert len(agents.sensor.answer(IMAGES[:1], [question])) == 1
    assert agents.sensor.tokens(IMAGES[:1], [question]).shape == (1, 3, HIDDEN)
    ids = encode_question(tokenizer, question, "yes")
    assert special & set(ids.tolist()) == {tokenizer.eos_token_id}
    assert ids.tolist().count(tokenizer.eos_token_id) == 1
    tokenizer = chat_tokenizer()
    model = Scripted(tokenizer, lambda prompt: "a question about size")
    LLMObfuscator(model, tokenizer, prompt="{question}").describe([question])
    assert not special & set(tokenizer(model.prompts[0], add_special_tokens=False)["input_ids"][1:])


def test_texts_without_markup_stay_as_they_are():
    texts = [*QUESTIONS, "1 < 2 > 0", "<S>", "< s >", "", "\0", "🤷 {text} %s <b>", "<unk>"]
    assert as_plain_text(texts, build_tokenizer()) == texts


def test_a_prompts_own_markup_is_markup(agents):
    agents.sensor.prompt = "<s> {text} <image>"
    assert agents.sensor.tokens(IMAGES[:1], ["is it <image> ?"]).shape == (1, 3, HIDDEN)


# --- what no model can read --------------------------------------------------------------------------------------


def test_half_a_surrogate_pair_is_refused_by_number(agents):
    questions = ["is there a cube ?", "what is \ud83d ?"]
    for ask in (
        agents.task_agent.answer,
        lambda texts: agents.sensor.answer(IMAGES, texts),
        lambda texts: agents.sensor.tokens(IMAGES, texts),
        LLMObfuscator(build_task_model(), chat_tokenizer(), prompt="{question}").describe,
        agents.check,
    ):
        with pytest.raises(ValueError, match=r"(question|text) 1: it holds U\+D83D, half of a surrogate pair"):
            ask(questions)
    with pytest.raises(TypeError, match="question 1 must be a str, got NoneType"):
        agents.task_agent.answer(["is there a cube ?", None])


def test_a_text_longer_than_the_models_positions_is_refused_before_anything_is_computed(agents, monkeypatch):
    def compute(*args, **kwargs):
        raise AssertionError("something was computed")

    positions = agents.task_agent.model.config.max_position_embeddings
    fits = positions - 1 - 3 - agents.task_agent.max_new_tokens  # beside <s>, the prefix, and the answer
    agents.task_agent.check([fits * "cube "], num_tokens=3)
    monkeypatch.setattr(agents.sensor.model, "get_image_features", compute)
    monkeypatch.setattr(agents.task_agent.model, "forward", compute)
    long = ["is there a cube ?", (fits + 1) * "cube "]
    message = (
        rf"question 1 takes {fits + 2} word pieces in its prompt and 11 beside it, LlamaForCausalLM has {positions}"
    )
    agents.channel = compute
    for ask in (
        lambda: agents.task_agent.answer(long, prefix=torch.randn(2, 3, HIDDEN)),
        lambda: agents.answer(IMAGES, long, snr_db=0.0),
        lambda: agents.check(long),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    with pytest.raises(ValueError, match=r"question 4711 takes"):
        agents.check(long, [17, 4711])
    patches = agents.sensor.model.config.image_seq_length
    for ask in (agents.sensor.answer, agents.sensor.tokens):
        with pytest.raises(ValueError, match=r"text 1 takes \d+ word pieces in its prompt and \d beside it"):
            ask(IMAGES, ["is there a cube ?", (positions - patches) * "cube "])


def test_the_positions_of_images_count_as_they_are_whatever_the_configuration_says(agents, monkeypatch):
    """A configuration may say nothing, or less than images take."""
    model = agents.sensor.model
    positions, patches = model.config.get_text_config().max_position_embeddings, model.config.image_seq_length
    fits = positions - patches - 2 - agents.sensor.max_new_tokens  # beside <s>, the image and the answer
    for stated in (0, patches, 7):  # 0: nothing
        monkeypatch.setattr(model.config, "image_seq_length", stated)
        agents.sensor.__dict__.pop("_usual_patches", None)
        assert len(agents.sensor.answer(IMAGES, ["is there a cube ?", fits * "cube "])) == 2
        long = ["is there a cube ?", (fits + 2) * "cube "]
        message = rf"text 1 takes {positions - agents.sensor.max_new_tokens + 1} word pieces in its prompt and 8 beside"
        decode = agents.sensor._decode
        agents.sensor._decode = lambda *args, **kwargs: pytest.fail("the language model was asked")
        if stated != 7:
            with pytest.raises(ValueError, match=message):
                agents.sensor.check(long, agents.sensor.max_new_tokens)
        with monkeypatch.context() as patch:
            patch.setattr(agents.sensor, "_position_bytes", lambda: 0)
            with pytest.raises(ValueError, match=message):
                agents.sensor.answer(IMAGES, long)
        agents.sensor._decode = decode


def test_a_chat_models_request_is_no_longer_than_its_positions():
    describe = LLMObfuscator(build_task_model(), chat_tokenizer(), prompt="{question}", batch_size=1)
    with pytest.raises(ValueError, match=r"question 2 takes \d+ word pieces"):
        describe.describe(["is it red ?", "is it red ?", 600 * "cube "])
