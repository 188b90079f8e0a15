import io
import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm

import bridge  # noqa: F401 -- before phy: it fixes the order in which the two frameworks are loaded

# isort: split
import itertools

from phy import LinkConfig
from phy.link_adaptation import FIRST_REALISATION, PayloadLink, Received, digital_link, loss_rates
from studies import accuracy_vs_snr
from studies.curves import CURVES
from studies.questions import Batch
from studies.schemes.carriers import quantized
from studies.schemes.carriers.coded_images import CodedImages
from studies.schemes.carriers.lossless import Everything
from studies.schemes.carriers.text import Texts, sample_answers, sample_captions
from studies.schemes.digital.image_code import compress, decompress, left_out, measure_errors
from studies.schemes.digital.image_codecs import CODECS
from studies.schemes.digital.payload_link import KEPT, kept_loss_rates, make_payload_link, measure_losses, read_losses
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
from studies.schemes.scheme import GRID
from studies.study_config import ModelsConfig
from tests.studies.fakes import OVERHEAD_BITS, FakeDataset, FakeDigitalLink, FakeQuestion, fake_link, fake_tables

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


@pytest.fixture(params=sorted(CODECS))
def codec(request):
    return CODECS[request.param]


def mean_error(shown, image):
    return np.mean((shown.astype(float) - image) ** 2)


def test_an_image_fits_the_budget_and_is_better_in_a_larger_one(codec, image):
    errors = []
    for num_bytes in (80, 200, 1000, 5000):
        payload = compress(codec, image, num_bytes)
        assert 0 < len(payload) <= num_bytes
        shown = decompress(codec, payload.ljust(num_bytes, b"\0"), (96, 64))
        assert shown.shape == image.shape
        errors.append(mean_error(shown, image))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 60


@pytest.mark.parametrize("quality", [0, 7, 40, 89])
@pytest.mark.parametrize("size", [(96, 64), (31, 17), (300, 20)])
def test_what_is_sent_of_a_file_is_opened_as_the_whole_file(image, quality, size):
    """AVIF's lengths differ from file to file, and its frames may be longer than one or two groups of seven bits."""
    original = Image.fromarray(image).resize(size)
    whole = io.BytesIO()
    original.save(whole, "AVIF", quality=quality, subsampling="4:2:0", codec="aom", speed=6, max_threads=1)
    sent = CODECS["avif"].encode(original, quality)
    assert len(sent) < len(whole.getvalue()) - 250
    shown = CODECS["avif"].decode(sent + bytes(9), size, quality)
    with Image.open(whole) as expected:
        assert np.array_equal(np.asarray(shown), np.asarray(expected))


def test_avif_keeps_more_of_an_image_than_jpeg(image):
    for num_bytes in (100, 400, 1600):
        errors = {
            name: mean_error(decompress(codec, compress(codec, image, num_bytes), (96, 64)), image)
            for name, codec in CODECS.items()
        }
        assert errors["avif"] < errors["jpeg"]


def test_an_image_that_does_not_fit_is_no_image(codec, image):
    assert compress(codec, image, 5) == b""
    for payload in (b"", bytes(5), b"\xff\xd9 no image", b"\x01 no image"):
        with pytest.raises(ValueError, match=r"payload|frame"):
            decompress(codec, payload, (96, 64))


def test_a_damaged_image_is_an_image_or_refused(codec, image):
    rng, whole, outcomes = np.random.default_rng(0), compress(codec, image, 400), set()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        try:
            outcomes.add(decompress(codec, bytes(damaged), (96, 64)).shape)
        except ValueError:
            outcomes.add("refused")
    assert outcomes <= {image.shape, "refused"}


def test_what_a_byte_is_worth_is_a_share_of_the_variance_around_the_images_mean(codec, image, tmp_path):
    images = [np.roll(image, 9 * index, axis=1) for index in range(4)]
    shares = measure_errors(codec, images, [5, 80, 200, 1000], tmp_path / "errors.json")
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert shares[5] == 1  # nothing fits
    stacked, size = np.stack(images).astype(float), (image.shape[1], image.shape[0])
    shown = np.stack([decompress(codec, compress(codec, shot, 200), size).astype(float) for shot in images])
    variance = ((stacked - stacked.mean(0)) ** 2).mean()
    assert shares[200] == pytest.approx(((shown - stacked) ** 2).mean() / variance)
    assert json.loads((tmp_path / "errors.json").read_text()) == {str(size): share for size, share in shares.items()}


