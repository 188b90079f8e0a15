"""A study whose models, data and link are stand-ins."""

import pytest

from studies import accuracy_vs_snr, sweep, workbench
from studies.schemes import answer_text, caption, jpeg_ldpc, jpeg_ldpc_fixed, quantized_tokens
from studies.schemes.digital.quantizer_file import KINDS
from tests.studies.fakes import FAKE_CHOICE, FakeAgents, FakeChannel, FakeDataset, FakeImageCode, fake_link


@pytest.fixture
def no_real_link(monkeypatch):
    """Put the stand-in in place of the digital link."""
    for module in (answer_text, caption, jpeg_ldpc, jpeg_ldpc_fixed, quantized_tokens):
        monkeypatch.setattr(module, "payload_link", lambda workbench, data_res=80: fake_link(data_res))

    def load_tables(name, kind, agents):
        return KINDS[kind].learn(agents.table)

    monkeypatch.setattr(quantized_tokens, "load_tables", load_tables)


@pytest.fixture
def fakes(monkeypatch, no_real_link):
    """Put the stand-ins in place of what a workbench loads, and return them by name."""
    dataset, agents, channel, image_code = FakeDataset(), FakeAgents(), FakeChannel(), FakeImageCode()
    links = []  # the configurations that a channel was asked for
    monkeypatch.setattr(workbench, "load_dataset", lambda data: dataset)
    monkeypatch.setattr(workbench, "load_agents", lambda name: agents)
    monkeypatch.setattr(workbench, "load_token_choice", lambda name: FAKE_CHOICE)
    monkeypatch.setattr(workbench, "load_deepjscc", lambda name: image_code)
    monkeypatch.setattr(
        workbench, "make_channel", lambda link, prior=None: links.append((link, prior) if prior else link) or channel
    )
    for cached in (sweep.workbench_for, sweep.scheme_for, sweep.read_codes):
        cached.cache_clear()
    yield {"dataset": dataset, "agents": agents, "channel": channel, "image_code": image_code, "links": links}
    for cached in (sweep.workbench_for, sweep.scheme_for, sweep.read_codes):
        cached.cache_clear()


@pytest.fixture
def config():
    """A small study."""
    return accuracy_vs_snr.Config(num_questions=30, batch_size=7, snr_db=(-20.0, 0.0, 40.0))
