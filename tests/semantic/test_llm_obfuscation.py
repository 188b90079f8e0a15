import re

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from semantic import LLMObfuscator
from semantic.data import shipped_split
from semantic.endpoints.architecture import build_tokenizer
from semantic.llm_obfuscation import PROMPT, leaked_words
from semantic.obfuscation import obfuscate
from semantic.sensor_agent import SensorAgent
from semantic.tasks import ATTRIBUTES, DIRECTIONS, PLURALS, SYNONYMS
from tests.semantic.models import QUESTIONS, pictures

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %} :{% endif %}"
PRIVATE = {value for values in ATTRIBUTES.values() for value in values} | set(DIRECTIONS)
PRIVATE |= {word for words in SYNONYMS.values() for word in words} | set(PLURALS) | set(PLURALS.values())
PRIVATE -= {"thing", "things", "object", "objects"}


def words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def chat_tokenizer():
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def chat_model():
    """A chat model of random weights: it writes whatever comes to its mind."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(build_tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


class Scripted(torch.nn.Module):
    """A chat model that says what a function makes of the prompt, in the tokenizer's words."""

    device = torch.device("cpu")

    def __init__(self, tokenizer, says):
        super().__init__()
        self.config, self.generation_config = LlamaConfig(), GenerationConfig()
        self.tokenizer, self.says, self.prompts = tokenizer, says, []

    def generate(self, input_ids, attention_mask, generation_config):
        assert not generation_config.do_sample
        said = []
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            assert mask[-1] == 1  # padded on the left: what follows is the answer
            prompt = self.tokenizer.decode(ids[mask == 1])
            self.prompts.append(prompt)
            said.append(self.tokenizer(self.says(prompt), add_special_tokens=False)["input_ids"])
        longest = max(map(len, said))
        padded = [ids + [self.tokenizer.pad_token_id] * (longest - len(ids)) for ids in said]
        return torch.cat([input_ids, torch.tensor(padded, dtype=torch.long).reshape(len(said), longest)], 1)


def scripted(says, **options):
    tokenizer = chat_tokenizer()
    model = Scripted(tokenizer, says)
    return LLMObfuscator(model, tokenizer, prompt="{question}", **options), model


def test_a_chat_model_describes_and_nothing_private_of_any_question_leaves(chat_model):
    describe = LLMObfuscator(chat_model, chat_tokenizer(), batch_size=4, max_new_tokens=12)
    descriptions = describe.describe(QUESTIONS)
    for question, description in zip(QUESTIONS, descriptions, strict=True):
        assert description
        assert not leaked_words(question, description)
    assert descriptions == [LLMObfuscator(chat_model, chat_tokenizer(), max_new_tokens=12)(q) for q in QUESTIONS]


def test_what_a_model_says_is_taken_as_it_is_if_it_is_vague():
    describe, _ = scripted(lambda prompt: "this question is about the size")
    assert describe(QUESTIONS[0]) == "this question is about the size"
    assert describe.num_fallbacks == 0


def test_a_model_that_repeats_the_question_is_overruled_and_counted():
    describe, _ = scripted(lambda prompt: prompt)
    assert describe.describe(QUESTIONS) == [obfuscate(question) for question in QUESTIONS[:2]] + [
        describe(QUESTIONS[2]), *map(obfuscate, QUESTIONS[3:]),
    ]  # fmt: skip
    assert describe.num_fallbacks == len(QUESTIONS) - 1  # "how many things are there ?" holds nothing private


def test_silence_is_no_description():
    describe, _ = scripted(lambda prompt: "")
    assert describe(QUESTIONS[0]) == obfuscate(QUESTIONS[0])
    assert describe.num_fallbacks == 1


def test_each_different_question_is_asked_once_in_batches():
    sizes = []
    describe, model = scripted(lambda prompt: "two numbers", batch_size=2)
    generate = model.generate
    model.generate = lambda **inputs: sizes.append(len(inputs["input_ids"])) or generate(**inputs)
    describe.describe([*QUESTIONS[:3], QUESTIONS[0]])
    describe(QUESTIONS[1])
    assert sizes == [2, 1]
    assert [prompt.removesuffix(" :") for prompt in model.prompts] == QUESTIONS[:3]


@pytest.mark.parametrize(
    ("question", "description", "leaked"),
    [
        ("Is there a red cube?", "This is a question related to colors in the image.", set()),
        ("Is there a red cube?", "A reddish BLOCK.", {"reddish", "block"}),
        ("how many shiny cubes are there ?", "counting metallic cubical things", {"metallic", "cubical"}),
        ("how many big balls are there ?", "counting large spheres, 2 of them", {"large", "spheres"}),
        ("what is left of the thing ?", "a question about position, left or right", {"left"}),
        ("Is the dog behind the café?", "The presence of dogs near the cafe", {"dogs", "cafe"}),
        ("Which of the 12 is the same size?", "a question about the same size, 12 times", {"12"}),
    ],
)
def test_leaks_are_found_in_any_form(question, description, leaked):
    assert leaked_words(question, description) == leaked


@pytest.mark.parametrize("says", [lambda prompt: prompt, lambda prompt: "blue metal sphere left of the cube"])
def test_of_all_shipped_test_questions_no_private_word_is_sent(says):
    questions = sorted({q.question for q in shipped_split().questions})
    assert len(questions) > 2000
    describe, _ = scripted(says, batch_size=500)
    for question, by_rule, by_model in zip(
        questions, map(obfuscate, questions), describe.describe(questions), strict=True
    ):
        private = words(question) & PRIVATE
        assert not words(by_rule) & PRIVATE, question
        assert not words(by_model) & private, question
        assert not leaked_words(question, by_rule), question


def test_the_sensor_is_told_what_the_agents_part_says(agents, monkeypatch):
    told = []
    tokens = SensorAgent.tokens
    monkeypatch.setattr(SensorAgent, "tokens", lambda self, images, d: told.extend(d) or tokens(self, images, d))
    images = pictures(2)
    agents.obfuscate = lambda question: "this is a question about the size of a thing ."
    agents.encode(images, QUESTIONS[:2])
    agents.obfuscate, model = scripted(lambda prompt: "two numbers")
    agents.encode(images, QUESTIONS[:2])
    assert told == ["this is a question about the size of a thing ."] * 2 + ["two numbers"] * 2
    assert len(model.prompts) == 2


def test_what_cannot_work_is_refused(chat_model):
    with pytest.raises(ValueError, match="has no chat template"):
        LLMObfuscator(chat_model, build_tokenizer())
    with pytest.raises(ValueError, match=r"prompt must contain \{question\}"):
        LLMObfuscator(chat_model, chat_tokenizer(), prompt="what ?")
    assert "{question}" in PROMPT
