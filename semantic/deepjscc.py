"""DeepJSCC: an image to real amplitudes and back, by convolutions trained through the channel.

It knows no task and learns to reproduce the image.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn

from semantic.agent_link import PRETRAINED, hash_of
from semantic.code_moments import MOMENTUM, log_deviation
from semantic.loading import read_tensors, shapes_of
from semantic.model_files import (
    HASHES,
    Hashes,
    ModelFileError,
    check_hash,
    check_settings,
    hash_file,
    read_settings,
    write_settings,
)

SETTINGS, WEIGHTS = "deepjscc.json", "deepjscc.safetensors"
Conv2d = functools.partial(nn.Conv2d, dtype=torch.float32)  # whatever torch's default is
ConvTranspose2d = functools.partial(nn.ConvTranspose2d, dtype=torch.float32)
PReLU = functools.partial(nn.PReLU, dtype=torch.float32)
Size = Annotated[int, Field(ge=1, le=4096)]
Factor = Annotated[int, Field(ge=1, le=16)]


class DeepJSCCSettings(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Content of deepjscc.json."""

    image_size: Annotated[list[Size], Field(min_length=2, max_length=2)]
    strides: Annotated[
        list[Annotated[list[Factor], Field(min_length=2, max_length=2)]], Field(min_length=1, max_length=8)
    ]
    width: Size
    hidden: Size = 96
    num_blocks: Annotated[int, Field(ge=0, le=64)] = 3
    told_errors: bool = False
    sha256: Hashes | None = None


