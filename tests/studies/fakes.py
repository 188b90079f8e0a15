"""Stand-ins for models, data and link: small sums instead of networks, but real tensors and the same interfaces."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

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


class FakeAgents:
    """The code of an image is its level; the task agent rounds what it receives."""

    num_tokens, width, model_hash = 2, 3, "fake-weights"

    def __init__(self):
        self.num_encoded = 0
        self.sensor = SimpleNamespace(answer=lambda images, questions: [str(int(image[0, 0, 0])) for image in images])
        self.task_agent = SimpleNamespace(answer=lambda questions, prefix=None: ["0"] * len(questions))

    def encode(self, images, questions):
        self.num_encoded += len(images)
        level = torch.tensor([float(image[0, 0, 0]) for image in images])
        return level[:, None, None].expand(-1, self.num_tokens, self.width).contiguous()

    def answer_codes(self, codes_hat, questions):
        return [str(round(float(code.mean()))) for code in codes_hat]


class FakeChannel:
    """White noise, decided by the realisation's number alone."""

    def __init__(self):
        ledger = SimpleNamespace(data_res=2, pilot_res=4, total_res=12, duration_s=1e-3)
        self.link = SimpleNamespace(ledger=lambda num_tokens, width: ledger)

    def __call__(self, codes, snr_db, realisation):
        noise = np.stack([np.random.default_rng(int(i)).standard_normal(codes.shape[1:]) for i in realisation])
        return codes + torch.as_tensor(10 ** (-snr_db / 20) * noise, dtype=codes.dtype)
