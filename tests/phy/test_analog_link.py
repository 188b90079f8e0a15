import itertools
import pickle

import numpy as np
import pytest
import tensorflow as tf

from phy import AnalogLink, CodePrior, LinkConfig
from phy.fading import BLOCK
from phy.recovery import RECOVERIES
from phy.scenarios import SCENARIOS
from tests.phy.links import ALL_CHANNELS, DEFAULT, make_codes, make_link


def nmse(out, codes):
    return float(np.mean((out.codes_hat - codes) ** 2) / np.mean(codes**2))


@pytest.mark.parametrize(
    "facts",
    [
        *({"channel": channel} for channel in ALL_CHANNELS if channel not in SCENARIOS),
        # drops differ in delay spread, so that the error of a channel estimate is as announced in the mean only
        *({"channel": channel, "estimator": "perfect"} for channel in SCENARIOS),
        {"modulation": "iq"},
        {"recovery": "complex-ls"},
        {"recovery": "complex-lmmse"},
        {"recovery": "complex-lmmse-unbiased", "modulation": "iq"},
        {"estimator": "ls-nearest"},
        {"estimator": "lmmse", "recovery": "lmmse"},
    ],
)
def test_codes_come_back_and_the_receiver_knows_how_well(facts):
    codes = make_codes(64)
    out = make_link(speed=0.0, delay_spread=20e-9, **facts)(codes, snr_db=60.0, realisation=np.arange(64))
    assert out.codes_hat.shape == out.error_var.shape == codes.shape
    error = (out.codes_hat - codes).numpy()
    assert np.median(error**2) < 1e-3
    ratio = np.median(error**2 / out.error_var)
    assert 0.2 < ratio < 0.8  # the median of a squared standard normal is 0.455


@pytest.mark.parametrize("channel", ["rayleigh", "cdl-c"])
def test_error_variance_is_exact_with_the_perfect_channel(channel):
    codes, realisation = make_codes(512), np.arange(512)
    out = make_link(channel=channel, estimator="perfect")(codes, snr_db=5.0, realisation=realisation)
    squares = ((out.codes_hat - codes) ** 2 / out.error_var).numpy()
    # noise is shared by the antennas of a resource element only: at least size / 4 independent χ² of one degree
    assert squares.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / (squares.size / 4)))


@pytest.mark.parametrize(("tx", "rx"), [(2, 4), (4, 8)])
def test_link_on_rayleigh_has_the_closed_form_error(tx, rx):
    snr_db, batch = 10.0, 4096
    codes = make_codes(batch, 1, tx)
    link = make_link(channel="rayleigh", num_tx_ant=tx, num_rx_ant=rx, estimator="perfect", fft_size=tx)
    out = link(codes, snr_db=snr_db, realisation=np.arange(batch))
    expected, dof = 0.1 * tx / (2 * rx - tx - 1), 2 * rx - tx + 1
    error = float(np.mean((out.codes_hat - codes) ** 2))
    assert error == pytest.approx(expected, rel=5 * np.sqrt((3 * (dof - 2) / (dof - 4) - 1) / batch))


@pytest.mark.parametrize(
    "facts",
    [
        {},
        DEFAULT,
        {**DEFAULT, "channel": "tdl-e", "num_tx_ant": 3, "num_rx_ant": 2, "fft_size": 40},
        {"channel": "rayleigh", "num_tx_ant": 4, "num_rx_ant": 2, "modulation": "amplitude"},
    ],
)
def test_batch_size_and_order_change_no_bit(facts):
    link, codes = make_link(**facts), make_codes(70)
    numbers = np.random.default_rng(0).permutation(200)[:70]
    whole = link(codes, 10.0, numbers)
    order = np.random.default_rng(1).permutation(70)
    shuffled = link(codes[order], 10.0, numbers[order])
    np.testing.assert_array_equal(shuffled.codes_hat, whole.codes_hat.numpy()[order])
    for piece in (slice(0, 1), slice(1, 18), slice(18, 70)):
        part = link(codes[piece], 10.0, numbers[piece])
        np.testing.assert_array_equal(part.codes_hat, whole.codes_hat[piece])
        np.testing.assert_array_equal(part.error_var, whole.error_var[piece])


