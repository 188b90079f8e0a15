import pickle
from dataclasses import replace

import numpy as np
import pytest

from phy import DigitalLink, EnvelopeLink, LinkConfig, McsThresholds
from phy.digital_link import MCS

RAYLEIGH = LinkConfig(channel="rayleigh", num_tx_ant=1)
# QPSK at rate 120/1024 from -10 dB, at rate 602/1024 from 0 dB, 16-QAM at rate 378/1024 from 10 dB, and no more
STEPS = McsThresholds(snr_db=(-10.0, 0.0, 0.0, 0.0, 0.0, 10.0, *[np.inf] * 22))


@pytest.mark.parametrize(("snr_db", "index"), [(-30, 0), (-10, 0), (-0.1, 0), (0, 4), (9.9, 4), (10, 5), (60, 5)])
def test_the_most_efficient_scheme_that_gets_through_is_chosen(snr_db, index):
    assert STEPS.choose(snr_db) == index


def test_each_payload_goes_by_the_scheme_of_its_snr():
    link, rng = EnvelopeLink(RAYLEIGH, thresholds=STEPS), np.random.default_rng(0)
    payloads, snr_db, numbers = [rng.bytes(20) for _ in range(6)], [20.0, -30.0, 5.0, 20.0, 5.0, -30.0], np.arange(6)
    answers = link(payloads, snr_db, numbers)
    assert answers == [payloads[0], None, payloads[2], payloads[3], payloads[4], None]
    fixed = DigitalLink(RAYLEIGH, bits_per_symbol=MCS[5][0], code_rate=MCS[5][1])
    assert link.ledger(payload_bytes=20, snr_db=20.0) == fixed.ledger(payload_bytes=20)
    assert link.ledger(payload_bytes=20, snr_db=5.0).data_res > fixed.ledger(payload_bytes=20).data_res


def test_its_fades_are_those_of_a_fixed_scheme_and_survive_pickling():
    thresholds = McsThresholds(snr_db=(-30.0, *[np.inf] * 27))
    payloads = [np.random.default_rng(i).bytes(30) for i in range(32)]
    fixed = DigitalLink(RAYLEIGH, bits_per_symbol=MCS[0][0], code_rate=MCS[0][1])
    expected = fixed(payloads, -6.0, np.arange(32))
    assert 0 < expected.count(None) < 32
    link = pickle.loads(pickle.dumps(EnvelopeLink(RAYLEIGH, thresholds=thresholds)))
    assert link(payloads, -6.0) == expected
    assert link.channel.next_realisation == 32


def test_thresholds_belong_to_a_config_whatever_its_seed():
    few = {"num_payloads": 1, "payload_bytes": 1, "step_db": 40.0}
    measured = McsThresholds.measure(RAYLEIGH, **few)
    assert measured.config == RAYLEIGH
    other = replace(RAYLEIGH, seed=7)
    assert EnvelopeLink(other, thresholds=measured).config == other


@pytest.mark.slow
def test_measured_thresholds_keep_losses_rare_and_follow_the_table():
    thresholds = McsThresholds.measure(RAYLEIGH, num_payloads=40, payload_bytes=20, step_db=2.0)
    found = np.array(thresholds.snr_db)
    assert np.isfinite(found).all()
    assert found[0] < 0 < found[-1]
    link = EnvelopeLink(RAYLEIGH, thresholds=thresholds)
    payloads = [np.random.default_rng(i).bytes(20) for i in range(40)]  # those that were measured, over the same fades
    for snr_db in (found[3], found[10], found[-1]):
        assert link(payloads, snr_db, np.arange(40)).count(None) <= 4
    needed = [link.ledger(payload_bytes=20, snr_db=snr_db).data_res for snr_db in np.unique(found)]
    assert needed == sorted(needed, reverse=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: McsThresholds(snr_db=(0.0, 1.0)), "one threshold for each of the 28 entries"),
        (lambda: McsThresholds(snr_db=tuple(range(28, 0, -1))), "thresholds that never fall"),
        (lambda: McsThresholds.measure(RAYLEIGH, max_loss_rate=0.0), "max_loss_rate must be between 0 and 1, got 0.0"),
        (lambda: McsThresholds.measure(RAYLEIGH, num_payloads=0), "num_payloads must be above 0, got 0"),
        (lambda: EnvelopeLink(RAYLEIGH, thresholds=STEPS)([b"x"], float("nan")), "snr_db must be finite"),
        (
            lambda: EnvelopeLink(RAYLEIGH, thresholds=replace(STEPS, config=LinkConfig(num_tx_ant=1))),
            "thresholds= comes from another config: channel='cdl-c' instead of 'rayleigh'",
        ),
    ],
)
def test_misuse_gets_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
