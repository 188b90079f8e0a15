import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from semantic import deepjscc_training, training
from semantic.deepjscc import DeepJSCC, to_images, to_tensor
from semantic.deepjscc_training import main
from semantic.jtcc import MOMENTUM
from tests.semantic.models import NoisyChannel

SIZE = (32, 48)


def build(seed=0, **settings):
    torch.manual_seed(seed)
    arguments = {"image_size": SIZE, "strides": ((4, 4), (2, 3)), "width": 6, "hidden": 16, "num_blocks": 1, **settings}
    return DeepJSCC(**arguments)


def pictures(batch=8, seed=0, size=SIZE):
    """Smooth images: coarse random patterns, enlarged."""
    coarse = torch.rand(batch, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def trained(steps, **settings):
    """A network whose power has met `steps` batches, its weights left as they were."""
    network = build(**settings).train()
    with torch.no_grad():
        for seed in range(steps):
            network.encode(pictures(seed=seed))
    return network.eval()


# --- shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strides", "grid"), [(((4, 4), (2, 2)), (4, 6)), (((4, 4), (2, 3)), (4, 4)), (((2, 2), (2, 2), (2, 2)), (4, 6))]
)
def test_images_come_back_in_their_size_from_the_grid_of_the_strides(strides, grid):
    network = build(strides=strides)
    codes = network.encode(pictures(3))
    assert network.grid == grid
    assert codes.shape == (3, network.num_tokens, 6) == (3, grid[0] * grid[1], 6)
    assert network.decode(codes).shape == (3, 3, *SIZE)


def test_strides_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ValueError, match="strides shrink images by 8 x 20, which does not divide image_size 32 x 48"):
        build(strides=((4, 4), (2, 5)))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"images are \(32, 32\), this network is made for \(32, 48\)"):
        build().encode(pictures(size=(32, 32)))


@pytest.mark.parametrize(("point", "numbers"), [("deepjscc", 6144), ("deepjscc-small", 320)])
def test_the_operating_points_send_what_their_budgets_hold(point, numbers):
    network = DeepJSCC(image_size=(128, 192), **deepjscc_training.POINTS[point])
    assert network.num_tokens * network.width == numbers


