import pickle

import numpy as np
import pytest

from phy import AnalogLink, LinkConfig
from phy.channel import GENERATOR
from phy.fade_store import FadeStore
from phy.fading import BLOCK
from tests.phy.links import fades_of, make_codes

FACTS = {"channel": "tdl-a", "num_tx_ant": 2, "num_rx_ant": 2, "fft_size": 16, "phase_noise_linewidth": 5.0}


def test_arrays_come_back_bit_for_bit(tmp_path):
    store, rng = FadeStore(tmp_path / "new" / "folder"), np.random.default_rng(0)
    h = rng.standard_normal((3, 4, 2)).astype(np.float32).view(np.complex64)[..., 0]
    arrays = {"h": h, "phase": rng.standard_normal((2, 5)).astype(np.float32), "none": np.zeros((3, 0), np.complex64)}
    facts = {"seed": 1, "number": 7}
    assert store.load(facts) is None
    store.save(facts, arrays)
    back = store.load(facts)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    assert store.load({"seed": 2, "number": 7}) is None
    assert [path.suffix for path in store.folder.iterdir()] == [".h5"]


def test_a_link_finds_its_fades_on_disk(tmp_path, monkeypatch):
    made, numbers = AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path), np.array([5, BLOCK + 1])
    expected = fades_of(made, numbers)
    assert len(list(tmp_path.iterdir())) == 2
    found = pickle.loads(pickle.dumps(AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path)))
    monkeypatch.setattr(found.channel, "fading", None)  # it must not need its model
    grid = made.transmission(num_tokens=5, width=64).grid.resources
    for mine, other in zip(found.channel.fades(numbers, grid), expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_the_receiver_does_shares_fades_and_what_the_channel_does_not(tmp_path):
    first = AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path)
    fades_of(first, [0])
    for facts in ({"recovery": "lmmse"}, {"estimator": "lmmse"}, {"adc_bits": 4}, {"pilot_boost_db": 3.0}):
        fades_of(AnalogLink(LinkConfig(**{**FACTS, **facts}), cache_dir=tmp_path), [0])
    assert len(list(tmp_path.iterdir())) == 1
    for facts in ({"seed": 1}, {"speed": 2.0}, {"dac_bits": 4}, {"csi_delay": 1e-4}, {"dc_null": True}):
        other = AnalogLink(LinkConfig(**{**FACTS, **facts}), cache_dir=tmp_path)
        np.testing.assert_array_equal(
            fades_of(other, [0]).h,
            AnalogLink(other.config)
            .channel.fades(np.array([0]), other.transmission(num_tokens=5, width=64).grid.resources)
            .h,
        )
    assert len(list(tmp_path.iterdir())) == 6


def test_fades_of_other_generators_are_not_taken_for_these(tmp_path, monkeypatch):
    def folder_after(name, value):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            fades_of(AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path), [0])
        return len(list(tmp_path.iterdir()))

    assert folder_after("phy.channel.GENERATOR", GENERATOR) == 1
    assert folder_after("phy.channel.GENERATOR", GENERATOR + 1) == 2
    for number, library in enumerate(("tensorflow", "numpy", "sionna"), start=3):
        assert folder_after(f"{library}.__version__", "9.9.9") == number
    fades_of(AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path), [0])
    assert len(list(tmp_path.iterdir())) == 5


def test_a_spoilt_file_is_named(tmp_path):
    link = AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path)
    link(make_codes(1), 10.0, [0])
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"no HDF5")
    again = AnalogLink(LinkConfig(**FACTS), cache_dir=tmp_path)
    with pytest.raises(ValueError, match=f"{file.name} cannot be read as a block of fades; delete it"):
        again(make_codes(1), 10.0, [0])
