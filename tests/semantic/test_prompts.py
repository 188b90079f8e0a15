import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from semantic.agent_training import read_packed
from semantic.data.packing import IGNORE, answer_loss, pack
from semantic.endpoints.architecture import build_tokenizer
from semantic.prompts import PrefixedPrompt, ids_in_front, sensor_prompt, task_prompt
from semantic.task_agent import TaskAgent, generate
from tests.semantic.byte_tokenizers import CHAT, byte_tokenizer
from tests.semantic.models import HIDDEN, QUESTIONS, language_config

TOKENIZERS = {
    "words": build_tokenizer,
    "bos": lambda: byte_tokenizer(front=["<|im_start|>"]),
    "no bos": byte_tokenizer,
    "bos and eos": lambda: byte_tokenizer(front=["<|im_start|>"], behind=["<|im_end|>"]),
    "chat": lambda: byte_tokenizer(chat=CHAT),
    "chat, bos in its template": lambda: byte_tokenizer(front=["<|im_start|>"], chat=CHAT),
}
PROMPTS = ["{question}", "Question: {question} Answer:", "Image: {tokens}\nQuestion: {question}\nAnswer: ", None]
ANSWERS = ["yes", "light brown", "3", "tennis racket", "0", "metal"]


def task_agent(tokenizer, prompt=None):
    torch.manual_seed(0)
    model = LlamaForCausalLM(language_config(len(tokenizer)))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return TaskAgent(model, tokenizer, prompt=prompt or task_prompt(tokenizer))


@pytest.fixture(params=TOKENIZERS.items(), ids=lambda case: case[0])
def tokenizer(request):
    return request.param[1]()


def answers_of(agent, tokenizer):
    return ["yes", "red", "3", "no", "0", "metal"] if agent.tokenizer.unk_token else ANSWERS


# --- the place of the prefix -------------------------------------------------------------------------------------


def test_smollm2s_prefix_stands_in_the_users_turn_and_not_in_the_header():
    tokenizer = byte_tokenizer(chat=CHAT)
    layout = PrefixedPrompt(tokenizer, task_prompt(tokenizer))
    assert tokenizer.decode(layout.head) == "<|im_start|>user\n"
    (tail,) = layout.tails(["is it red ?"])
    assert tokenizer.decode(tail).startswith("\nis it red ?\n")
    assert tokenizer.decode(tail).endswith("<|im_end|>\n<|im_start|>assistant\n")
    bare = PrefixedPrompt(tokenizer, "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
    assert bare.head == []  # its bos_token is the first of the header, and nothing puts it in front


@pytest.mark.parametrize("prompt", ["{question}", "<|im_start|>{question}", "{tokens}{question}"])
def test_a_first_token_stands_in_front_of_the_prefix_once(prompt):
    tokenizer = byte_tokenizer(front=["<|im_start|>"], behind=["<|im_end|>"])
    assert ids_in_front(tokenizer) == [tokenizer.bos_token_id]
    layout = PrefixedPrompt(tokenizer, prompt)
    assert layout.head == [tokenizer.bos_token_id]
    assert tokenizer.decode(layout.tails(["red"])[0]) == "red"  # no end behind the question either
    chat = PrefixedPrompt(tokenizer, "<|im_start|>user\n{tokens}{question}")
    assert tokenizer.decode(chat.head) == "<|im_start|>user\n"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_training_and_use_lay_out_the_same_positions(tokenizer, prompt):
    agent = task_agent(tokenizer, prompt)
    received = torch.randn(1, 3, HIDDEN, generator=torch.Generator().manual_seed(0))
    encoded = [agent.answered(q, a) for q, a in zip(QUESTIONS, answers_of(agent, tokenizer), strict=True)]
    packed = pack([[ids for ids, _ in encoded]], 600, sizes=[[size for _, size in encoded]])
    hidden = read_packed(agent, received, packed)
    right = 0
    for number, (question, (ids, size)) in enumerate(zip(QUESTIONS, encoded, strict=True), start=1):
        (tail,) = agent.layout.tails([question])
        assert ids[: -1 - size].tolist() == tail
        row = torch.tensor([[*agent.layout.head, *ids]])
        embeds, mask = agent.with_prefix(row, torch.ones_like(row), received)
        expected = agent.model(inputs_embeds=embeds, attention_mask=mask).logits[0, -len(ids) :]
        torch.testing.assert_close(agent.logits(hidden[packed.segment == number]), expected, atol=1e-4, rtol=1e-4)
        right += expected[-2 - size : -2].argmax(-1).tolist() == ids[-1 - size : -1].tolist()
    loss, accuracy = answer_loss(hidden, packed, agent.logits)
    assert accuracy.item() == pytest.approx(right / len(QUESTIONS))
    assert loss.isfinite()


def test_what_is_generated_in_use_is_what_training_calls_right(tokenizer):
    agent = task_agent(tokenizer)
    received = torch.randn(6, 3, HIDDEN, generator=torch.Generator().manual_seed(1))
    rows = []
    for number, question in enumerate(QUESTIONS):
        ids = torch.tensor([[*agent.layout.head, *agent.layout.tails([question])[0]]])
        embeds, mask = agent.with_prefix(ids, torch.ones_like(ids), received[number : number + 1])
        first = agent.model(inputs_embeds=embeds, attention_mask=mask).logits[0, -1].argmax()
        out = agent.model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=2, do_sample=False)
        assert out[0, 0] == first
        rows.append(np.array([*ids[0, len(agent.layout.head) :], *out[0].tolist()[:2], 2][: ids.shape[1] + 3]))
    sizes = [[len(row) - 1 - len(agent.layout.tails([q])[0])] for row, q in zip(rows, QUESTIONS, strict=True)]
    packed = pack([[row] for row in rows], 200, sizes=sizes)
    assert answer_loss(read_packed(agent, received, packed), packed, agent.logits)[1] == 1