class DeepJSCC(nn.Module):
    r"""Convolutional joint source-channel code for images of one size.

    Strided convolutions with PReLU lead from the image to a grid of positions. Residual blocks follow, and `width` real
    numbers per position are sent. The decoder is the mirror image, with transposed convolutions.

    .. math:: c = f(s) / \sqrt{P}, \qquad \hat s = g(\hat c), \qquad P = \operatorname{E}\,\tfrac1k\|f(s)\|^2

    with `k` numbers per image. In training the expectation is the batch's and differentiable; the network therefore
    cannot gain by raising its power. The running mean is stored and is the constant in use afterwards. (The original
    divides each image's codes by their own power. A receiver behind a fading channel could not know that scale.)

    Parameters
    ----------
    image_size : (height, width)
    strides : sequence of (vertical, horizontal)
        Strides of the encoder's convolutions, image first; their products divide the image's sides.
    width : int
        Real numbers sent per position of the grid.
    hidden : int
        Channels at the grid; each step towards the image halves them.
    num_blocks : int
        Residual blocks at each end.
    told_errors : bool
        Whether the decoder is told how large the errors of received numbers are.

    Attributes
    ----------
    grid : (rows, columns)
        Positions; rows * columns * width numbers are sent.

    Raises
    ------
    ValueError
        If the strides do not divide the image.

    Source: E. Bourtsoulatze, D. B. Kurka, D. Gündüz, "Deep Joint Source-Channel Coding for Wireless Image
    Transmission", IEEE Trans. Cogn. Commun. Netw. 5(3), 2019. Added here: residual blocks,
    and a learned bias per position, because the camera hardly moves. As there, neither end knows the SNR. Unlike
    there, one network serves all SNRs.
    """

    power: Tensor

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        strides: Sequence[Sequence[int]],
        width: int,
        hidden: int = 96,
        num_blocks: int = 3,
        told_errors: bool = False,
    ) -> None:
        super().__init__()
        self.image_size, self.strides = tuple(image_size), tuple((v, h) for v, h in strides)
        self.width, self.hidden, self.num_blocks, self.told_errors = width, hidden, num_blocks, told_errors
        shrink = [math.prod(factors) for factors in zip(*self.strides, strict=True)]
        if any(size % factor for size, factor in zip(self.image_size, shrink, strict=True)):
            raise ValueError(
                f"strides shrink images by {shrink[0]} x {shrink[1]}, which does not divide image_size "
                f"{self.image_size[0]} x {self.image_size[1]}"
            )
        self.grid = (self.image_size[0] // shrink[0], self.image_size[1] // shrink[1])
        sizes = [3, *(hidden // 2**step for step in reversed(range(len(self.strides))))]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for stride, outer, inner in zip(self.strides, sizes, sizes[1:], strict=False):
            kernel = (max(5, 2 * stride[0] - 1), max(5, 2 * stride[1] - 1))
            padding, rest = (kernel[0] // 2, kernel[1] // 2), (stride[0] - 1, stride[1] - 1)
            down += [Conv2d(outer, inner, kernel, stride, padding), PReLU(inner)]
            up = [PReLU(inner), ConvTranspose2d(inner, outer, kernel, stride, padding, rest), *up]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.encode_position = nn.Parameter(torch.zeros(hidden, *self.grid, dtype=torch.float32))
        self.decode_position = nn.Parameter(torch.zeros(hidden, *self.grid, dtype=torch.float32))
        self.encode_blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(num_blocks)))
        self.decode_blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(num_blocks)))
        self.encode_out = Conv2d(hidden, width, 1)
        self.decode_in = Conv2d(width, hidden, 3, padding=1)
        self.decode_deviation = Conv2d(width, hidden, 3, padding=1, bias=False) if told_errors else None
        if self.decode_deviation is not None:
            nn.init.zeros_(self.decode_deviation.weight)
        self.register_buffer("power", torch.ones((), dtype=torch.float32))

    @property
    def num_tokens(self) -> int:
        """Number of positions, which are the link's tokens."""
        return self.grid[0] * self.grid[1]

    def settings(self) -> dict[str, Any]:
        """Return the arguments that build this network again."""
        names = ("image_size", "strides", "width", "hidden", "num_blocks", "told_errors")
        return {name: getattr(self, name) for name in names}

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch tokens width"]:
        """Turn images, their values between 0 and 1, into codes of unit mean power per number.

        Raises
        ------
        ValueError
            If the images are not of the network's size.
        """
        if tuple(images.shape[2:]) != self.image_size:
            raise ValueError(f"images are {tuple(images.shape[2:])}, this network is made for {self.image_size}")
        features = self.encode_blocks(self.down(images - 0.5) + self.encode_position)
        raw = self.encode_out(features).flatten(2).transpose(1, 2).float()  # [batch, tokens, width]
        if self.training:
            power = raw.square().mean()
            self.power.lerp_(power.detach(), MOMENTUM)
        else:
            power = self.power
        return raw / power.sqrt()

    def decode(
        self,
        codes_hat: Float[Tensor, "batch tokens width"],
        error_var: Float[Tensor, "batch tokens width"] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Turn received codes into images; values may lie outside the range between 0 and 1.

        Parameters
        ----------
        codes_hat : [batch, tokens, width]
            Received codes; with `error_var`, as unbiased recovery returns them. The decoder starts from their linear
            MMSE estimate.
        error_var : [batch, tokens, width], optional
            Variance of their errors; None for codes without errors.
        """
        if error_var is None:
            error_var = torch.zeros_like(codes_hat)
        features = self.decode_in(self._at_grid(codes_hat / (1 + error_var))) + self.decode_position
        if self.decode_deviation is not None:
            features = features + self.decode_deviation(self._at_grid(log_deviation(error_var)))
        return self.up(self.decode_blocks(features)).float() + 0.5

    def _at_grid(self, numbers: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch width rows columns"]:
        return numbers.transpose(1, 2).unflatten(2, self.grid)

    @property
    def model_hash(self) -> str:
        """SHA-256 of every parameter and buffer, in the order of their names."""
        return hash_of({"deepjscc": self})

    # --- files ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> "DeepJSCC":
        """Load a network, in evaluation mode and float32, from a folder that `save_pretrained` wrote, or a shipped one.

        Parameters
        ----------
        name_or_folder : str or Path
            Folder, or the name of a shipped network: "deepjscc" or "deepjscc-small".

        Raises
        ------
        FileNotFoundError
            If neither exists.
        ModelFileError
            If a file is missing, damaged or exchanged.
        """
        folder = Path(name_or_folder).expanduser()
        if not (folder / SETTINGS).exists():
            folder = PRETRAINED / str(name_or_folder)
        if not (folder / SETTINGS).exists():
            shipped = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{SETTINGS}")))
            raise FileNotFoundError(
                f"{name_or_folder} is neither a folder with {SETTINGS} nor a shipped network; "
                f"shipped are: {shipped or 'none'}"
            )
        content = read_settings(folder / SETTINGS)
        settings = check_settings(folder / SETTINGS, content, TypeAdapter(DeepJSCCSettings))
        check_hash(folder / SETTINGS, content, WEIGHTS)
        build = functools.partial(cls, **settings.model_dump(exclude={HASHES}))
        try:
            needed = shapes_of(build)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            raise ModelFileError(folder / SETTINGS, f"describes no image code: {error}") from error
        state = read_tensors(folder / WEIGHTS, needed, f"the network of {SETTINGS}")
        network = build()
        network.load_state_dict(state)  # which casts to float32
        return network.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write settings and weights, in float16, the power in float32, to a folder."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().half().contiguous() for name, tensor in self.state_dict().items()}
        save_file({**state, "power": self.power}, folder / WEIGHTS)
        write_settings(folder / SETTINGS, self.settings(), {WEIGHTS: hash_file(folder / WEIGHTS)})


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity; an untrained block is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.activation = Conv2d(channels, channels, 3, padding=1), PReLU(channels)
        self.second = Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch channels rows columns"]:
        """Add the convolutions' output."""
        return x + self.second(self.activation(self.first(x)))


def to_tensor(images: Sequence[np.ndarray]) -> Float[Tensor, "batch 3 height width"]:
    """Stack images, uint8 [height, width, 3] each, with values between 0 and 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def to_images(shown: Float[Tensor, "batch 3 height width"]) -> np.ndarray:
    """Round to images, uint8 [batch, height, width, 3]."""
    levels = (shown.clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().numpy(force=True)