def test_images_survive_the_way_to_tensors_and_back():
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    shown = to_tensor(list(images))
    assert shown.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(to_images(shown), images)
    assert to_images(torch.tensor([-1.0, 2.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1))[:, 0, 0].tolist() == [
        [0, 0, 0],
        [255, 255, 255],
    ]


# --- power -------------------------------------------------------------------------------------------------------


def test_a_training_batch_has_unit_power_whatever_the_scale_of_the_weights():
    network = build().train()
    first = network.encode(pictures())
    assert first.square().mean().item() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        network.encode_out.weight.mul_(7), network.encode_out.bias.mul_(7)
    assert torch.allclose(network.encode(pictures()), first, atol=1e-4)


def test_power_is_one_on_average_after_training_and_no_longer_follows_the_batch():
    network = trained(600)  # after which nothing is left of the one that it starts from
    constant = network.power.clone()
    with torch.no_grad():
        powers = [network.encode(pictures(seed=1000 + seed)).square().mean().item() for seed in range(50)]
        louder = network.encode(30 * pictures())
    # two means of noisy batches are compared: 50 fresh ones, and the some 1/MOMENTUM last ones of the running mean
    spread = np.std(powers)
    assert abs(np.mean(powers) - 1) < 5 * spread * np.sqrt(1 / 50 + MOMENTUM / 2)
    assert louder.square().mean() > 2  # what is loud is sent loud: the receiver cannot know its scale
    assert torch.equal(network.power, constant)


def test_changing_one_example_leaves_the_others_bit_identical():
    network = trained(3)
    images = pictures()
    changed = images.clone()
    changed[3] = 50 * torch.rand(3, *SIZE)
    kept = [0, 1, 2, 4, 5, 6, 7]
    with torch.no_grad():
        codes, other = network.encode(images), network.encode(changed)
        assert torch.equal(codes[kept], other[kept])
        assert not torch.equal(codes[3], other[3])
        assert torch.equal(network.decode(codes)[kept], network.decode(other)[kept])


def test_the_power_constraint_is_differentiable_while_training():
    network = build().train()
    network.encode(pictures()).square().mean().backward()  # constantly one: no weight can change it
    gradients = [p.grad.abs().max().item() for p in network.parameters() if p.grad is not None]
    assert gradients
    assert max(gradients) < 1e-5


# --- files -------------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back_within_half_precision_and_then_for_ever(tmp_path):
    network = trained(3)
    network.save_pretrained(tmp_path / "first")
    again = DeepJSCC.from_pretrained(tmp_path / "first")
    assert not again.training
    assert again.power == network.power
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    images = pictures()
    with torch.no_grad():
        shown, expected = again.decode(again.encode(images)), network.decode(network.encode(images))
    assert (shown - expected).abs().max() < 1e-2
    again.save_pretrained(tmp_path / "second")
    assert DeepJSCC.from_pretrained(tmp_path / "second").model_hash == again.model_hash != network.model_hash
    weights = load_file(tmp_path / "first" / "deepjscc.safetensors")
    assert {t.dtype for name, t in weights.items() if name != "power"} == {torch.float16}


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a folder with deepjscc\.json nor a shipped network"):
        DeepJSCC.from_pretrained(tmp_path)


# --- training ----------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    """Splits of images alone; there is nothing to ask about them."""
    for seed, (split, count) in enumerate([("train", 12), ("val", 5)]):
        folder = tmp_path / "data" / "images" / split
        folder.mkdir(parents=True)
        for number, image in enumerate(to_images(pictures(count, seed))):
            Image.fromarray(image).save(folder / f"{split}_{number}.png")
    return tmp_path / "data"


@pytest.fixture
def short(monkeypatch):
    """Forty steps on a small network; returns the losses before and after."""
    losses = {}

    def fit(step, parameters, **options):
        def average():
            return float(np.mean([step(0.0)[0].item() for _ in range(10)]))

        losses["before"] = average()
        steps = training.fit(step, parameters, **{**options, "steps": 40}, every=20)
        losses["after"] = average()
        return steps

    monkeypatch.setattr(deepjscc_training, "fit", fit)
    monkeypatch.setitem(
        deepjscc_training.POINTS, "deepjscc", {"strides": ((4, 4), (2, 2)), "width": 4, "hidden": 16, "num_blocks": 1}
    )
    return losses


@pytest.mark.parametrize("bfloat16", [False, True])
def test_forty_steps_bring_images_closer_and_what_is_saved_can_be_loaded(data, tmp_path, short, bfloat16):
    channel, folder = NoisyChannel(), tmp_path / "weights"
    main(folder, data, channel, 1, lr=5e-3, min_snr_db=5.0, max_snr_db=15.0, bfloat16=bfloat16)
    assert short["after"] < short["before"] - 0.15  # bels: 30 % of the squared error
    network = DeepJSCC.from_pretrained(folder)
    assert (network.image_size, network.width) == (SIZE, 4)
    assert network.power != 1
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40]
    assert {"loss", "psnr", "ssim"} <= set(lines[0])
    card = (folder / "README.md").read_text()
    assert "PSNR, SSIM at 20 dB" in card
    assert "--data data" in card
    assert ("--bfloat16" in card) == bfloat16
    assert str(tmp_path) not in card


def test_training_meets_fades_and_strengths_of_its_own(data, tmp_path, short):
    channel = NoisyChannel()
    main(tmp_path / "weights", data, channel, 1.0, min_snr_db=5.0, max_snr_db=15.0, max_images=3)
    assert all(number >= deepjscc_training.TRAINING_REALISATIONS for *_, r in channel.calls for number in r.tolist())
    drawn = torch.cat([snr for codes, snr, _ in channel.calls if torch.is_tensor(snr)])
    assert drawn.min() >= 5
    assert drawn.max() <= 15
    assert drawn.max() - drawn.min() > 8
    assert [len(codes) for codes, snr, _ in channel.calls if not torch.is_tensor(snr)] == [3, 3, 3]  # held out, 3 SNRs


def test_what_cannot_be_trained_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="point must be one of deepjscc, deepjscc-small; got 'large'"):
        main(tmp_path, data, NoisyChannel(), 1.0, point="large")
    with pytest.raises(FileNotFoundError, match="has no images; draw some: tokenlink scenes"):
        main(tmp_path, tmp_path / "empty", NoisyChannel(), 1)