def test_a_batch_of_chats_is_answered_as_one_by_one(tokenizer):
    agent = task_agent(tokenizer)
    received = torch.randn(6, 3, HIDDEN, generator=torch.Generator().manual_seed(2))
    answers = agent.answer(QUESTIONS, prefix=received)
    assert agent.answer(QUESTIONS, prefix=received, batch_size=1) == answers
    assert agent.answer(QUESTIONS) != answers


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("{question}{tokens}", "once at most, and before {question}"),
        ("{tokens}{tokens}{question}", "once at most, and before {question}"),
        ("{tokens}", "must contain {question}"),
        ("{tokens:3}{question}", "no other braces"),
    ],
)
def test_a_prompt_with_its_tokens_elsewhere_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        task_agent(build_tokenizer(), prompt)


# --- chat templates ----------------------------------------------------------------------------------------------


def test_braces_of_a_template_are_text():
    tokenizer = byte_tokenizer(chat="{{ '{json} ' + messages[0]['content'] }}")
    layout = PrefixedPrompt(tokenizer, task_prompt(tokenizer))
    assert tokenizer.decode(layout.head) == "{json} "
    assert TaskAgent(task_agent(tokenizer).model, tokenizer, prompt=layout.text).layout.head == layout.head


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('only systems') }}", "takes no user's turn: only systems; give a prompt"),
        ("nothing of it", "does not keep what the user says; give a prompt"),
    ],
)
def test_a_template_that_takes_no_question_is_refused(template, message):
    with pytest.raises(ValueError, match=message):
        task_prompt(byte_tokenizer(chat=template))


def test_without_a_template_image_and_text_follow_each_other():
    assert task_prompt(build_tokenizer()) == "{question}"
    assert sensor_prompt(object(), "<img>") == "<img>{text}"


# --- answers -----------------------------------------------------------------------------------------------------


