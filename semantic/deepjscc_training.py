"""End-to-end training of DeepJSCC through the channel, on images alone."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from semantic.agent_link import Channel
from semantic.agent_training import NUM_FADES, TRAINING_REALISATIONS
from semantic.data.images import read_image
from semantic.deepjscc import DeepJSCC, to_images, to_tensor
from semantic.image_quality import psnr, ssim
from semantic.training import Metrics, described, fit, write_card

# Operating points for images of 128 x 192: strides of the encoder, and numbers sent per position.
POINTS = {
    "deepjscc": {"strides": ((4, 4), (2, 2)), "width": 16},  # 16 x 24 positions: 6144 numbers, a twelfth of the image's
    "deepjscc-small": {"strides": ((4, 4), (2, 2), (2, 3)), "width": 5},  # 8 x 8 positions: 320 numbers, 1/230
}


def main(
    out: Path,
    data: Path,
    channel: Channel,
    steps: int,
    point: str = "deepjscc",
    min_snr_db: float = -5.0,
    max_snr_db: float = 20.0,
    seed: int = 0,
    batch: int = 8,
    lr: float = 1e-3,
    bfloat16: bool = False,
    max_images: int | None = None,
    init: Path | None = None,
) -> None:
    r"""Train DeepJSCC end to end over the link, on images alone.

    The loss is the negative PSNR, in bels, averaged over images and SNRs with equal weight:

    .. math:: \operatorname{E}\log_{10}\operatorname{mean}(s - \hat s)^2

    Parameters
    ----------
    out : Path
        Folder for the network, the log and the model card.
    data : Path
        Folder with images/train and images/val; training mirrors them at random.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``, with a gradient (straight-through will do).
    steps : int
        Number of training steps.
    point : {"deepjscc", "deepjscc-small"}
        Operating point: the number of amplitudes per image.
    min_snr_db, max_snr_db : float
        Range of the SNR [dB]; each image's is drawn uniformly from it.
    seed : int
        Seed of the training.
    batch : int
        Images per step.
    lr : float
        Peak learning rate.
    bfloat16 : bool
        Convolve in bfloat16: twice as fast where the processor has AMX, slower elsewhere.
    max_images : int, optional
        Number of images of each split to use, the first by name.
    init : Path, optional
        Earlier result to start from.

    Raises
    ------
    ValueError
        If there is no such operating point.
    FileNotFoundError
        If a split has no images.
    """
    options = {name: value for name, value in locals().items() if name != "channel"}  # of the card
    if point not in POINTS:
        raise ValueError(f"point must be one of {', '.join(POINTS)}; got {point!r}")
    torch.manual_seed(seed)
    rng = random.Random(seed)
    train, val = (image_paths(data, split)[:max_images] for split in ("train", "val"))
    network = DeepJSCC(image_size=load(val[:1]).shape[2:], **POINTS[point], told_errors=True)
    if init is not None:
        network.load_state_dict({**network.state_dict(), **DeepJSCC.from_pretrained(init).state_dict()})
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters, {len(train)} images")

    def step(share: float) -> tuple[Tensor, Metrics]:
        network.train()
        images = load(rng.choices(train, k=batch))
        images = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, images, images.flip(-1))
        first = TRAINING_REALISATIONS + rng.randrange(NUM_FADES // batch) * batch
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            codes = network.encode(images)
        snr = torch.empty(batch, dtype=torch.float32).uniform_(min_snr_db, max_snr_db)
        codes_hat, error_var = channel(codes, snr_db=snr, realisation=torch.arange(first, first + batch))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            shown = network.decode(codes_hat, error_var)
        error = (shown - images).square().mean((1, 2, 3))
        with torch.no_grad():
            metrics = {"psnr": psnr(images, shown).mean().item(), "ssim": ssim(images[:1], shown[:1]).item()}
        return error.log10().mean(), metrics

    fit(
        step,
        list(network.parameters()),
        steps=steps,
        lr=lr,
        log=Path(out) / "training.jsonl",
        rng=rng,
        seed=seed,
        state={"network": network},
        save=lambda: network.save_pretrained(out),
        weight_decay=0.0,
    )
    results = evaluate(DeepJSCC.from_pretrained(out), val, channel)  # as it is stored
    print("val", results, flush=True)
    title = f"DeepJSCC: images as {network.num_tokens * network.width} real amplitudes"
    write_card(out, title=title, stage="deepjscc", options=options, results={"link": described(channel), **results})


@torch.no_grad()
def evaluate(network: DeepJSCC, paths: Sequence[Path], channel: Channel) -> dict[str, str]:
    """Measure mean PSNR and SSIM of the decoded images, rounded to 8 bits a colour, at three SNRs."""
    measured: dict[float, list[Tensor]] = {at: [] for at in (20.0, 5.0, -5.0)}
    for start in range(0, len(paths), 20):
        images = load(paths[start : start + 20])
        codes = network.encode(images)
        numbers = TRAINING_REALISATIONS + NUM_FADES + start + torch.arange(len(images))
        for at, quality in measured.items():
            shown = to_images(network.decode(*channel(codes, snr_db=at, realisation=numbers)))
            quality.append(torch.stack([measure(images, to_tensor(list(shown))) for measure in (psnr, ssim)]))
    means = {at: torch.cat(quality, dim=1).mean(1).tolist() for at, quality in measured.items()}
    return {f"PSNR, SSIM at {at:g} dB": f"{db:.2f} dB, {similarity:.4f}" for at, (db, similarity) in means.items()}


def image_paths(data: Path, split: str) -> list[Path]:
    """Return the images of a split in the order of their names."""
    folder = Path(data).expanduser() / "images" / split
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".jpg", ".png"))
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no images; draw some: tokenlink scenes --out {data} --split {split} --count 400"
        )
    return paths


def load(paths: Sequence[Path]) -> Tensor:
    """Read images: [batch, 3, height, width], values between 0 and 1."""
    return to_tensor([read_image(path) for path in paths])
