import pickle

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from semantic.endpoints.architecture import build_tokenizer
from semantic.task_agent import Answer, TaskAgent
from semantic.tasks import normalize_answer
from tests.semantic.models import HIDDEN, QUESTIONS, build_task_model, changed, language_config, parameters_of


@pytest.fixture(scope="module")
def agent():
    return TaskAgent(build_task_model(), build_tokenizer())


def received(count=6, num_tokens=3, seed=0):
    return torch.randn(count, num_tokens, HIDDEN, generator=torch.Generator().manual_seed(seed))


def ids_of(agent, question):
    return agent.tokenizer(question, return_tensors="pt")["input_ids"]


@torch.no_grad()
def greedy(agent, embeds, max_new_tokens=8):
    """Decode one sequence greedily, everything computed anew for every word."""
    words = []
    for _ in range(max_new_tokens):
        word = agent.model(inputs_embeds=embeds, use_cache=False).logits[0, -1].argmax()
        if word == agent.tokenizer.eos_token_id:
            break
        words.append(word.item())
        embeds = torch.cat([embeds, agent.model.get_input_embeddings()(word)[None, None]], dim=1)
    return normalize_answer(agent.tokenizer.decode(words, skip_special_tokens=True))


def other_tokenizer(words, **special):
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="thing"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", ids["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **special)


# --- answers -----------------------------------------------------------------------------------------------------


def test_blind_answers_are_those_of_transformers_own_generate(agent):
    expected = []
    for question in QUESTIONS:
        ids = ids_of(agent, question)
        out = agent.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        expected.append(normalize_answer(agent.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)))
    assert agent.answer(QUESTIONS) == expected
    assert len(set(expected)) > 3


def test_answers_behind_a_prefix_are_the_greedy_ones(agent):
    tokens = received()
    expected = []
    for question, prefix in zip(QUESTIONS, agent.prefix(tokens), strict=True):
        embeds = agent.model.get_input_embeddings()(ids_of(agent, question))
        expected.append(greedy(agent, torch.cat([embeds[:, :1], prefix[None], embeds[:, 1:]], dim=1)))
    assert agent.answer(QUESTIONS, prefix=tokens) == expected
    assert len(set(expected)) > 3
    assert expected != agent.answer(QUESTIONS)


@pytest.mark.parametrize("prefix", [None, received()], ids=["blind", "prefix"])
def test_answers_do_not_depend_on_batch_or_neighbours(agent, prefix):
    at_once = agent.answer(QUESTIONS, prefix=prefix)
    assert agent.answer(QUESTIONS, prefix=prefix, batch_size=1) == at_once
    assert agent.answer(QUESTIONS, prefix=prefix, batch_size=4) == at_once


def test_the_prompt_is_what_the_model_reads():
    bare, worded = (
        TaskAgent(build_task_model(), build_tokenizer(), prompt=p) for p in ("{question}", "a {question} :")
    )
    assert worded.answer(QUESTIONS) == bare.answer([f"a {q} :" for q in QUESTIONS])
    assert worded.answer(QUESTIONS) != bare.answer(QUESTIONS)


def test_no_answer_is_longer_than_allowed():
    agent = TaskAgent(build_task_model(), build_tokenizer(), max_new_tokens=2)
    assert max(len(a.split()) for a in agent.answer(QUESTIONS)) <= 2
    assert max(len(a.split()) for a in TaskAgent(agent.model, agent.tokenizer).answer(QUESTIONS)) > 2


def test_a_bfloat16_model_answers_behind_float32_tokens():
    agent = TaskAgent(build_task_model().to(torch.bfloat16), build_tokenizer())
    assert agent.prefix(received()).dtype == torch.bfloat16
    assert len(agent.answer(QUESTIONS, prefix=received())) == len(QUESTIONS)


def test_a_tokenizer_without_padding_as_llama_2s_answers_the_same():
    tokenizer = build_tokenizer()
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    unpadded = other_tokenizer(words, additional_special_tokens=[w for w in words if w.startswith("<")])
    assert unpadded.pad_token is None
    agent, usual = TaskAgent(build_task_model(), unpadded), TaskAgent(build_task_model(), tokenizer)
    assert agent.answer(QUESTIONS, prefix=received()) == usual.answer(QUESTIONS, prefix=received())