def test_the_kept_shares_fall_with_the_bytes(codec):
    shares = [left_out(codec, num_bytes) for num_bytes in (1, 64, 100, 300, 1000, 3000, 9000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] <= 1
    assert shares[4] < 0.1


# --- budget and link -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_bytes", "bits_per_symbol"), [(1, 2), (42, 2), (43, 4), (97, 4), (98, 6), (199, 6), (200, 8), (291, 8)]
)
def test_payloads_take_the_lowest_modulation_whose_rates_carry_them(num_bytes, bits_per_symbol):
    assert fake_link().bits_per_symbol(num_bytes) == bits_per_symbol


@pytest.mark.parametrize("data_res", [80, 33, 5, 1])
def test_the_largest_payload_is_the_largest_that_fits(data_res):
    link, digital = fake_link(data_res), FakeDigitalLink(8, data_res)
    assert not digital.carries(link.most_bytes + 1)
    assert link.most_bytes == 0 or digital.carries(link.most_bytes)
    assert data_res > 1 or link.most_bytes == 0


def test_sizes_worth_a_try_are_small_ones_and_those_of_nrs_rates():
    sizes = fake_link().sizes
    assert sizes == sorted(set(sizes))
    assert sizes[:8] == list(range(1, 9))
    assert sizes[-1] == fake_link().most_bytes == 291
    assert {int(640 * 120 / 1024 / 8), int(2560 * 797 / 1024 / 8)} <= set(sizes)
    assert all(b <= max(a + 1, 1.35 * a) for a, b in itertools.pairwise(sizes))


def test_what_never_fits_is_refused():
    for refused in (
        fake_link().bits_per_symbol,
        lambda size: fake_link().send([bytes(size)], 0.0, np.arange(1), bytes),
    ):
        with pytest.raises(
            ValueError, match="payload of 500 bytes does not fit 80 data resource elements, whatever the"
        ):
            refused(500)


def test_a_payload_that_cannot_be_read_counts_as_lost():
    def read(payload):
        raise ValueError("undetected error")

    assert fake_link().send([b"a"], 0.0, np.array([1]), read) == Received([None], [False], [1])


def test_the_ledger_charges_the_whole_budget_and_its_pilots():
    ledger = fake_link(1536).ledger()
    assert (ledger.data_res, ledger.pilot_res, ledger.num_slots) == (1536, 256, 2)
    assert fake_link(80).ledger().total_res == 896


def test_payloads_are_described_by_size_modulation_and_rate():
    link = fake_link()
    assert {name: values.tolist() for name, values in link.on_air([43, 5, 43]).items()} == {
        "payload_bytes": [43, 5, 43],
        "payload_bits": [344, 40, 344],
        "bits_per_symbol": [4, 2, 4],
        "code_rate": [(344 + OVERHEAD_BITS) / 1280, (40 + OVERHEAD_BITS) / 640, (344 + OVERHEAD_BITS) / 1280],
    }
    assert link.peak_power([43, 5, 43], np.arange(3)).tolist() == [4, 2, 4]
    assert (link.modulations, link.num_symbols) == ((2, 4, 6, 8), 320)


def test_rates_and_peaks_of_the_real_link_count_its_crc():
    link = make_payload_link(LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, estimator="perfect"), 100)
    assert link.on_air([5])["code_rate"].tolist() == [(40 + 11) / 200]
    assert link.num_symbols == 100
    peaks = link.peak_power([5] * 20, np.arange(20))
    assert 1 < peaks.min() <= peaks.max() < 64
    density = link.density(2, 20.0, 20)
    np.testing.assert_allclose(density, 200, atol=0.1)  # two bits on each element


def test_bytes_of_any_size_cross_the_real_link_or_are_lost():
    config = LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, estimator="perfect")
    link = make_payload_link(config, 100)
    payloads = [b"two cubes", b"1", b"", b"a hundred and twenty bytes", b"one"]
    assert [link.bits_per_symbol(len(payload)) for payload in payloads] == [2, 2, 2, 4, 2]
    for size in map(len, payloads):
        assert digital_link(config, link.bits_per_symbol(size), 100).ledger(payload_bytes=size).data_res == 100
    assert link.send(payloads, 25.0, np.arange(5), bytes) == Received(payloads, [False] * 5, [1] * 5)
    assert link.send(payloads, -25.0, np.arange(5), bytes).items == [None] * 5


SIZES = [1, 5, 20, 40, 80]
LOST = {1: (0, 0), 5: (0, 0), 20: (0.75, 0), 40: (0.8, 0.3), 80: (1, 0.6)}  # at 0 dB and at 10 dB


