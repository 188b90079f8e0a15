"""Stand-ins for models, data and link: small sums instead of networks, but real tensors and the same interfaces."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from phy import Ledger, LinkConfig
from phy.config import REPEATED_FADES
from phy.digital_link import Answer
from phy.link_adaptation import HIGHEST_RATE, PayloadLink
from semantic.code_moments import CodeMoments
from semantic.token_choice import ANY, TokenChoice

FAMILIES = ("query", "exist", "count")


@dataclass(frozen=True)
class FakeQuestion:
    image_index: int
    question: str
    answer: str
    family: str


class FakeDataset:
    """Image i is a grey of level i; the question asks for the level."""

    data_hash = "fake-data"

    def __init__(self, num_images=12, per_image=6):
        self.num_loads = 0
        self.questions = [
            FakeQuestion(i, f"which level is image {i}? ({k})", str(i), FAMILIES[k % 3])
            for i in range(num_images)
            for k in range(per_image)
        ]

    def image(self, image_index):
        self.num_loads += 1
        return np.full((4, 4, 3), image_index, dtype=np.uint8)


def grey_split(folder):
    """Write a split in CLEVR's layout below a folder: image i is a grey of level i, and questions ask for the level."""
    folder = folder / "data"
    (folder / "images" / "test").mkdir(parents=True)
    (folder / "questions").mkdir()
    program = [{"function": "scene", "inputs": [], "value_inputs": []}, {"function": "count", "inputs": [0]}]
    questions = []
    for i in range(8):
        name = f"{i}.png"
        Image.fromarray(np.full((4, 4, 3), i, dtype=np.uint8)).save(folder / "images" / "test" / name)
        record = {"image_index": i, "image_filename": name, "answer": str(i), "program": program}
        questions += [{**record, "question": f"which level is it? ({k})"} for k in range(4)]
    (folder / "questions" / "CLEVR_test_questions.json").write_text(json.dumps({"questions": questions}))
    return folder


class FakeAgents:
    """The code of an image is its level; the task agent rounds what it receives."""

    num_tokens, width, model_hash = 2, 3, "fake-weights"

    def __init__(self):
        self.num_encoded = 0
        shape = (12, self.num_tokens, self.width)
        self.table = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], shape)  # of all images
        self.code = SimpleNamespace(sent_moments=CodeMoments(self.num_tokens * self.width))
        self.sensor = SimpleNamespace(answer=lambda images, questions: [str(int(image[0, 0, 0])) for image in images])
        self.task_agent = SimpleNamespace(answer=lambda questions, prefix=None: ["0"] * len(questions))

    def encode(self, images, questions):
        self.num_encoded += len(images)
        level = torch.tensor([float(image[0, 0, 0]) for image in images])
        return level[:, None, None].expand(-1, self.num_tokens, self.width).contiguous()

    def check(self, questions, numbers):
        assert len(questions) == len(numbers)

    def describe(self, questions):
        return ["which level ?"] * len(questions)

    def first(self, codes, num_tokens):
        return codes[:, :num_tokens]

    def answer_codes(self, codes_hat, questions, error_var=None):
        return [str(round(float(code.mean()))) for code in codes_hat]


FAKE_CHOICE = TokenChoice(
    snr_db=[-10.0, 10.0],
    accuracy={ANY: [[0.1, 0.9], [0.9, 0.905]]},  # one token or two, at each SNR
    num_questions={ANY: 100},
    price=0.01,
    model_hash=FakeAgents.model_hash,
)


class FakeImageCode:
    """Sends an image's level, and gives back a grey of what arrives of it; one number is `blemish` too large."""

    num_tokens, width, model_hash = 2, 3, "fake-image-code"
    image_size = (4, 4)
    blemish = 50

    def __init__(self):
        self.num_encoded = 0

    def encode(self, images):
        self.num_encoded += len(images)
        return 255 * images.mean((1, 2, 3))[:, None, None].expand(-1, self.num_tokens, self.width)

    def decode(self, codes_hat, error_var=None):
        shown = (codes_hat.mean((1, 2)) / 255)[:, None, None, None].repeat(1, 3, 4, 4)
        shown[:, 2, 3, 3] += self.blemish / 255
        return shown


LEDGER = Ledger(
    data_res=80,
    pilot_res=4,
    guard_res=0,
    idle_res=28,
    total_res=112,
    num_slots=1,
    num_symbols=14,
    duration_s=1e-3,
    active_symbols=4,
    active_s=3e-4,
    mini_slots=2,
    span_s=5e-4,
    energy=84.0,
)


