import functools
import zlib
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import bridge  # noqa: F401 -- before phy: it fixes the order in which the two frameworks are loaded

# isort: split
from phy import LinkConfig, link_adaptation
from phy.digital_link import MCS
from phy.link_adaptation import FIRST_REALISATION, QPSK, PayloadLink, Received, digital_link, loss_rates
from studies import accuracy_vs_snr
from studies.curves import CURVES
from studies.questions import Batch
from studies.schemes.carriers import quantized
from studies.schemes.carriers.jpeg import JpegImages, sample_error
from studies.schemes.carriers.lossless import Everything
from studies.schemes.carriers.text import Texts, sample_answers, sample_captions
from studies.schemes.digital.jpeg_code import compress, decompress
from studies.schemes.digital.payload_link import kept_loss_rates, make_payload_link
from studies.schemes.digital.quantizers import (
    TransformQuantizer,
    VectorQuantizer,
    allocate_bits,
    k_means,
    lloyd_max,
    pack,
    unpack,
)
from studies.schemes.digital.text_code import TextCode
from studies.schemes.encoders.captions import PROMPT
from studies.study_config import ModelsConfig
from tests.studies.fakes import FakeDataset, FakeDigitalLink, FakeQuestion, fake_link

# --- words ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captions():
    return sample_captions(250)


@pytest.fixture(scope="module")
def code(captions):
    return TextCode(captions[:200])


@settings(derandomize=True, deadline=None, max_examples=50)
@given(text=st.text() | st.lists(st.sampled_from(["small", "red", "", "été"])).map(" ".join), zeros=st.integers(0, 9))
def test_any_text_comes_back_whatever_zeros_follow_it(code, text, zeros):
    assert code.decode(code.encode(text) + bytes(zeros)) == text


@settings(derandomize=True, deadline=None, max_examples=50)
@given(payload=st.binary(max_size=40))
def test_wrong_bytes_are_a_text_or_refused(code, payload):
    try:
        text = code.decode(payload)
    except ValueError:
        return
    assert code.decode(code.encode(text)) == text


def test_captions_that_the_code_has_not_seen_take_half_of_deflate_with_the_same_samples(captions, code):
    dictionary = " ".join(captions[:200]).encode()[-32_000:]

    def deflated(text):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary)
        return len(deflate.compress(text.encode()) + deflate.flush())

    assert sum(len(code.encode(text)) for text in captions[200:]) < 0.5 * sum(map(deflated, captions[200:]))


def test_an_answer_of_the_task_world_takes_a_byte():
    answers = sample_answers()
    answer_code = TextCode(answers)
    assert len(set(answers)) == len(answers)
    assert {len(answer_code.encode(answer)) for answer in answers} == {1}