@pytest.mark.parametrize(
    "facts",
    [
        *({**DEFAULT, "channel": "rayleigh", "num_tx_ant": 1, "num_rx_ant": rx} for rx in (1, 8)),
        {"channel": "tdl-a", "num_tx_ant": 1, "num_rx_ant": 3},
        {**DEFAULT, "num_tx_ant": 1, "num_rx_ant": 4},
        {**DEFAULT, "num_tx_ant": 2, "num_rx_ant": 1},
        {**DEFAULT, "channel": "tdl-d", "num_tx_ant": 1, "estimator": "lmmse"},
        {**DEFAULT, "channel": "tdl-b", "num_tx_ant": 1, "estimator": "lmmse-robust"},
    ],
)
def test_one_antenna_is_enough_for_a_batch(facts):
    """Products with one matrix for a whole batch were wrong on processors with AMX."""
    link, codes = make_link(**facts), make_codes(70)
    whole = link(codes, 10.0, np.arange(70))
    for number in (0, 1, 69):
        alone = link(codes[[number]], 10.0, [number])
        np.testing.assert_allclose(alone.codes_hat[0], whole.codes_hat[number], atol=1e-4)
        np.testing.assert_allclose(alone.error_var[0], whole.error_var[number], rtol=1e-3)


def test_changing_one_example_leaves_the_others_alone():
    link, codes = make_link(), make_codes(8)
    louder = codes.copy()
    louder[3] *= 1000
    before, after = link(codes, 10.0, np.arange(8)), link(louder, 10.0, np.arange(8))
    others = np.delete(np.arange(8), 3)
    np.testing.assert_array_equal(before.codes_hat.numpy()[others], after.codes_hat.numpy()[others])
    assert not np.array_equal(before.codes_hat[3], after.codes_hat[3])


def test_a_louder_example_meets_the_same_noise():
    """A scale taken from the example would make its error grow with its power; ours has the same error."""
    link, codes = make_link(estimator="perfect"), make_codes(4)
    quiet, loud = link(codes, 10.0, np.arange(4)), link(10 * codes, 10.0, np.arange(4))
    np.testing.assert_allclose(loud.codes_hat - 10 * codes, quiet.codes_hat - codes, atol=2e-4)


def test_every_example_has_its_own_snr():
    link, codes = make_link(estimator="perfect"), make_codes(2)
    both = link(codes, [0.0, 20.0], [7, 7])
    for row, snr_db in enumerate((0.0, 20.0)):
        alone = link(codes[row : row + 1], snr_db, [7])
        np.testing.assert_array_equal(both.codes_hat[row], alone.codes_hat[0])
    np.testing.assert_allclose(both.error_var[0], 100 * both.error_var[1], rtol=1e-5)


def test_realisations_are_fresh_by_default_and_start_at_zero():
    link, codes = make_link(channel="rayleigh"), make_codes(3)
    first, second = link(codes), link(codes)
    np.testing.assert_array_equal(first.codes_hat, link(codes, realisation=[0, 1, 2]).codes_hat)
    np.testing.assert_array_equal(second.codes_hat, link(codes, realisation=tf.range(3, 6)).codes_hat)


@pytest.mark.parametrize("channel", ["rayleigh", "cdl-c", "tdl-e"])
@pytest.mark.parametrize(("tx", "rx"), [(4, 4), (4, 2), (1, 1)])
@pytest.mark.parametrize("estimator", ["perfect", "ls-linear"])
def test_no_nan_at_square_channels_and_any_snr(channel, tx, rx, estimator):
    codes = make_codes(64)
    link = make_link(channel=channel, num_tx_ant=tx, num_rx_ant=rx, estimator=estimator)
    for snr_db in (-10.0, 0.0, 40.0):
        for part in link(codes, snr_db, np.arange(64)):
            assert np.isfinite(part).all()