# --- the prefix --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_tokens", [1, 3, 8])
def test_the_prefix_stands_behind_each_questions_first_token(agent, num_tokens):
    tokens = received(num_tokens=num_tokens)
    inputs = agent.tokenizer(QUESTIONS, return_tensors="pt", padding=True, padding_side="left")
    embeds, mask = agent.with_prefix(inputs["input_ids"], inputs["attention_mask"], tokens)
    table = agent.model.get_input_embeddings()
    assert embeds.shape[:2] == mask.shape == (len(QUESTIONS), inputs["input_ids"].shape[1] + num_tokens)
    for b, question in enumerate(QUESTIONS):
        ids = ids_of(agent, question)[0]
        assert ids[0] == agent.tokenizer.bos_token_id
        expected = torch.cat([table(ids[:1]), agent.prefix(tokens)[b], table(ids[1:])])
        assert torch.equal(embeds[b, mask[b] == 1], expected)
        assert mask[b].tolist() == sorted(mask[b].tolist())  # padding stays on the left


def test_without_a_first_token_the_prefix_comes_first(agent):
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    agent = TaskAgent(agent.model, tokenizer)
    ids = torch.tensor([[0, 0, 70, 71], [72, 73, 74, 75]])
    embeds, mask = agent.with_prefix(ids, (ids > 0).long(), received(2))
    table = agent.model.get_input_embeddings()
    for b, row in enumerate(ids):
        expected = torch.cat([agent.prefix(received(2))[b], table(row[row > 0])])
        assert torch.equal(embeds[b, mask[b] == 1], expected)


def test_the_prefix_stands_behind_a_first_token_whose_id_is_zero():
    agent = TaskAgent(build_task_model(), other_tokenizer(["<s>", "</s>", "<pad>", "thing"], pad_token="<pad>"))
    ids = agent.tokenizer("thing thing", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [[0, 3, 3]]
    embeds, _ = agent.with_prefix(ids, torch.ones_like(ids), received(1))
    table = agent.model.get_input_embeddings()
    assert torch.equal(embeds[0], torch.cat([table(ids[0, :1]), agent.prefix(received(1))[0], table(ids[0, 1:])]))


def test_received_tokens_get_the_scale_of_the_models_own_embeddings(agent):
    table = agent.model.get_input_embeddings().weight
    prefix = agent.prefix(received())
    assert torch.allclose(prefix.mean(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(prefix.std(-1, correction=0), table.std(), rtol=1e-3)
    assert torch.allclose(agent.prefix(40 * received() + 7), prefix, atol=1e-4)  # whatever noise or fading did to it


# --- nothing changes it ------------------------------------------------------------------------------------------


def test_the_task_agent_is_frozen_but_lets_the_gradient_through():
    agent = TaskAgent(build_task_model(), build_tokenizer())
    before = parameters_of(agent)
    assert not any(p.requires_grad for p in agent.parameters())
    assert not agent.train().training
    assert not agent.model.training
    tokens = received().requires_grad_()
    inputs = agent.tokenizer(QUESTIONS, return_tensors="pt", padding=True, padding_side="left")
    embeds, mask = agent.with_prefix(inputs["input_ids"], inputs["attention_mask"], tokens)
    agent.model(inputs_embeds=embeds, attention_mask=mask).logits[:, -1].logsumexp(-1).sum().backward()
    assert tokens.grad.abs().min() > 0
    assert all(p.grad is None for p in agent.parameters())
    assert not changed(before, agent)


def test_a_prompt_without_a_place_for_the_question_is_refused():
    with pytest.raises(ValueError, match=r"prompt must contain {question}, got 'answer:'"):
        TaskAgent(build_task_model(), build_tokenizer(), prompt="answer:")


def test_as_many_prefixes_as_questions_are_needed(agent):
    with pytest.raises(ValueError, match="6 questions came with 2 prefixes; one each is needed"):
        agent.answer(QUESTIONS, prefix=received(2))


def test_a_models_hidden_size_is_the_length_of_its_input_embeddings():
    config = language_config(20)
    config.hidden_size = 16
    assert TaskAgent(LlamaForCausalLM(config), build_tokenizer()).hidden_size == 16


def test_a_confidence_is_the_probability_of_the_whole_answer(agent):
    """The product over all words and the end, computed anew one word after the other."""
    for question, answer in zip(QUESTIONS, agent.answer(QUESTIONS), strict=True):
        embeds, probability = agent.model.get_input_embeddings()(ids_of(agent, question)), 1.0
        for _ in range(agent.max_new_tokens):
            with torch.no_grad():
                chances = agent.model(inputs_embeds=embeds, use_cache=False).logits[0, -1].softmax(-1)
            probability *= chances.max().item()
            if chances.argmax() == agent.tokenizer.eos_token_id:
                break
            embeds = torch.cat([embeds, agent.model.get_input_embeddings()(chances.argmax())[None, None]], dim=1)
        assert isinstance(answer, Answer)
        assert answer.confidence == pytest.approx(probability, rel=1e-4)
        assert pickle.loads(pickle.dumps(answer)).confidence == answer.confidence
