import subprocess
import sys

import pytest
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from semantic.loading import without_progress_bar

EVERY_LOADER = """
import sys
from transformers.utils import logging
from semantic import AgentLink
from semantic.agent_link import PRETRAINED, build_agents
from semantic.data import load_dataset
from semantic.deepjscc import DeepJSCC
from semantic.token_choice import TokenChoice
agents = AgentLink.from_pretrained("clevr-mini-adaptive")
TokenChoice.from_pretrained("clevr-mini-adaptive", agents)
DeepJSCC.from_pretrained("deepjscc-small")
load_dataset(None, "test")
build_agents(PRETRAINED / "sensor", PRETRAINED / "task-agent")
sys.exit(0 if logging.is_progress_bar_enabled() else "the user's progress bars are gone")
"""


def test_loading_prints_nothing():
    done = subprocess.run([sys.executable, "-c", EVERY_LOADER], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.fixture
def settings_kept():
    shown, downloads = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    yield
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    (enable_progress_bars if downloads else disable_progress_bars)()


@without_progress_bar()
def load_in_vain():
    assert not logging.is_progress_bar_enabled()
    raise ZeroDivisionError


@pytest.mark.parametrize("models", [True, False])
@pytest.mark.parametrize("downloads", [True, False])
def test_the_users_own_setting_holds_afterwards_even_after_an_error(settings_kept, models, downloads):
    (logging.enable_progress_bar if models else logging.disable_progress_bar)()
    (enable_progress_bars if downloads else disable_progress_bars)()
    with pytest.raises(ZeroDivisionError):
        load_in_vain()
    assert logging.is_progress_bar_enabled() == models
    assert are_progress_bars_disabled() == (not downloads)
