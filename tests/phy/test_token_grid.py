import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from phy import LinkConfig
from phy.token_grid import TokenGrid
from tests.phy.links import make_codes

SHAPES = {
    "num_tokens": st.integers(1, 9),
    "width": st.integers(1, 200),
    "num_tx_ant": st.integers(1, 6),
    "modulation": st.sampled_from(["amplitude", "iq"]),
    "pilots": st.sampled_from(["kronecker", "none"]),
    "guards": st.tuples(st.integers(0, 5), st.integers(0, 5)),
}


def make_grid(*, num_tokens=5, width=64, guards=(0, 0), pilots="kronecker", **facts):
    config = LinkConfig(
        num_rx_ant=8,
        fft_size=24,
        num_guard_carriers=guards,
        pilots=pilots,
        estimator="perfect",
        precision="double",
        **facts,
    )
    return TokenGrid(config, num_tokens, width)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(**SHAPES)
def test_reading_inverts_mapping(num_tokens, width, **facts):
    grid = make_grid(num_tokens=num_tokens, width=width, **facts)
    codes = make_codes(2, num_tokens, width).astype(np.float64)
    symbols = (grid.map(codes) / grid.mask).numpy()
    reals = symbols.real if grid.reals_per_re == grid.num_tx_ant else np.concatenate([symbols.real, symbols.imag])
    np.testing.assert_allclose(grid.read(tf.constant(reals)), codes, rtol=1e-12, atol=1e-12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(**SHAPES)
def test_data_and_pilots_share_no_symbol_and_the_codes_fill_no_more_than_they_need(num_tokens, width, **facts):
    grid = make_grid(num_tokens=num_tokens, width=width, **facts).resources
    assert not set(grid.data_symbols) & set(grid.pilot_symbols)
    assert max(grid.data_symbols) < grid.num_symbols == 14 * grid.num_slots
    capacity = len(grid.data_symbols) * len(grid.subcarriers)
    assert capacity - len(grid.subcarriers) < grid.num_res <= capacity


@pytest.mark.parametrize(
    ("num_data_symbols", "expected"),
    [
        (1, [3]),  # beside the first pilot symbol, towards the second
        (2, [3, 10]),
        (4, [1, 3, 10, 12]),
        (8, [0, 1, 3, 4, 9, 10, 12, 13]),
        (12, [0, 1, *range(3, 11), 12, 13]),
        (13, [0, 1, *range(3, 11), 12, 13, 17]),
    ],
)
def test_a_slot_that_is_not_filled_carries_data_near_its_pilots(num_data_symbols, expected):
    grid = make_grid(num_tokens=1, width=4 * 24 * num_data_symbols - 5).resources
    assert list(grid.data_symbols) == expected
    silent = make_grid(num_tokens=1, width=4 * 24 * num_data_symbols - 5, pilots="none").resources
    assert list(silent.data_symbols) == list(range(num_data_symbols))


@pytest.mark.parametrize("modulation", ["amplitude", "iq"])
@pytest.mark.parametrize("num_tx_ant", [1, 2, 4, 8])
def test_all_antennas_together_radiate_one_per_resource_element(num_tx_ant, modulation):
    grid = make_grid(num_tokens=10, width=num_tx_ant * 40, num_tx_ant=num_tx_ant, modulation=modulation)
    signs = np.where(make_codes(50, 10, num_tx_ant * 40) > 0, 1.0, -1.0)  # |c|² = 1 exactly, so the power is exact too
    power = (np.abs(grid.map(signs)) ** 2).sum(0)
    np.testing.assert_allclose(power, 1.0, rtol=1e-12)


def test_scale_is_blind_to_the_codes():
    grid = make_grid()
    codes = make_codes(3).astype(np.float64)
    np.testing.assert_allclose(grid.map(7 * codes), 7 * grid.map(codes), rtol=1e-12)
    louder = codes.copy()
    louder[1] *= 100
    np.testing.assert_array_equal(grid.map(louder)[:, 0], grid.map(codes)[:, 0])


def test_mask_has_unit_modulus_and_no_mean_and_does_not_depend_on_what_follows():
    short, long = make_grid(width=64), make_grid(width=640)
    np.testing.assert_allclose(np.abs(long.mask), 1.0, rtol=1e-12)
    # the mean of n unit phases has variance 1 / n; 6 standard deviations
    assert abs(np.mean(long.mask)) < 6 / np.sqrt(long.mask.numpy().size)
    same = np.isin(long.resources.data_symbols, short.resources.data_symbols).repeat(24)
    np.testing.assert_array_equal(long.mask.numpy()[..., same[: long.num_res]][..., : short.num_res], short.mask)


def test_mask_can_be_left_out():
    np.testing.assert_array_equal(make_grid(phase_mask=False).mask, np.ones((4, 1, 80)))


def test_neighbouring_numbers_sit_on_the_antennas_of_one_resource_element():
    grid = make_grid(phase_mask=False)
    codes = np.arange(320.0).reshape(1, 5, 64)
    np.testing.assert_allclose(grid.map(codes)[:, 0, 1].numpy().real / grid.scale, [4, 5, 6, 7])