@pytest.mark.parametrize("recovery", ["lmmse", "lmmse-unbiased", "complex-lmmse-unbiased"])
@pytest.mark.parametrize("estimator", ["perfect", "ls-linear", "lmmse"])
def test_no_nan_from_linear_estimates_with_square_and_starved_channels(recovery, estimator):
    codes = make_codes(64)
    prior = CodePrior.fit(make_codes(200)) if recovery == "lmmse" else None
    for num_rx_ant in (4, 1):
        link = make_link(channel="cdl-c", num_tx_ant=4, num_rx_ant=num_rx_ant, estimator=estimator, recovery=recovery)
        links = [link] if prior is None else [link, AnalogLink(link.config, prior=prior)]
        for each, snr_db in itertools.product(links, (-10.0, 40.0)):
            for part in each(codes, snr_db, np.arange(64)):
                assert np.isfinite(part).all()


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_every_recovery_keeps_the_interface(recovery):
    """Shapes, finite numbers, a positive error variance, and no influence of one example on another."""
    link, codes = make_link(channel="rayleigh", recovery=recovery, num_tx_ant=2, fft_size=16), make_codes(4, 2, 20)
    out = link(codes, 10.0, np.arange(4))
    for part in out:
        assert part.shape == codes.shape
        assert np.isfinite(part).all()
    assert (out.error_var.numpy() > 0).all()
    alone = link(codes[3:], 10.0, [3])
    np.testing.assert_allclose(alone.codes_hat[0], out.codes_hat[3], rtol=1e-4, atol=1e-4)
    assert nmse(out, codes) < nmse(out._replace(codes_hat=0 * codes), codes)


def test_double_precision_meets_the_same_fades():
    codes = make_codes(8)
    single, double = (make_link(precision=p)(codes, 10.0, np.arange(8)) for p in ("single", "double"))
    assert double.codes_hat.dtype == tf.float64
    np.testing.assert_allclose(single.codes_hat, double.codes_hat, atol=2e-3)


def test_phase_mask_costs_nothing_where_antennas_are_alike():
    codes = make_codes(256)
    errors = [
        nmse(make_link(channel="rayleigh", phase_mask=m)(codes, 10.0, np.arange(256)), codes) for m in (True, False)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)


def test_a_pickled_link_goes_on_where_it_was():
    link, codes = make_link(channel="rayleigh"), make_codes(2)
    link(codes)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(link))(codes).codes_hat, link(codes).codes_hat)


def test_one_graph_serves_every_batch_size():
    link = make_link()
    for batch in (1, 5, 32, 3):
        link(make_codes(batch), 10.0, np.arange(batch))
    assert link.transmission(num_tokens=5, width=64)._chain.experimental_get_tracing_count() == 1


def test_an_empty_batch_is_an_empty_answer():
    assert make_link(channel="rayleigh")(make_codes(0)).codes_hat.shape == (0, 5, 64)


@pytest.mark.parametrize(
    ("codes", "kwargs", "error", "message"),
    [
        (np.full((1, 5, 64), np.nan, np.float32), {}, ValueError, "codes hold NaN"),
        (
            np.zeros((5, 64), np.float32),
            {},
            ValueError,
            r"codes must have shape \[batch, num_tokens, width\], got \(5, 64\)",
        ),
        (np.zeros((1, 5, 64), np.int32), {}, TypeError, "codes must be real floating-point numbers, got int32"),
        (np.zeros((1, 5, 64), np.complex64), {}, TypeError, "got complex64"),
        (np.zeros((1, 0, 64), np.float32), {}, ValueError, "num_tokens must be a positive whole number, got 0"),
        (
            make_codes(2),
            {"snr_db": [1.0, 2.0, 3.0]},
            ValueError,
            r"snr_db must be a number or one per example, shape \(2,\)",
        ),
        (make_codes(2), {"snr_db": float("nan")}, ValueError, "snr_db must be finite"),
        (make_codes(2), {"realisation": [0]}, ValueError, "realisation must hold one whole number per example"),
        (make_codes(2), {"realisation": [0.0, 1.0]}, ValueError, "realisation must hold one whole number per example"),
        (make_codes(2), {"realisation": [0, -1]}, ValueError, "realisation numbers start at 0, got -1"),
    ],
)
def test_bad_input_gets_one_clear_error(codes, kwargs, error, message):
    with pytest.raises(error, match=message):
        make_link(channel="rayleigh")(codes, **kwargs)


