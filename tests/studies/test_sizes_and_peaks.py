import io

import numpy as np
import pytest
from PIL import Image

from studies import bandwidth, compression, curves, impairments, papr
from studies.archive import MISSING, Results
from studies.axes import Impossible
from studies.config import ConfigError
from studies.questions import batches
from studies.schemes.carriers.image_files import JpegFile
from tests.studies.fakes import FakeDataset

DRAWN = (bandwidth.STUDY, compression.STUDY, impairments.STUDY, papr.STUDY)


@pytest.mark.parametrize("chosen", DRAWN, ids=lambda chosen: chosen.name)
def test_a_tiny_run_draws_its_own_figure(chosen, fakes, drawn, tmp_path):
    schemes = {} if chosen is impairments.STUDY else {"schemes": ["machine-tokens", "jpeg-file", "question-only"]}
    config = chosen.Config().updated({**chosen.tiny, **schemes, "num_questions": 30, "batch_size": 7})
    finished = chosen.main(config, out=tmp_path)
    assert not finished.failed
    for suffix in ("png", "pdf", "csv"):
        assert (tmp_path / "figures" / f"{chosen.name}.{suffix}").stat().st_size > 100


# --- impairments ---------------------------------------------------------------------------------------------------


def with_losses(*lost, values=("none", "amplifier 6 dB back-off", "amplifier 3 dB back-off")):
    """Return results in which each value of the axis loses so many of 1 000 questions."""
    correct = np.ones((1, len(values), 1, 1000), np.uint8)
    for index, number in enumerate(lost):
        correct[0, index, 0, :number] = 0
    coordinates = {
        "scheme": np.array(["machine-tokens"]),
        "snr_db": np.array([20.0]),
        "impairment": np.array(values),
        "question": np.arange(1000),
    }
    dimensions = {"accuracy": ("scheme", "impairment", "snr_db")}
    return Results(coordinates, {"correct": correct, "image_index": np.arange(1000) // 2}, {}, dimensions)


def test_the_strength_that_costs_one_point_is_interpolated_between_its_neighbours():
    rows = dict(impairments.losses(with_losses(0, 4, 24)).rows)
    assert rows["amplifier 6 dB back-off"].startswith("-0.4 (")
    assert rows["amplifier 3 dB back-off"].startswith("-2.4 (")
    assert float(rows["amplifier: one point lost at"]) == pytest.approx(6 + (10 - 4) / (24 - 4) * (3 - 6))


def test_an_impairment_that_costs_little_and_one_that_costs_much_say_so():
    assert impairments.losses(with_losses(0, 1, 9)).rows[-1][1] == "none of these"
    assert impairments.losses(with_losses(0, 30, 90)).rows[-1][1] == "6 or weaker"


def test_an_unfinished_impairment_has_no_row():
    results = with_losses(0, 4, 24)
    results.variables["correct"][0, 1, 0, 5] = MISSING
    assert impairments.losses(results).rows == []


def test_every_impairment_of_the_table_changes_the_link_and_the_link_alone():
    config = impairments.Config()
    plain = config.plain()
    for value in config.impairments:
        changed = impairments.STUDY.configure(config, {"impairment": value}).plain()
        assert {key for key in plain if changed[key] != plain[key]} == ({"link"} if value != "none" else set())


@pytest.mark.parametrize("value", ["amplifier", "amplifier 3 Hz", "rust 3", "phase noise much"])
def test_what_is_no_impairment_is_refused(value):
    with pytest.raises(ConfigError, match=r"^impairments: .* is no impairment"):
        impairments.Config().updated({"impairments": [value]})
    with pytest.raises(Impossible, match="converters 40 bits: dac_bits must be a whole number from 1 to 16"):
        impairments.STUDY.configure(impairments.Config(), {"impairment": "converters 40 bits"})


# --- peaks ---------------------------------------------------------------------------------------------------------


def test_the_share_above_a_peak_is_that_of_the_exponential_law():
    power = np.random.default_rng(0).exponential(size=20_000)
    level, share = papr.ccdf(power)
    at = np.searchsorted(level, 0.0)  # 0 dB: exp(-1) of the powers exceed their mean
    assert share[at] == pytest.approx(np.exp(-1), abs=5 * np.sqrt(np.exp(-1) / 20_000))
    assert (np.diff(level) >= 0).all()
    assert share[-1] == 0


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_a_jpeg_file_is_charged_as_long_as_it_is():
    dataset = FakeDataset()
    batch = next(iter(batches(dataset, np.arange(5), 5)))
    delivery = JpegFile().deliver(None, batch, np.inf)
    buffer = io.BytesIO()
    Image.fromarray(batch.images[0]).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    assert delivery.payload is not None
    assert delivery.payload["payload_bytes"][0] == len(buffer.getvalue())
    np.testing.assert_array_equal(delivery.payload["payload_bits"], 8 * delivery.payload["payload_bytes"])
    np.testing.assert_array_equal(delivery.items[0], np.asarray(Image.open(buffer).convert("RGB")))


def test_real_numbers_are_counted_with_the_bits_that_the_table_states(fakes, tmp_path):
    config = compression.Config().updated({"num_questions": 30, "schemes": ["machine-tokens", "jpeg-file"]})
    results = compression.STUDY.main(config, out=tmp_path).results
    rows = {row[0]: row[1:] for row in compression.sizes(results).rows}
    reals = float(results.along("data_res", "machine-tokens")[0]) * config.link.num_tx_ant
    assert rows["machine-tokens"][:2] == ["16", f"{2 * reals:.4g}"]
    jpeg = float(results.along("payload_bytes", "jpeg-file")[0])
    assert float(rows["machine-tokens"][2]) == pytest.approx(jpeg / (2 * reals), rel=1e-3)
    assert rows["full size, width 256 (computed)"][:3] == ["16", "2560", "-"]


def test_pairs_of_other_sizes_are_curves_of_their_own():
    found = [curves.find(f"studies.bandwidth:{size}") for size in bandwidth.SIZES]
    assert len({curve.name for curve in found}) == len(found) == 8
    assert {curve.weights for curve in found} <= {
        *(f"clevr-mini-{number}" for number in (1, 2, 3, 8)),
        *(f"clevr-mini-width-{width}" for width in (8, 16, 32, 128)),
    }
