from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phy import AnalogLink, LinkConfig
from phy.ledger import Ledger
from tests.phy.links import make_link


def test_ledger_of_the_default_link():
    ledger = make_link().ledger(num_tokens=5, width=64)
    assert (ledger.data_res, ledger.pilot_res, ledger.guard_res, ledger.idle_res) == (80, 128, 0, 688)
    assert ledger.total_res == 14 * 64
    assert ledger.num_symbols == 14
    assert ledger.channel_uses == 208
    assert ledger.duration_s == pytest.approx(0.5e-3)
    assert ledger.energy == pytest.approx(80 + 128)
    assert (ledger.active_symbols, ledger.mini_slots) == (4, 2)  # symbols 2, 3, 10 and 11: two data, two pilot symbols
    assert ledger.active_s == pytest.approx(4 / 14 * 0.5e-3)
    assert ledger.span_s == pytest.approx(10 / 14 * 0.5e-3)
    assert np.isnan(ledger.code_rate)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    num_tokens=st.integers(1, 20),
    width=st.integers(1, 400),
    num_tx_ant=st.integers(1, 8),
    guards=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    modulation=st.sampled_from(["amplitude", "iq"]),
    pilots=st.sampled_from(["kronecker", "none"]),
)
def test_parts_add_up_to_the_grid(num_tokens, width, guards, **facts):
    config = LinkConfig(
        channel="awgn", num_rx_ant=8, fft_size=32, num_guard_carriers=guards, estimator="perfect", **facts
    )
    ledger = AnalogLink(config).ledger(num_tokens=num_tokens, width=width)
    assert ledger.data_res + ledger.pilot_res + ledger.guard_res + ledger.idle_res == ledger.total_res
    assert ledger.total_res == ledger.num_symbols * 32
    assert ledger.guard_res == ledger.num_symbols * sum(guards)
    assert (ledger.data_res - 1) * config.reals_per_re < num_tokens * width <= ledger.data_res * config.reals_per_re
    assert min(asdict(ledger).values()) >= 0
    assert 0 < ledger.active_s <= ledger.span_s <= ledger.duration_s
    assert ledger.active_symbols <= 2 * ledger.mini_slots <= ledger.num_symbols
    assert ledger.active_symbols * (32 - sum(guards)) >= ledger.data_res + ledger.pilot_res


def test_two_numbers_per_symbol_halve_the_resource_elements():
    amplitude, iq = (make_link(modulation=m).ledger(num_tokens=5, width=64) for m in ("amplitude", "iq"))
    assert iq.data_res == amplitude.data_res / 2


def test_a_ledger_that_does_not_add_up_cannot_be_made():
    entries = asdict(make_link().ledger(num_tokens=5, width=64))
    with pytest.raises(ValueError, match="add up to 895 resource elements, the grid has 896"):
        Ledger(**{**entries, "idle_res": entries["idle_res"] - 1})


@pytest.mark.parametrize(
    "shape", [{"num_tokens": 0, "width": 4}, {"num_tokens": 5, "width": -1}, {"num_tokens": 2.0, "width": 4}]
)
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="must be a positive whole number"):
        make_link().ledger(**shape)
