"""Joint token-and-channel code: a token's hidden state to the few real numbers that are sent, and back.

Both codes have unit mean power per element by a constant that is learned from training codes and then fixed: a receiver
cannot know a scale taken from the example or its batch.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM = 0.02  # of the running moments while training


class JTCC(nn.Module):
    r"""Symmetric fully connected code.

    .. math::
        c = \frac{A t + B\,\mathrm{gelu}(C t)}{\sqrt{P}}, \qquad \hat t = A' \hat c + B'\,\mathrm{gelu}(C' \hat c),
        \qquad P = \operatorname{E}\,\tfrac1w\|A t + B\,\mathrm{gelu}(C t)\|^2

    In training the expectation is the batch's, differentiable, so that power cannot be bought; its running mean is
    stored and is the constant in use afterwards.

    Parameters
    ----------
    hidden_size : int
        Length of a token (4096 at full size).
    width : int
        Real numbers sent per token (256 in the paper's text, 512 in its figure 5).
    """

    power: Tensor

    def __init__(self, *, hidden_size: int, width: int) -> None:
        super().__init__()
        if not 1 <= width <= hidden_size:
            raise ValueError(f"width must be between 1 and hidden_size ({hidden_size}), got {width}")
        self.hidden_size, self.width = hidden_size, width
        inner = 2 * width
        self.encode_linear, self.encode_in = nn.Linear(hidden_size, width), nn.Linear(hidden_size, inner)
        self.encode_out = nn.Linear(inner, width, bias=False)
        self.decode_linear, self.decode_in = nn.Linear(width, hidden_size), nn.Linear(width, inner)
        self.decode_out = nn.Linear(inner, hidden_size, bias=False)
        self.register_buffer("power", torch.ones(()))

    def settings(self) -> dict[str, Any]:
        """Return what `build_code` needs to build this code again."""
        return {"kind": "jtcc", "hidden_size": self.hidden_size, "width": self.width}

    def encode(self, tokens: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens width"]:
        """Compress tokens to codes of unit mean power per element."""
        raw = self.encode_linear(tokens) + self.encode_out(nn.functional.gelu(self.encode_in(tokens)))
        if self.training:
            power = raw.square().mean()
            self.power.lerp_(power.detach(), MOMENTUM)
        else:
            power = self.power
        return raw / power.sqrt()

    def decode(self, codes_hat: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens hidden"]:
        """Expand received codes to tokens."""
        return self.decode_linear(codes_hat) + self.decode_out(nn.functional.gelu(self.decode_in(codes_hat)))


class TokenScaler(nn.Module):
    """No compression: each dimension is sent with the mean and scale it has in training, so none eats the power budget.

    LLaMA's residual stream has a few dimensions of enormous magnitude; sent as they are, they would take nearly all the
    transmit power (Sun et al., "Massive Activations in Large Language Models", 2024).

    Parameters
    ----------
    hidden_size : int
        Length of a token, and real numbers sent per token.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, *, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = self.width = hidden_size
        self.register_buffer("mean", torch.zeros(hidden_size))
        self.register_buffer("variance", torch.ones(hidden_size))

    def settings(self) -> dict[str, Any]:
        """Return what `build_code` needs to build this code again."""
        return {"kind": "uncompressed", "hidden_size": self.hidden_size}

    def encode(self, tokens: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Standardise tokens dimension by dimension."""
        if self.training:
            with torch.no_grad():
                variance, mean = torch.var_mean(tokens, dim=(0, 1), correction=0)
                self.mean.lerp_(mean, MOMENTUM)
                self.variance.lerp_(variance, MOMENTUM)
        return (tokens - self.mean) / self.variance.sqrt()

    def decode(self, codes_hat: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Undo `encode`."""
        return codes_hat * self.variance.sqrt() + self.mean


Code = JTCC | TokenScaler


def build_code(settings: dict[str, Any]) -> Code:
    """Build a code, with fresh weights, from what its `settings` returned."""
    kinds = {"jtcc": JTCC, "uncompressed": TokenScaler}
    kind, arguments = settings["kind"], {k: v for k, v in settings.items() if k != "kind"}
    if kind not in kinds:
        raise ValueError(f"code kind must be one of {', '.join(kinds)}, got {kind!r}")
    return kinds[kind](**arguments)
