"""A pretrained pair on disk, tiny and random, and agents that were put together from it."""

import pytest
import torch

from semantic.agent_link import build_agents
from tests.semantic.models import save_pair


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small only lose by threads, and the tests of several processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """A folder with the pretrained models `sensor` and `task`; nothing may be written to it."""
    folder = tmp_path_factory.mktemp("pair")
    save_pair(folder)
    return folder


@pytest.fixture
def agents(pair):
    """Agents as training leaves them: LoRA has moved away from zero."""
    torch.manual_seed(4)
    link = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=8, r=2)
    with torch.no_grad():
        for name, parameter in link.sensor.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return link