def lossy(sent, payloads, snr_db, realisation):
    """Lose the first payloads of each twenty fades, as many as their size loses."""
    sent.append((len(payloads[0]), len(payloads), min(realisation)))
    gone = round(20 * LOST[len(payloads[0])][snr_db >= 10])
    return [None if number % 20 < gone else payload for payload, number in zip(payloads, realisation, strict=True)]


def test_loss_rates_are_those_from_the_largest_payload_that_is_never_lost():
    sent = []

    def send(*arguments):
        return lossy(sent, *arguments)

    assert loss_rates(send, SIZES, 0.0, 20) == {5: 0.0}
    assert loss_rates(send, SIZES, 10.0, 20) == {40: 0.3, 20: 0.0}
    assert loss_rates(send, SIZES[-1:], 10.0, 20) == {80: 0.6}  # there is no better
    assert {first for *_, first in sent} == {FIRST_REALISATION}


def test_losses_are_counted_where_they_are_neither_certain_nor_excluded():
    sent = []
    assert loss_rates(lambda *arguments: lossy(sent, *arguments), SIZES, 10.0, 1000) == {40: 0.3, 20: 0.0}
    counts = {size: sum(number for of, number, _ in sent if of == size) for size in (20, 40, 80)}
    assert counts == {20: 200, 40: 1000, 80: 200}


def test_the_size_weighs_what_is_lost_against_what_a_byte_is_worth():
    link = PayloadLink(FakeDigitalLink, 80, lambda snr_db: {40: 0.3, 20: 0.02, 5: 0.0})
    assert link.adapted(10.0, lambda num_bytes: 0.9, 0.4) == 5  # more bytes bring nothing
    assert link.adapted(10.0, {5: 0.9, 20: 0.95, 40: 0.96}.get, 0.4) == 20
    assert link.adapted(10.0, {5: 0.1, 20: 0.2, 40: 0.9}.get, 0.0) == 40
    assert link.adapted(10.0, {5: 0.5, 20: 0.5, 40: 0.6}.get, 0.2) == 5
    assert link.adapted(10.0, {5: 0.5, 20: 0.5, 40: 0.6}.get, 0.5) == 40  # a loss costs nothing


def test_the_default_link_brings_its_loss_rates_and_others_are_measured():
    for data_res in (80, 1536):
        for snr_db in accuracy_vs_snr.Config().snr_db:
            kept = kept_loss_rates(LinkConfig(), data_res, snr_db)
            assert list(kept) == sorted(kept, reverse=True)
            assert max(kept) <= make_payload_link(LinkConfig(), data_res).most_bytes
            assert make_payload_link(LinkConfig(), data_res).adapted(snr_db, lambda num_bytes: 0.5, 0.0) in kept
    assert kept_loss_rates(LinkConfig(seed=5), 80, 0.0) == kept_loss_rates(LinkConfig(), 80, 0.0)
    assert kept_loss_rates(LinkConfig(num_rx_ant=4), 80, 0.0) is None
    assert kept_loss_rates(LinkConfig(), 80, 0.5) is None
    other = make_payload_link(LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, estimator="perfect"), 60)
    assert list(other.measure(6.0, num_payloads=8).values())[-1] == 0.0
    with pytest.raises(ValueError, match="2 data resource elements hold not a byte, whatever the modulation"):
        make_payload_link(LinkConfig(num_tx_ant=1), 2).measure(0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read: Expecting property name"),
        ("[]", "holds list at its top; it needs rows by resource elements"),
        ("{}", "holds dict at its top"),
        ('{"eighty": {"0": {"5": 0.1}}}', "has the key 'eighty' at its top, which is not resource elements"),
        ('{"080": {"0": {"5": 0.1}}}', "has the key '080' at its top"),
        ('{"80": {"0.0": {"5": 0.1}}}', r"has the key '0.0' at \[80\], which is not an SNR in dB"),
        ('{"80": {"nan": {"5": 0.1}}}', r"has the key 'nan' at \[80\]"),
        ('{"80": {"0": {"0": 0.1}}}', r"has the key '0' at \[80\]\[0\], which is not bytes"),
        ('{"80": {"0": 0.1}}', r"holds float at \[80\]\[0\]; it needs rows by bytes"),
        ('{"80": {"0": {"5": NaN}}}', r"holds nan at \[80\]\[0\]\[5\]; a loss rate lies between 0 and 1"),
        ('{"80": {"0": {"5": 1.5}}}', r"holds 1.5 at \[80\]\[0\]\[5\]"),
        ('{"80": {"0": {"5": "0.5"}}}', r"holds '0.5' at \[80\]\[0\]\[5\]"),
    ],
)
def test_a_file_of_loss_rates_that_is_none_is_refused_with_the_way_out(text, message, tmp_path):
    path = tmp_path / "mcs_losses.json"
    path.write_text(text)
    for read in (read_losses, lambda path: measure_losses([80], 8, path)):
        with pytest.raises(
            ValueError, match=rf"mcs_losses.json {message}.* `tokenlink train losses` measures"
        ) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_the_kept_loss_rates_are_read_as_they_are_written():
    assert read_losses(KEPT) == json.loads(KEPT.read_text())


