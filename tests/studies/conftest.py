"""A study whose models, data and link are stand-ins."""

import os
import sys

import pytest

from studies import accuracy_vs_snr, agents_axis, drawing, plots, sweep, workbench
from studies.schemes.carriers import adaptive, analog
from studies.schemes.digital import payload_link, quantizer_file
from studies.schemes.digital.quantizer_file import KINDS
from studies.schemes.encoders import image_codes
from tests.studies.fakes import (
    FAKE_CHOICE,
    OWN_CURVE,
    FakeAgents,
    FakeChannel,
    FakeDataset,
    FakeImageCode,
    fake_link,
    fake_tables,
)

assert agents_axis.load_agents is workbench.load_agents  # imported before any test puts a stand-in there
CACHES = (sweep.workbench_for, sweep.scheme_for, sweep.dataset_for, sweep.read_codes)


@pytest.fixture
def stand_in(monkeypatch):
    """Put a function in place of a module's, wherever the studies have imported that by name."""

    def replace(module, name, other):
        replaced = getattr(module, name)
        for loaded in [loaded for path, loaded in sys.modules.items() if path.startswith("studies")]:
            if vars(loaded).get(name) is replaced:
                monkeypatch.setattr(loaded, name, other)

    return replace


@pytest.fixture
def fresh():
    """Forget what a process keeps of a configuration, before and after a test."""
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def no_real_link(stand_in):
    """Put the stand-in in place of the digital link, and quantisers learned from the agents' own codes."""
    channel = FakeChannel()  # whose ledger tells the budget
    stand_in(analog, "make_channel", lambda link, prior=None: channel)
    stand_in(
        payload_link,
        "make_payload_link",
        lambda config, data_res, max_transmissions, cqi: fake_link(
            data_res, max_transmissions=max_transmissions, cqi=cqi
        ),
    )
    stand_in(quantizer_file, "load_tables", lambda name, kind, agents: fake_tables(KINDS[kind], agents.table))


@pytest.fixture
def drawn(monkeypatch):
    """Ask for figures, which are returned in a list. Most tests do without: drawing takes most of a study's time."""
    figures = []

    class Kept(drawing.Figure):
        def __init__(self, **options):
            super().__init__(**options)
            figures.append(self)

    monkeypatch.setattr(drawing, "Figure", Kept)
    return figures


@pytest.fixture
def fakes(stand_in, no_real_link, fresh, request):
    """Put the stand-ins in place of everything that is loaded, and return them by name."""
    dataset, agents, channel, image_code = FakeDataset(), FakeAgents(), FakeChannel(), FakeImageCode()
    links = []  # the configurations that a channel was asked for
    stand_in(sweep, "dataset_for", lambda data: dataset)
    stand_in(workbench, "load_agents", lambda name: agents)
    stand_in(adaptive, "load_token_choice", lambda name: FAKE_CHOICE)
    stand_in(image_codes, "load_deepjscc", lambda name: image_code)
    stand_in(analog, "make_channel", lambda link, prior=None: links.append((link, prior) if prior else link) or channel)
    if "drawn" not in request.fixturenames:
        stand_in(plots, "draw_accuracy", lambda results, *, folder, name, **options: [])
    return {"dataset": dataset, "agents": agents, "channel": channel, "image_code": image_code, "links": links}


@pytest.fixture
def config():
    """A small study."""
    return accuracy_vs_snr.Config(num_questions=30, batch_size=7, snr_db=(-20.0, 0.0, 40.0))


@pytest.fixture
def own_curve(tmp_path, monkeypatch):
    """The name of a module outside of the package, which holds a part and a row: `MY_CURVE`."""
    name, folder = f"own_curve_{os.getpid()}", tmp_path / "own"
    folder.mkdir()
    (folder / f"{name}.py").write_text(OWN_CURVE)
    monkeypatch.syspath_prepend(folder)
    yield name
    sys.modules.pop(name, None)