class FakeChannel:
    """White noise, decided by the realisation's number alone; it declares its variance."""

    def __init__(self):
        self.link = SimpleNamespace(
            config=LinkConfig(),
            ledger=lambda num_tokens, width: LEDGER,
            peak_power=lambda codes: np.full(len(codes), 10.0),
            gain=lambda num_tokens, width, snr_db, realisation: np.full(len(realisation), 8 * 10 ** (snr_db / 10)),
        )

    def __call__(self, codes, snr_db, realisation):
        noise = np.stack([np.random.default_rng(int(i)).standard_normal(codes.shape[1:]) for i in realisation])
        codes_hat = codes + torch.as_tensor(10 ** (-snr_db / 20) * noise, dtype=codes.dtype)
        return codes_hat, torch.full_like(codes, 10 ** (-snr_db / 10))


NUM_STREAMS, OVERHEAD_BITS = 4, 40


class FakeDigitalLink:
    """Everything arrives from 0 dB on, but what meets a fade of a number that three divides; nothing below."""

    config = LinkConfig()

    def __init__(self, bits_per_symbol, data_res=80):
        self.bits_per_symbol, self.coded_bits = bits_per_symbol, NUM_STREAMS * bits_per_symbol * data_res

    def carries(self, payload_bytes):
        return 8 * payload_bytes + OVERHEAD_BITS <= HIGHEST_RATE[self.bits_per_symbol] / 1024 * self.coded_bits

    def ledger(self, *, payload_bytes):
        code_rate, bits = (8 * payload_bytes + OVERHEAD_BITS) / self.coded_bits, 8 * payload_bytes
        return SimpleNamespace(
            coded_bits=self.coded_bits, code_rate=code_rate, payload_bits=bits, overhead_bits=OVERHEAD_BITS
        )

    def peak_power(self, realisation):
        return np.full(len(realisation), float(self.bits_per_symbol))

    def soft_bits(self, snr_db, realisation):
        """Bits that are known, as many as the SNR has decibels and as the fade's number is large."""
        bits = np.ones((len(realisation), self.coded_bits))
        known = np.arange(self.coded_bits) < (max(0, snr_db) + np.asarray(realisation))[:, None]
        return 60.0 * known, bits

    def information(self, snr_db, realisation):
        """All coded bits over a fade whose number three does not divide, from 0 dB on; none otherwise."""
        arrives = [snr_db >= 0 and number % 3 > 0 for number in realisation]
        return np.where(arrives, float(self.coded_bits), 0.0), np.zeros(len(arrives))

    def harq(self, payloads, snr_db, realisation, *, max_transmissions):
        received, counts = self(payloads, snr_db, realisation), np.ones(len(payloads), int)
        for attempt in range(1, max_transmissions):
            asked = [index for index, payload in enumerate(received) if payload is None]
            fades = attempt * REPEATED_FADES + np.asarray(realisation)[asked]
            for index, payload in zip(asked, self([payloads[i] for i in asked], snr_db, fades), strict=True):
                received[index] = payload
            counts[asked] += 1
        return Answer(received, counts)

    def __call__(self, payloads, snr_db, realisation):
        assert all(self.carries(len(payload)) for payload in payloads)
        arrives = [snr_db >= 0 and number % 3 > 0 for number in realisation]
        return [payload if ok else None for payload, ok in zip(payloads, arrives, strict=True)]


def fake_link(data_res=80, kind=FakeDigitalLink, max_transmissions=1, cqi=False):
    """Put a budget in front of it; one size of payloads is all that is worth taking, but with CQI."""
    return PayloadLink(
        lambda bits_per_symbol: kind(bits_per_symbol, data_res),
        data_res,
        lambda snr_db: {data_res: 0.3},
        max_transmissions=max_transmissions,
        cqi=cqi,
    )


def fake_tables(kind, codes):
    """Learn a quantiser's tables; more bytes are worth more."""
    worth = {"accuracy_bytes": [1, 100], "accuracy": [0.5, 0.9], "accuracy_lost": [0.4]}
    return kind.learn(codes) | {name: np.array(value) for name, value in worth.items()}


OWN_CURVE = '''"""A curve in a file of its own: tokens at four times the power, over the link of machine tokens."""

from studies.curves import Curve
from studies.schemes.carriers.analog import Codes
from studies.schemes.encoders.tokens import Tokens
from studies.schemes.readers.prefix import Prefix
from tests.studies.fakes import FakeAgents, FakeChannel

AGENTS = FakeAgents()


def tokens(workbench, weights):
    return Tokens(AGENTS)


def louder(workbench, weights):
    return Louder(FakeChannel(), AGENTS.num_tokens, AGENTS.width)


def prefix(workbench, weights):
    return Prefix(AGENTS)


class Louder(Codes):
    def deliver(self, codes, batch, snr_db):
        return super().deliver(codes, batch, snr_db + 6)


AGAIN = MY_CURVE = Curve(
    name="louder-tokens",
    encoder=tokens,
    carrier=louder,
    reader=prefix,
    about="tokens with four times the power",
    label="tokens, louder",
    line={"color": "#12ab34", "marker": "d"},
)
'''