@pytest.mark.slow
def test_the_kept_loss_rates_are_those_of_the_link():
    assert make_payload_link(LinkConfig(), 80).measure(5.0, 2000) == kept_loss_rates(LinkConfig(), 80, 5.0)


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


HARQ = ["caption-harq", "quantized-tokens-harq", "token-indices-harq", "avif-small-harq"]
CQI = ["quantized-tokens-cqi", "token-indices-cqi", "avif-small-cqi"]
DIGITAL = ["caption", "answer-text", "jpeg-ldpc", "jpeg-ldpc-fixed", "avif-ldpc", "avif-small"]
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
    size = 12 if kind is TransformQuantizer else 2  # a byte a number, or a token; the budget holds more
    quantizer = kind(fake_tables(kind, agents.table), size)
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


@pytest.mark.parametrize("name", HARQ)
def test_what_is_lost_is_sent_once_more(name, batch, no_real_link):
    _, first, _ = run(make(name.removesuffix("-harq"), Agents(), batch), batch, 10.0)
    _, delivery, answers = run(make(name, Agents(), batch), batch, 10.0)
    assert not delivery.lost.any()
    assert "blind" not in answers
    np.testing.assert_array_equal(first.num_transmissions, 1)
    np.testing.assert_array_equal(delivery.num_transmissions, 1 + first.lost)
    _, delivery, answers = run(make(name, Agents(), batch), batch, -10.0)
    assert delivery.lost.all()
    np.testing.assert_array_equal(delivery.num_transmissions, 2)


@pytest.mark.parametrize(("name", "size"), [("quantized-tokens-cqi", 12), ("token-indices-cqi", 2)])
def test_bytes_are_those_that_the_fade_carries(name, size, batch, no_real_link):
    scheme = make(name, Agents(), batch)
    sent, delivery, _ = run(scheme, batch, 10.0)
    lost = np.array([number % 3 == 0 for number in batch.numbers])  # such fades carry nothing
    np.testing.assert_array_equal(delivery.lost, lost)
    np.testing.assert_array_equal(delivery.payload["payload_bytes"], np.where(lost, 1, size))
    _, plain, _ = run(make(name.removesuffix("-cqi"), Agents(), batch), batch, 10.0)
    for item, other, gone in zip(delivery.items, plain.items, lost, strict=True):
        assert item is None if gone else np.array_equal(item, other)
    part = Batch(5, batch.questions[5:20], batch.dataset)
    some = scheme.carrier.deliver(sent, part, 10.0)
    np.testing.assert_array_equal(some.payload["payload_bytes"], delivery.payload["payload_bytes"][5:20])


def test_images_of_a_batch_have_as_many_bytes_as_their_fades_carry(batch, no_real_link):
    scheme = make("avif-small-cqi", Agents(), batch)
    _, delivery, answers = run(scheme, batch, 10.0)
    lost = np.array([number % 3 == 0 for number in batch.numbers])
    np.testing.assert_array_equal(delivery.lost, lost)
    sizes = delivery.payload["payload_bytes"]
    assert set(sizes[lost]) == {1}
    assert min(sizes[~lost]) > 100
    assert answers == ["blind" if gone else q.answer for gone, q in zip(lost, batch.questions, strict=True)]


def test_points_with_and_without_options_are_others(batch, no_real_link):
    for name in (*HARQ, *CQI):
        plain = make(name.rpartition("-")[0], Agents(), batch).determined_by()
        assert make(name, Agents(), batch).determined_by() != plain


def test_kept_loss_rates_are_not_those_of_two_transmissions(monkeypatch):
    make_payload_link.cache_clear()
    asked = []
    monkeypatch.setattr(PayloadLink, "measure", lambda link, snr_db: asked.append(snr_db) or {7: 0.1})
    for most, expected in ((1, []), (2, [0.0])):
        link = make_payload_link(LinkConfig(), 80, max_transmissions=most)
        link.adapted(0.0, lambda num_bytes: num_bytes, 0.0)
        assert asked == expected
    make_payload_link.cache_clear()