# --- quantisers ----------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=50)
@given(widths=st.lists(st.integers(0, 8), max_size=20), seed=st.integers(0, 1000), spare=st.integers(0, 3))
def test_indices_come_back_from_their_bits(widths, seed, spare):
    indices = np.random.default_rng(seed).integers(0, 2 ** np.array(widths, dtype=np.int64), (3, len(widths)))
    num_bytes = -(-sum(widths) // 8) + spare
    payloads = pack(indices, np.array(widths, dtype=np.int64), num_bytes)
    assert {len(payload) for payload in payloads} == {num_bytes}
    for row, payload in zip(indices, payloads, strict=True):
        np.testing.assert_array_equal(unpack(payload, np.array(widths, dtype=np.int64)), row)


@pytest.mark.parametrize(("bits", "distortion"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_levels_for_gaussian_samples_have_the_distortion_that_max_computed(bits, distortion):
    # J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6(1), 1960, table I
    samples = norm.ppf((np.arange(20_000) + 0.5) / 20_000)  # as evenly as Gaussian samples can lie
    levels = lloyd_max(samples, 2**bits, num_rounds=400)
    error = np.min(np.abs(samples[:, None] - levels), axis=1) ** 2
    assert error.mean() == pytest.approx(distortion, rel=0.02)


def test_bits_go_where_the_variance_is():
    np.testing.assert_array_equal(allocate_bits(np.array([16.0, 4.0, 1.0, 0.0]), 6), [3, 2, 1, 0])
    assert allocate_bits(np.array([1.0, 1.0]), 100).max() == 8


def test_decorrelating_pays_for_correlated_codes():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 24))  # 24 numbers that have 4 degrees of freedom
    codes = (rng.standard_normal((3000, 4)) @ mixing).reshape(-1, 3, 8)
    training, sent = codes[:2000], codes[2000:]
    quantizer = TransformQuantizer(
        TransformQuantizer.learn(training), 3
    )  # a bit for each number, six for each degree of freedom
    received = np.stack([quantizer.decode(payload) for payload in quantizer.encode(sent)])
    nmse = np.sum((received - sent) ** 2) / np.sum(sent**2)
    assert nmse < 0.01 < 0.3634  # one bit for each Gaussian number alone


@settings(derandomize=True, deadline=None, max_examples=10)
@given(num_bytes=st.integers(0, 12))
def test_more_bytes_are_never_a_larger_error(num_bytes):
    codes = np.random.default_rng(1).standard_normal((400, 2, 6)).astype(np.float32)
    errors = []
    tables = TransformQuantizer.learn(codes)
    for size in (num_bytes, num_bytes + 1):
        quantizer = TransformQuantizer(tables, size)
        payloads = quantizer.encode(codes)
        assert {len(payload) for payload in payloads} == {size}
        errors.append(np.mean((np.stack([quantizer.decode(payload) for payload in payloads]) - codes) ** 2))
    assert errors[1] <= errors[0] + 1e-6


def test_codewords_find_separate_clusters_exactly():
    centres = 10 * np.eye(4)
    vectors = np.repeat(centres, 25, axis=0)
    book = k_means(vectors, 4)
    assert sorted(map(tuple, book)) == sorted(map(tuple, centres))
    quantizer = VectorQuantizer(VectorQuantizer.learn(vectors[:, None, :]), 1)  # more bits than clusters: still exact
    assert [tuple(quantizer.decode(payload)[0]) for payload in quantizer.encode(centres[:, None, :])] == [
        tuple(centre) for centre in centres
    ]


# --- images --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image():
    place = np.linspace(0, 255, 96)
    texture = np.random.default_rng(0).integers(0, 40, (64, 96))
    return np.stack([np.broadcast_to(place, (64, 96)), 255 - place + 0 * texture, 100 + texture], -1).astype(np.uint8)


def test_an_image_fits_the_budget_and_is_better_in_a_larger_one(image):
    errors = []
    for num_bytes in (60, 200, 1000, 5000):
        payload = compress(image, num_bytes)
        assert 0 < len(payload) <= num_bytes
        shown = decompress(payload.ljust(num_bytes, b"\0"), (96, 64))
        assert shown.shape == image.shape
        errors.append(np.mean((shown.astype(float) - image) ** 2))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 60


def test_an_image_that_does_not_fit_is_no_image(image):
    assert compress(image, 5) == b""
    for payload in (b"", bytes(5), b"\xff\xd9 no image"):
        with pytest.raises(ValueError, match="the payload is"):
            decompress(payload, (96, 64))


def test_what_a_byte_is_worth_is_learned_from_the_datas_images(image):
    dataset = SimpleNamespace(
        questions=[SimpleNamespace(image_index=i // 2) for i in range(80)],
        image=lambda index: np.roll(image, 3 * index, axis=1),
    )
    error = sample_error(dataset)
    errors = [error(num_bytes) for num_bytes in (5, 60, 200, 1000)]
    assert errors[0] == pytest.approx(1)  # nothing fits
    assert errors == sorted(errors, reverse=True)
    images = np.stack([dataset.image(index) for index in range(0, 40, 3)]).astype(float)
    size = (image.shape[1], image.shape[0])
    shown = [decompress(compress(shot.astype(np.uint8), 200), size).astype(float) for shot in images]
    variance = ((images - images.mean(0)) ** 2).mean()
    assert errors[2] == pytest.approx(np.mean((np.stack(shown) - images) ** 2) / variance)


# --- budget and link -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mcs", "data_res"), [((2, 0.5), 80), ((2, 120 / 1024), 80), ((6, 0.85), 33), (QPSK, 5)])
def test_capacity_is_the_largest_payload_that_fits(mcs, data_res):
    link, digital = fake_link(data_res), FakeDigitalLink(mcs)
    capacity = link.capacity(mcs)
    assert digital.ledger(payload_bytes=capacity + 1).data_res > data_res
    assert capacity == 0 or digital.ledger(payload_bytes=capacity).data_res <= data_res


@pytest.mark.parametrize(("num_bytes", "bits_per_symbol"), [(1, 2), (13, 2), (40, 2), (45, 4), (110, 6), (220, 8)])
def test_the_most_robust_scheme_has_the_lowest_rate_that_fits(num_bytes, bits_per_symbol):
    link = fake_link()
    found, code_rate = link.most_robust(num_bytes)
    assert found == bits_per_symbol
    assert link.capacity((found, code_rate)) >= num_bytes > link.capacity((found, code_rate - 1 / 1024))


def test_what_never_fits_is_refused():
    with pytest.raises(ValueError, match="payload of 500 bytes does not fit 80 data resource elements"):
        fake_link().most_robust(500)
    with pytest.raises(ValueError, match="payload of 100 bytes exceeds the 35 that fit 80 data resource elements"):
        fake_link().send([bytes(100)], QPSK, 0.0, np.array([1]), bytes)


def test_a_payload_that_cannot_be_read_counts_as_lost():
    def read(payload):
        raise ValueError("undetected error")

    assert fake_link().send([b"a"], QPSK, 0.0, np.array([1]), read) == Received([None], [False])


def test_the_ledger_charges_the_whole_budget_and_its_pilots():
    ledger = fake_link(1536).ledger()
    assert (ledger.data_res, ledger.pilot_res, ledger.num_slots) == (1536, 256, 2)
    assert fake_link(80).ledger().total_res == 896


def test_bytes_cross_the_real_link_or_are_lost():
    config = LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, estimator="perfect")
    link = make_payload_link(config, 100)
    mcs = link.most_robust(9)
    ledger = digital_link(config, mcs).ledger(payload_bytes=9)
    assert 98 <= ledger.data_res <= 100
    payloads = [b"two cubes", b"one"]
    padded = [payload.ljust(9, b"\0") for payload in payloads]
    assert link.send(payloads, mcs, 15.0, np.array([0, 1]), bytes) == Received(padded, [False, False])
    assert link.send(payloads, mcs, -25.0, np.array([0, 1]), bytes).items == [None, None]


TABLE = ((2, 0.25), (2, 0.5), (4, 0.5), (4, 0.75), (6, 0.75))
LOST = {(2, 0.25): (0, 0), (2, 0.5): (0, 0), (4, 0.5): (0.75, 0), (4, 0.75): (0.8, 0.3), (6, 0.75): (1, 0.6)}


class Rated(FakeDigitalLink):
    """Loses the first payloads, as many as its MCS loses at 0 dB or at 10 dB."""

    sent: ClassVar[list] = []

    def __init__(self, mcs):
        super().__init__(mcs)
        self.mcs = mcs

    def __call__(self, payloads, snr_db, realisation):
        self.sent.append((self.mcs, {len(payload) for payload in payloads}, min(realisation)))
        gone = round(LOST[self.mcs][snr_db >= 10] * len(payloads))
        return [None] * gone + list(payloads[gone:])


def test_loss_rates_are_those_of_full_payloads_from_the_fastest_that_loses_none():
    link = fake_link(kind=Rated)
    assert loss_rates(Rated, TABLE, link.capacity, 0.0, num_payloads=20) == {(2, 0.5): 0.0}
    found = loss_rates(Rated, TABLE, link.capacity, 10.0, num_payloads=20)
    assert found == {(4, 0.75): 0.3, (4, 0.5): 0.0}
    assert loss_rates(Rated, TABLE[-1:], link.capacity, 10.0, num_payloads=20) == {(6, 0.75): 0.6}  # there is no better
    assert all(sizes == {link.capacity(mcs)} for mcs, sizes, _ in Rated.sent)
    assert {first for *_, first in Rated.sent} == {FIRST_REALISATION}


def test_the_mcs_weighs_what_is_lost_against_what_a_byte_is_worth():
    link = PayloadLink(Rated, 80, lambda snr_db: {(4, 0.75): 0.3, (4, 0.5): 0.02, (2, 0.5): 0.0})
    small, middle, large = (link.capacity(mcs) for mcs in ((2, 0.5), (4, 0.5), (4, 0.75)))
    assert link.adapted(10.0, lambda num_bytes: 0.1) == (2, 0.5)  # more bytes bring nothing
    assert link.adapted(10.0, lambda num_bytes: {small: 0.1, middle: 0.05, large: 0.04}[num_bytes]) == (4, 0.5)
    assert link.adapted(10.0, lambda num_bytes: {small: 0.9, middle: 0.8, large: 0.1}[num_bytes]) == (4, 0.75)


def test_the_default_link_brings_its_loss_rates_and_others_are_measured(monkeypatch):
    for data_res in (80, 1536):
        for snr_db in accuracy_vs_snr.Config().snr_db:
            kept = kept_loss_rates(LinkConfig(), data_res, snr_db)
            assert set(kept) <= set(MCS)
            assert list(kept.values()) == sorted(kept.values(), reverse=True)
            assert make_payload_link(LinkConfig(), data_res).adapted(snr_db, lambda num_bytes: 0.5) in kept
    assert kept_loss_rates(LinkConfig(seed=5), 80, 0.0) == kept_loss_rates(LinkConfig(), 80, 0.0)
    assert kept_loss_rates(LinkConfig(num_rx_ant=4), 80, 0.0) is None
    assert kept_loss_rates(LinkConfig(), 80, 0.5) is None
    other = make_payload_link(LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, estimator="perfect"), 60)
    monkeypatch.setattr(link_adaptation, "loss_rates", functools.partial(loss_rates, num_payloads=8))
    assert list(other.measure(6.0).values())[-1] == 0.0
    with pytest.raises(ValueError, match="2 data resource elements hold not a byte, whatever the MCS"):
        make_payload_link(LinkConfig(num_tx_ant=1), 2).measure(0.0)


@pytest.mark.slow
def test_the_kept_loss_rates_are_those_of_the_link():
    assert make_payload_link(LinkConfig(), 80).measure(5.0) == kept_loss_rates(LinkConfig(), 80, 5.0)


# --- schemes -------------------------------------------------------------------------------------------------------


class Agents:
    """The sensor tells the image's level, in words too; its code is a random one for each level."""

    num_tokens, width, model_hash = 2, 6, "fake-weights"

    def __init__(self):
        self.table = np.random.default_rng(0).standard_normal((12, self.num_tokens, self.width)).astype(np.float32)
        self.num_described = 0
        self.sensor = SimpleNamespace(answer=self.look)
        self.task_agent = SimpleNamespace(answer=lambda questions, prefix=None: [self.think(q) for q in questions])

    def look(self, images, questions):
        self.num_described += sum(question == PROMPT for question in questions)
        return [str(round(image.mean() / 20)) for image in images]

    def think(self, question):
        first = question.split(" ")[0]
        return first if first.isdigit() else "blind"

    def describe(self, questions):
        return ["this is a question about the level ."] * len(questions)

    def encode(self, images, questions):
        import torch

        return torch.as_tensor(self.table[[int(level) for level in self.look(images, questions)]])

    def answer_codes(self, codes_hat, questions, error_var=None):
        distance = ((codes_hat.numpy()[:, None] - self.table) ** 2).sum((-1, -2))
        return [str(level) for level in distance.argmin(1)]


class Images(FakeDataset):
    """As the fake, in larger steps and sizes: JPEG changes them a little."""

    def image(self, image_index):
        return np.full((48, 64, 3), 20 * image_index, dtype=np.uint8)


@pytest.fixture
def batch():
    dataset = Images()
    return Batch(0, tuple(dataset.questions), dataset)


def make(name, agents, batch):
    bench = SimpleNamespace(
        config=SimpleNamespace(link=LinkConfig()),
        weights=lambda key: getattr(ModelsConfig(machine_tokens="pair"), key),
        agents=lambda key: agents,
        dataset=batch.dataset,
        questions=list(batch.questions),
    )
    return CURVES[name].build(bench)


DIGITAL = ["caption", "answer-text", "jpeg-ldpc", "jpeg-ldpc-fixed"]
LEARNED = ["quantized-tokens", "token-indices"]


def run(scheme, batch, snr_db):
    """The codes, what arrives of them, and the answers."""
    codes = None if scheme.encoder is None else scheme.encoder.encode(batch)
    answers, delivery = scheme.answer(codes, batch, snr_db)
    return codes, delivery, answers


@pytest.mark.parametrize("name", DIGITAL)
def test_what_arrives_is_answered_right_and_what_is_lost_blindly(name, batch, no_real_link):
    scheme = make(name, Agents(), batch)
    _, delivery, answers = run(scheme, batch, 10.0)
    lost = [number % 3 == 0 for number in batch.numbers]
    assert [item is None for item in delivery.items] == lost == delivery.lost.tolist()
    assert answers == ["blind" if gone else q.answer for gone, q in zip(lost, batch.questions, strict=True)]
    _, delivery, answers = run(scheme, batch, -10.0)
    assert list(delivery.items) == [None] * len(batch.questions)
    assert answers == ["blind"] * len(batch.questions)


@pytest.mark.parametrize(
    ("name", "kind"), [("quantized-tokens", TransformQuantizer), ("token-indices", VectorQuantizer)]
)
def test_codes_arrive_as_the_learned_quantiser_gives_them(name, kind, batch, no_real_link):
    agents = Agents()
    scheme = make(name, agents, batch)
    sent, delivery, answers = run(scheme, batch, 10.0)
    size = min(fake_link().capacity((4, 0.5)), 12 if kind is TransformQuantizer else 2)  # a byte a number, or a token
    quantizer = kind(kind.learn(agents.table), size)
    for number, item in enumerate(delivery.items):
        if number % 3 == 0:
            assert item is None
        else:
            [payload] = quantizer.encode(sent[[number]])
            np.testing.assert_array_equal(item, quantizer.decode(payload))
    lost = [number % 3 == 0 for number in batch.numbers]
    np.testing.assert_array_equal(delivery.codes, sent[~np.array(lost)])
    assert [answer == "blind" for answer in answers] == lost
    if kind is TransformQuantizer:  # a byte a number is fine enough to tell twelve codes apart
        assert [a for a, gone in zip(answers, lost, strict=True) if not gone] == [
            q.answer for q, gone in zip(batch.questions, lost, strict=True) if not gone
        ]
    *_, answers = run(scheme, batch, -10.0)
    assert answers == ["blind"] * len(batch.questions)


def test_a_point_depends_on_the_quantisers_tables(batch, no_real_link):
    agents, other = Agents(), Agents()
    other.table = other.table + 1
    hashes = {make(name, pair, batch).determined_by()["quantizer"] for name in LEARNED for pair in (agents, other)}
    assert len(hashes) == 4


def test_an_image_is_described_once_and_its_question_is_not_seen(batch, no_real_link):
    agents = Agents()
    texts = make("caption", agents, batch).encoder.encode(batch)
    assert agents.num_described == len({q.image_index for q in batch.questions}) < len(batch.questions)
    assert list(texts) == [q.answer for q in batch.questions]


def test_the_bound_of_captions_loses_none_and_shares_their_files(batch, no_real_link):
    scheme, bound = make("caption", Agents(), batch), make("caption-error-free", Agents(), batch)
    assert isinstance(bound.carrier, Everything)
    assert isinstance(scheme.carrier, Texts)
    answers = make("answer-text", Agents(), batch)
    assert bound.encoder.encoded_by() == scheme.encoder.encoded_by() != answers.encoder.encoded_by()
    *_, answers = run(bound, batch, -10.0)
    assert answers == [q.answer for q in batch.questions]
    assert np.isnan(bound.carrier.cost(-10.0)["data_res"])
    assert not bound.crosses_link


def test_every_budget_but_the_images_is_that_of_machine_tokens(batch, no_real_link):
    charged = {name: make(name, Agents(), batch).carrier.cost(0.0)["data_res"] for name in (*DIGITAL, *LEARNED)}
    assert {name for name, data_res in charged.items() if data_res != 80} == {"jpeg-ldpc", "jpeg-ldpc-fixed"}


def test_the_adapted_image_is_finer_at_a_higher_snr_and_the_fixed_one_is_not(image):
    def adapt(snr_db):
        return (2, 0.2) if snr_db < 5 else (6, 0.8)

    dataset = SimpleNamespace(image=lambda image_index: image)
    batch, errors = Batch(1, (FakeQuestion(0, "", "", ""),), dataset), {}
    for snr_db in (0.0, 20.0):
        for name, rule in (("adapted", adapt), ("fixed", lambda snr_db: (2, 0.2))):
            [shown] = JpegImages(fake_link(300), rule).deliver(None, batch, snr_db).items
            errors[name, snr_db] = np.mean((shown.astype(float) - image) ** 2)
    assert errors["adapted", 20.0] < 0.9 * errors["adapted", 0.0]
    assert errors["fixed", 20.0] == errors["fixed", 0.0]


def test_images_of_two_sizes_cross_the_link_each_at_its_own(image, no_real_link):
    dataset = SimpleNamespace(image=lambda index: image if index % 2 else image[:32, :48])
    batch = Batch(0, tuple(FakeQuestion(i // 2, "", "", "") for i in range(12)), dataset)
    delivery = JpegImages(fake_link(300), lambda snr_db: (6, 0.8)).deliver(None, batch, 10.0)
    assert delivery.lost.tolist() == [number % 3 == 0 for number in batch.numbers]
    for item, original in zip(delivery.items, batch.images, strict=True):
        assert item is None or item.shape == original.shape


class Careless(FakeDigitalLink):
    """As the fake, but of what arrives the second third is changed on the way, and nothing says so."""

    def __call__(self, payloads, snr_db, realisation):
        received = super().__call__(payloads, snr_db, realisation)
        changed = [number % 3 == 1 for number in realisation]
        return [p and bytes([p[0] ^ 1]) + p[1:] if c else p for p, c in zip(received, changed, strict=True)]


def test_errors_that_the_crc_lets_through_are_counted_apart_from_losses():
    link, payloads = fake_link(kind=Careless), [bytes([i]) for i in range(12)]

    def read(payload):
        if payload[0] == 5:
            raise ValueError("no payload starts so")
        return payload[0]

    received = link.send(payloads, (4, 0.5), 10.0, np.arange(12), read)
    assert received.items == [None, 0, 2, None, None, None, None, 6, 8, None, 11, 11]  # 4 arrives as 5: noticed; 5 too
    assert [i for i, wrong in enumerate(received.undetected) if wrong] == [1, 7, 10]


def test_a_study_archives_undetected_errors(fakes, config, stand_in, tmp_path):
    careless = fake_link(kind=Careless)
    stand_in(quantized, "payload_link", lambda workbench: careless)
    schemes = ["machine-tokens", "quantized-tokens"]
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": schemes}), out=tmp_path)
    assert not failed
    np.testing.assert_allclose(results.of("undetected_rate", "quantized-tokens"), [0, 1 / 3, 1 / 3])
    np.testing.assert_allclose(results.of("loss_rate", "quantized-tokens"), [1, 1 / 3, 1 / 3])
    assert np.isnan(results.of("undetected_rate", "machine-tokens")).all()


def test_a_study_archives_losses_and_errors_of_digital_schemes(fakes, config, tmp_path):
    schemes = ["question-only", "machine-tokens", "quantized-tokens", "caption", "caption-error-free"]
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": schemes}), out=tmp_path)
    assert not failed
    for name in ("quantized-tokens", "caption"):
        np.testing.assert_allclose(results.of("loss_rate", name), [1, 1 / 3, 1 / 3])
        assert results.of("accuracy", name)[0] == results.of("accuracy", "question-only")[0]
        assert results.of("data_res", name) == 80
    assert (results.of("undetected_rate", "caption") == 0).all()
    for name in ("machine-tokens", "caption-error-free"):  # nothing can be lost
        for rate in ("loss_rate", "undetected_rate"):
            assert np.isnan(results.of(rate, name)).all()
    nmse = results.of("code_nmse", "quantized-tokens")
    assert np.isnan(nmse[0])  # nothing arrived
    assert 0 <= nmse[1] == nmse[2] < 1
    assert np.isnan(results.of("code_nmse", "caption")).all()
    assert np.isnan(results.of("code_nmse_declared", "quantized-tokens")).all()  # bits declare no variance