def test_a_graph_around_the_link_is_refused():
    link = make_link(channel="rayleigh")
    with pytest.raises(RuntimeError, match="call it eagerly"):
        tf.function(lambda codes: link(codes).codes_hat)(make_codes(1))


def test_gradient_through_tensorflow_is_the_linear_map():
    link, codes = (
        make_link(channel="rayleigh", estimator="perfect", precision="double"),
        tf.constant(make_codes(2), tf.float64),
    )
    with tf.GradientTape() as tape:
        tape.watch(codes)
        total = tf.reduce_sum(link(codes, 10.0, [0, 1]).codes_hat * make_codes(2, seed=3))
    np.testing.assert_allclose(tape.gradient(total, codes), make_codes(2, seed=3), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "facts",
    [
        {"recovery": "lmmse"},
        {"recovery": "ls", "clipping_db": 1.0},
        {"recovery": "complex-ls", "estimator": "lmmse"},
        {"recovery": "fista", "num_rx_ant": 1},
    ],
    ids=str,
)
def test_vjp_is_what_the_tape_finds(facts):
    link, codes, upstream = make_link(channel="rayleigh", **facts), tf.constant(make_codes(2)), make_codes(2, seed=3)
    with tf.GradientTape() as tape:
        tape.watch(codes)
        output = link(codes, 5.0, [0, 1])
    expected = tape.gradient(output.codes_hat, codes, upstream)
    again, pull_back = link.vjp(codes, 5.0, [0, 1])
    for ours, theirs in zip(again, output, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for _ in range(2):
        np.testing.assert_allclose(pull_back(upstream), expected, rtol=1e-4, atol=1e-5)


def test_vjp_counts_realisations_as_a_call_does():
    link, codes = make_link(channel="rayleigh"), make_codes(2)
    link.vjp(codes)
    np.testing.assert_array_equal(link(codes).codes_hat, make_link(channel="rayleigh")(codes, 10.0, [2, 3]).codes_hat)


def test_the_default_link_is_the_default_config():
    assert AnalogLink().config == LinkConfig()


def test_codes_too_large_for_memory_are_refused_before_anything_is_made(monkeypatch):
    link = make_link()
    message = (
        r"a code of shape \(5, 400000\) needs 500000 resource elements: a block of 64 realisations for num_tx_ant=4, "
        r"num_rx_ant=8 would take \d\d\.\d GiB of memory, the limit is 2 GiB\. Send less at a time, in several calls"
    )
    with pytest.raises(ValueError, match=message):
        link(np.zeros((1, 5, 400_000), np.float32), 10.0)
    assert link.channel.next_realisation == 0
    link(make_codes(1), 10.0, [0])
    grid = link.transmission(num_tokens=5, width=64).grid.resources
    held = sum(np.asarray(part).nbytes for part in tf.nest.flatten(link.channel.fades(np.arange(BLOCK), grid)))
    monkeypatch.setattr("phy.channel.MAX_BLOCK_BYTES", held)
    make_link().transmission(num_tokens=5, width=64)
    monkeypatch.setattr("phy.channel.MAX_BLOCK_BYTES", held - 1)
    with pytest.raises(ValueError, match=r"a code of shape \(5, 64\) needs 80 resource elements"):
        make_link().transmission(num_tokens=5, width=64)