def test_an_answer_has_the_word_pieces_that_it_has_behind_the_prompt():
    tokenizer = byte_tokenizer()
    ids, size = PrefixedPrompt(tokenizer, "{question} A:").answered("is it ?", "light brown", 9)
    assert ids[-1] == 9
    assert tokenizer.decode(ids[-1 - size : -1]) == " light brown"
    ids, size = PrefixedPrompt(tokenizer, "{question}\n").answered("is it ?", "light brown", 9)
    assert tokenizer.decode(ids[-1 - size : -1]) == "light brown"


def test_an_answer_of_several_word_pieces_is_right_as_a_whole():
    rows, sizes = [[np.array([5, 1, 2, 3, 0]), np.array([5, 4, 0])]], [[3, 1]]
    packed = pack(rows, 10, sizes=sizes)
    assert packed.labels[0].tolist() == [1, 2, 3, 0, IGNORE, 4, 0, IGNORE, IGNORE, IGNORE]
    assert packed.answers[0].tolist() == [3, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert packed.num_answers == 2
    hidden = torch.nn.functional.one_hot(packed.labels.clamp(min=0), 7).float()
    assert answer_loss(hidden, packed, torch.nn.Identity())[1] == 1
    hidden[0, 2] = torch.tensor([0.0, 0, 0, 0, 0, 0, 1])
    assert answer_loss(hidden, packed, torch.nn.Identity())[1] == 0.5
    hidden[0, 2], hidden[0, 3] = packed.labels[0, 2] == torch.arange(7), torch.ones(7)
    assert answer_loss(hidden, packed, torch.nn.Identity())[1] == 1  # a wrong end does not count


def test_an_answer_that_nobody_can_write_is_refused():
    agent = task_agent(byte_tokenizer())
    with pytest.raises(ValueError, match="the answer '' takes no word pieces"):
        agent.answered("is it ?", "")
    agent.model.generation_config.eos_token_id = agent.tokenizer.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no eos_token"):
        agent.answered("is it ?", "yes")
    words = task_agent(build_tokenizer())
    with pytest.raises(ValueError, match="does not know the answer 'light zebra'"):
        words.answered("is it ?", "light zebra")


def test_an_answer_ends_with_the_models_own_end():
    agent = task_agent(byte_tokenizer())
    agent.model.generation_config.eos_token_id = [11, 12]
    assert agent.answered("is it ?", "yes")[0][-1] == 11
    agent.model.generation_config.eos_token_id = [11, agent.tokenizer.eos_token_id]
    assert agent.answered("is it ?", "yes")[0][-1] == agent.tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("text", "answer", "ends_at_a_newline"),
    [("\n\n Red.\nIt is", "red", True), ("red", "red", False), ("red\n", "red", False), ("\n", "", False)],
)
def test_an_answer_is_the_first_line_and_its_confidence_ends_there(monkeypatch, text, answer, ends_at_a_newline):
    tokenizer = byte_tokenizer()
    agent = task_agent(tokenizer)
    pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
    logits = torch.zeros(len(pieces), 1, len(tokenizer))
    sure = torch.rand(len(pieces), generator=torch.Generator().manual_seed(0)) + 3
    logits[torch.arange(len(pieces)), 0, pieces] = sure
    output = type("Output", (), {"sequences": torch.tensor([pieces]), "logits": list(logits)})()
    monkeypatch.setattr("semantic.task_agent.generate_ids", lambda *args, **kwargs: output)
    embeds = torch.zeros(1, 1, HIDDEN)
    (found,) = generate(agent.model, tokenizer, embeds, torch.ones(1, 1), 9)
    assert found == answer
    newlines = [number for number, piece in enumerate(pieces) if "\n" in tokenizer.decode([piece])]
    counted = newlines[-1] + 1 if ends_at_a_newline else len(pieces)
    assert (counted < len(pieces)) == ends_at_a_newline
    chances = torch.stack(list(logits))[:, 0].log_softmax(-1).amax(-1)
    assert found.confidence == pytest.approx(chances[:counted].sum().exp().item(), rel=1e-5)
