import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from semantic.data.packing import IGNORE, answer_loss, attention_mask, encode_question, pack
from semantic.endpoints.architecture import build_tokenizer
from tests.semantic.models import HIDDEN, QUESTIONS, build_task_model

ANSWERS = ["yes", "red", "3", "no", "0", "metal"]
TOKENIZER = build_tokenizer()
ENCODED = [encode_question(TOKENIZER, q, a) for q, a in zip(QUESTIONS, ANSWERS, strict=True)]


@pytest.fixture(scope="module")
def model():
    return build_task_model()


def prefixes(lengths, seed=0):
    """Random prefixes, padded on the right to the longest, and which positions are real."""
    torch.manual_seed(seed)
    embeds = torch.randn(len(lengths), max(lengths), HIDDEN)
    return embeds, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@torch.no_grad()
def packed_hidden(model, prefix, valid, packed, start):
    """Return the hidden states at the packed tokens; each question begins at position `start`."""
    embeds = torch.cat([prefix, model.get_input_embeddings()(packed.input_ids)], dim=1)
    length = prefix.shape[1]
    positions = torch.cat([torch.arange(length).expand(len(prefix), -1), start + packed.offset], dim=1)
    return model.model(
        inputs_embeds=embeds,
        attention_mask=attention_mask(valid, packed.segment),
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state[:, length:]


@torch.no_grad()
def alone_logits(model, prefix, ids, start):
    """Ask one question behind one unpadded prefix, with the model's own causal mask."""
    embeds = torch.cat([prefix, model.get_input_embeddings()(torch.from_numpy(ids.astype(np.int64)))])[None]
    positions = torch.cat([torch.arange(len(prefix)), start + torch.arange(len(ids))])[None]
    mask = torch.ones_like(positions)  # without it transformers takes a gap in the positions for a new sequence
    return model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions).logits[0, len(prefix) :]


def test_the_last_two_ids_of_a_question_are_its_answer_and_the_end():
    for ids, answer in zip(ENCODED, ANSWERS, strict=True):
        assert TOKENIZER.convert_ids_to_tokens(ids[-2:].tolist()) == [answer, "</s>"]
        assert "<unk>" not in TOKENIZER.convert_ids_to_tokens(ids.tolist())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "light brown",
            r"'light brown' takes 2 word pieces \(\['<unk>', 'brown'\]\); the embedded pair's training",
        ),
        ("", "'' takes 0 word pieces"),
        ("zebra", "does not know the answer 'zebra'"),
    ],
)
def test_an_answer_that_is_no_single_known_word_is_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        encode_question(TOKENIZER, QUESTIONS[0], answer)


def test_a_tokenizer_without_an_end_is_refused():
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no eos_token"):
        encode_question(tokenizer, QUESTIONS[0], "yes")


def test_ids_of_large_vocabularies_are_kept():
    large = Tokenizer(models.WordLevel({"a": 0, "yes": 150_000, "<unk>": 1, "</s>": 255_000}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=large, unk_token="<unk>", eos_token="</s>")
    ids = encode_question(tokenizer, "a", "yes")
    assert ids.tolist() == [0, 150_000, 255_000]
    assert pack([[ids]], 4).labels[0].tolist() == [150_000, 255_000, IGNORE, IGNORE]


def test_a_packed_question_gets_the_logits_of_being_asked_alone(model):
    prefix, valid = prefixes([4, 7, 5])
    rows = [ENCODED, ENCODED[3:], ENCODED[1:4]]
    packed = pack(rows, length=70)
    logits = model.lm_head(packed_hidden(model, prefix, valid, packed, start=7))
    for b, row in enumerate(rows):
        for number, ids in enumerate(row, start=1):
            expected = alone_logits(model, prefix[b, valid[b]], ids, start=7)
            found = logits[b, packed.segment[b] == number]
            assert torch.allclose(found, expected, atol=1e-5), (b, number)
            assert expected.std() > 0.1  # a comparison of logits that all vanish would say nothing


def test_padding_behind_the_questions_and_behind_the_prefix_is_harmless(model):
    prefix, valid = prefixes([5, 5])
    rows = [ENCODED[:3], ENCODED[3:]]
    short, long = pack(rows, length=45), pack(rows, length=90)
    at_short, at_long = short.segment > 0, long.segment > 0
    assert torch.equal(short.input_ids[at_short], long.input_ids[at_long])
    tight = packed_hidden(model, prefix, valid, short, start=5)[at_short]
    assert torch.allclose(packed_hidden(model, prefix, valid, long, start=5)[at_long], tight, atol=1e-5)

    padded = torch.cat([prefix, torch.full((2, 3, HIDDEN), 50.0)], dim=1)
    seen = torch.cat([valid, torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    assert torch.allclose(packed_hidden(model, padded, seen, short, start=5)[at_short], tight, atol=1e-5)
    assert torch.isfinite(packed_hidden(model, padded, seen, long, start=5)).all()


def test_what_does_not_fit_is_left_out_whole():
    lengths = [len(ids) for ids in ENCODED]
    packed = pack([ENCODED], length=sum(lengths[:3]) - 1)
    assert packed.segment.max() == 2
    assert (packed.segment > 0).sum() == sum(lengths[:2])
    assert (packed.labels != IGNORE).sum() == 4
    assert pack([ENCODED], length=sum(lengths[:3])).segment.max() == 3


def test_only_answers_and_ends_are_to_be_predicted_and_captions_word_by_word():
    caption = np.array([5, 6, 7, 8, 2])
    packed = pack([ENCODED[:2], ENCODED[:1]], length=40, captions=[None, caption])
    for b, turns in enumerate([ENCODED[:2], [caption, ENCODED[0]]]):
        start = 0
        for ids in turns:
            labels = packed.labels[b, start : start + len(ids)].tolist()
            if ids is caption:
                assert labels == [*ids[1:].tolist(), IGNORE]
            else:
                assert labels == [IGNORE] * (len(ids) - 3) + [*ids[-2:].tolist(), IGNORE]
            start += len(ids)
        assert (packed.labels[b, start:] == IGNORE).all()
    assert packed.answers.sum() == 3
    assert set(packed.labels[packed.answers == 1].tolist()) <= {int(ids[-2]) for ids in ENCODED}


def test_the_loss_is_the_mean_over_questions_asked_alone(model):
    prefix, valid = prefixes([4, 4])
    rows = [ENCODED[:3], ENCODED[3:]]
    packed = pack(rows, length=50)
    loss, accuracy = answer_loss(packed_hidden(model, prefix, valid, packed, start=4), packed, model.lm_head)
    losses, right = [], []
    for b, row in enumerate(rows):
        for ids in row:
            logits = alone_logits(model, prefix[b], ids, start=4)[-3:-1]
            target = torch.from_numpy(ids[-2:].astype(np.int64))
            losses.append(torch.nn.functional.cross_entropy(logits, target).item())
            right.append(logits[0].argmax().item() == ids[-2])
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert accuracy.item() == pytest.approx(np.mean(right))


def test_a_right_answer_counts_and_a_right_end_does_not():
    packed = pack([ENCODED[:2]], length=40)
    hidden = torch.nn.functional.one_hot(packed.labels.clamp(min=0), len(TOKENIZER)).float()
    identity = torch.nn.Identity()
    assert answer_loss(hidden, packed, identity)[1] == 1
    wrong = hidden.clone()
    wrong[packed.answers == 1] = 0
    wrong[packed.answers == 1, 0] = 1
    assert answer_loss(wrong, packed, identity)[1] == 0