def test_a_point_depends_on_the_quantisers_tables(batch, no_real_link):
    agents, other = Agents(), Agents()
    other.table = other.table + 1
    hashes = {make(name, pair, batch).determined_by()["quantizer"] for name in LEARNED for pair in (agents, other)}
    assert len(hashes) == 4


def test_a_text_takes_the_bytes_that_it_needs(captions, code):
    sizes = []

    class Spy(FakeDigitalLink):
        def __call__(self, payloads, snr_db, realisation):
            sizes.extend(map(len, payloads))
            return super().__call__(payloads, snr_db, realisation)

    texts = np.array(captions[:30])
    delivery = Texts(fake_link(kind=Spy), code).deliver(texts, SimpleNamespace(numbers=np.arange(30)), 10.0)
    assert sizes == [len(code.encode(text)) for text in texts]
    assert len(set(sizes)) > 3
    assert [item for item in delivery.items if item is not None] == [t for i, t in enumerate(texts) if i % 3]


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
    assert {name for name, data_res in charged.items() if data_res != 80} == {
        "jpeg-ldpc",
        "jpeg-ldpc-fixed",
        "avif-ldpc",
    }


def test_the_adapted_image_is_finer_at_a_higher_snr_and_the_fixed_one_is_not(image):
    def adapt(snr_db, numbers):
        return np.array([55 if snr_db < 5 else 715])

    dataset = SimpleNamespace(image=lambda image_index: image)
    batch, errors = Batch(1, (FakeQuestion(0, "", "", ""),), dataset), {}
    for snr_db in (0.0, 20.0):
        for name, rule in (("adapted", adapt), ("fixed", lambda snr_db, numbers: np.array([55]))):
            [shown] = CodedImages(fake_link(300), CODECS["jpeg"], rule).deliver(None, batch, snr_db).items
            errors[name, snr_db] = np.mean((shown.astype(float) - image) ** 2)
    assert errors["adapted", 20.0] < 0.9 * errors["adapted", 0.0]
    assert errors["fixed", 20.0] == errors["fixed", 0.0]


def test_images_of_two_sizes_cross_the_link_each_at_its_own(image, no_real_link):
    dataset = SimpleNamespace(image=lambda index: image if index % 2 else image[:32, :48])
    batch = Batch(0, tuple(FakeQuestion(i // 2, "", "", "") for i in range(12)), dataset)
    delivery = CodedImages(fake_link(300), CODECS["jpeg"], lambda snr_db, numbers: np.full(12, 715)).deliver(
        None, batch, 10.0
    )
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

    received = link.send(payloads, 10.0, np.arange(12), read)
    assert received.items == [None, 0, 2, None, None, None, None, 6, 8, None, 11, 11]  # 4 arrives as 5: noticed; 5 too
    assert [i for i, wrong in enumerate(received.undetected) if wrong] == [1, 7, 10]


def test_a_study_archives_undetected_errors(fakes, config, stand_in, tmp_path):
    careless = fake_link(kind=Careless)
    stand_in(quantized, "payload_link", lambda workbench, max_transmissions, cqi: careless)
    schemes = ["machine-tokens", "quantized-tokens"]
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": schemes}), out=tmp_path)
    assert not failed
    np.testing.assert_allclose(results.of("undetected_rate", "quantized-tokens"), [0, 1 / 3, 1 / 3])
    np.testing.assert_allclose(results.of("loss_rate", "quantized-tokens"), [1, 1 / 3, 1 / 3])
    assert np.isnan(results.of("undetected_rate", "machine-tokens")).all()


def test_a_study_charges_every_transmission(fakes, config, tmp_path):
    schemes = ["quantized-tokens", "quantized-tokens-harq", "quantized-tokens-cqi"]
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": schemes}), out=tmp_path)
    assert not failed
    once, twice, chosen = schemes
    np.testing.assert_allclose(results.along("num_transmissions", twice), [2, 4 / 3, 4 / 3])
    np.testing.assert_allclose(results.along("loss_rate", twice), [1, 0, 0])
    for name in GRID:
        charged = results.along("num_transmissions", twice) * results.along(name, once)
        np.testing.assert_allclose(results.along(name, twice), charged)
        np.testing.assert_array_equal(results.along(name, chosen), results.along(name, once))
    np.testing.assert_allclose(results.along("loss_rate", chosen), [1, 1 / 3, 1 / 3])


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
