import h5py
import numpy as np
import pytest

from phy import AnalogLink, LinkConfig
from semantic.deepjscc import DeepJSCC
from semantic.deepjscc_training import POINTS
from studies import accuracy_vs_snr, sweep, tables
from studies.accuracy_vs_snr import STUDY
from studies.curves import CURVES
from studies.schemes.digital.payload_link import IMAGE_RES
from tests.studies.fakes import FakeImageCode

NAMES = ["deepjscc", "deepjscc-small"]


@pytest.fixture
def study(fakes, config, tmp_path):
    """Both operating points, beside what sends codes and what sends images as bytes."""
    schemes = [*NAMES, "machine-tokens", "jpeg-ldpc", "raw-image"]
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": schemes}), out=tmp_path)
    assert not failed
    return results


def test_images_arrive_the_better_the_less_noise_there_is(study):
    for name in NAMES:
        assert study.of("accuracy", name)[0] < 0.5 < study.of("accuracy", name)[-1] == 1
        quality = study.of("psnr", name)
        assert quality[0] < min(quality[1:])
        assert quality[2] == pytest.approx(10 * np.log10(255**2 * 48 / FakeImageCode.blemish**2), abs=1e-3)
        assert study.of("ssim", name)[0] < study.of("ssim", name)[2] < 1


def test_every_scheme_says_of_quality_what_it_has(study):
    for name in NAMES:  # numbers and images arrive, and nothing can be declared lost
        assert (np.diff(study.of("code_nmse", name)) < 0).all()
        assert np.isnan(study.of("loss_rate", name)).all()
    for name in ("psnr", "ssim"):
        assert np.isnan(study.of(name, "machine-tokens")).all()
        assert np.isnan(study.of(name, "raw-image")).all()
        assert np.isnan(study.of(name, "jpeg-ldpc")).tolist() == [True, False, False]  # all are lost at -20 dB


def test_the_table_shows_what_the_archive_holds(study):
    grid = tables.quality_table(study)
    rows = {row[0]: row[1:] for row in grid.rows}
    assert list(grid.header) == ["scheme / SNR [dB]", "-20", "0", "40"]
    assert list(rows) == ["deepjscc", "deepjscc-small", "jpeg-ldpc"]  # those that send images
    psnr, ssim = (study.of(name, "deepjscc")[2] for name in ("psnr", "ssim"))
    assert rows["deepjscc"][2] == f"{psnr:.2f}\n{ssim:.3f}"
    assert rows["jpeg-ldpc"][0] == "none"


def test_no_table_of_images_where_none_are_sent(fakes, config, tmp_path):
    results, *_ = accuracy_vs_snr.main(config.updated({"schemes": ["machine-tokens"]}), out=tmp_path)
    assert tables.quality_table(results).rows == []


def test_an_image_is_encoded_once_a_batch_and_not_again_at_every_snr(fakes, config, tmp_path):
    changed = config.updated({"schemes": ["deepjscc"], "batch_size": 30})
    accuracy_vs_snr.main(changed, out=tmp_path)
    results, *_ = accuracy_vs_snr.main(changed, out=tmp_path)
    assert fakes["image_code"].num_encoded == len(set(results.variables["image_index"])) < config.num_questions


def test_the_archive_names_the_weights_of_both_models(study, tmp_path):
    with h5py.File(tmp_path / "results.h5") as file:
        assert file.attrs["model_hash_deepjscc_agents"] == "fake-weights"
        assert file.attrs["model_hash_deepjscc_image_code"] == "fake-image-code"


def test_each_network_has_codes_and_points_of_its_own(fakes, config, tmp_path):
    small = config.updated({"schemes": ["deepjscc-small"]})
    before = {job.id for job in STUDY.plan(small, tmp_path).jobs}
    fakes["image_code"].model_hash = "other"
    sweep.scheme_for.cache_clear()
    after = {job.id for job in STUDY.plan(small, tmp_path).jobs}
    assert not before & after


def data_res(width, num_tokens):
    return AnalogLink(LinkConfig()).ledger(num_tokens=num_tokens, width=width).data_res


def test_the_operating_points_take_the_elements_of_jpeg_and_of_machine_tokens():
    expected = {"deepjscc": IMAGE_RES, "deepjscc-small": data_res(width=64, num_tokens=5)}
    for name, settings in POINTS.items():
        network = DeepJSCC(image_size=(128, 192), **settings)
        assert data_res(network.width, network.num_tokens) == expected[name]


def test_the_cost_is_that_of_the_networks_code(fakes, config, tmp_path):
    asked, ledger = [], fakes["channel"].link.ledger(1, 1)
    fakes["channel"].link.ledger = lambda num_tokens, width: asked.append((num_tokens, width)) or ledger
    workbench = STUDY.plan(config, tmp_path).workbench
    assert CURVES["deepjscc"].build(workbench).carrier.cost(10.0)["data_res"] == ledger.data_res
    assert asked == [(FakeImageCode.num_tokens, FakeImageCode.width)]


def test_an_image_of_another_size_is_refused_by_its_number(fakes, config, tmp_path):
    fakes["image_code"].image_size = (4, 6)
    changed = config.updated({"schemes": ["deepjscc", "raw-image"]})
    _, failed, _ = accuracy_vs_snr.main(changed, out=tmp_path)
    reasons = {outcome.error for outcome in failed if "codes" in outcome.job.label}
    assert all("has 4 x 4 pixels, this DeepJSCC is made for 4 x 6; leave it out of schemes" in text for text in reasons)
    assert reasons
