"""Joint token-and-channel code: a token's hidden state to a few real numbers, and back.

Both codes have unit mean power per element by a constant that is learned from training codes and then fixed: a receiver
cannot know a scale taken from the example or its batch.
"""

import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semantic.code_moments import MOMENTUM, CodeMoments, log_deviation


class JTCC(nn.Module):
    r"""Symmetric fully connected code.

    .. math::
        c = \frac{A t + B\,\mathrm{gelu}(C t)}{\sqrt{P}}, \qquad \hat t = A' \hat c + B'\,\mathrm{gelu}(C' \hat c),
        \qquad P = \operatorname{E}\,\tfrac1w\|A t + B\,\mathrm{gelu}(C t)\|^2

    In training the expectation is the batch's and differentiable; the code therefore cannot gain by raising its power.
    The running mean is stored and is the constant in use afterwards. The first tokens of a nested code may be sent
    alone; it has a constant for each number of them, so the mean power is always one.

    Received numbers come with the variance of their errors. The decoder starts from the linear MMSE estimate of all
    numbers together (`CodeMoments`), and its hidden layer is told how large the errors were.

    Parameters
    ----------
    hidden_size : int
        Length of a token (4096 at full size).
    width : int
        Real numbers sent per token (256 in the paper's text, 512 in its figure 5).
    received_size : int, optional
        Length of a decoded token, that of the task agent's embeddings; by default `hidden_size`.
    num_tokens : int, optional
        Tokens that are sent together, whose moments the decoder knows; None for a decoder that takes codes for white,
        and is not told of errors.
    nested_tokens : int, optional
        Largest number of tokens of a nested code; None for a code that always sends all tokens.
    """

    power: Tensor

    def __init__(
        self,
        *,
        hidden_size: int,
        width: int,
        received_size: int | None = None,
        num_tokens: int | None = None,
        nested_tokens: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= width <= hidden_size:
            raise ValueError(f"width must be between 1 and hidden_size ({hidden_size}), got {width}")
        if nested_tokens is not None and nested_tokens < 1:
            raise ValueError(f"nested_tokens must be at least 1, got {nested_tokens}")
        self.hidden_size, self.width = hidden_size, width
        self.received_size = received_size = _received(hidden_size, received_size)
        self.num_tokens, self.nested_tokens = num_tokens, nested_tokens
        inner = 2 * width
        linear = functools.partial(nn.Linear, dtype=torch.float32)  # whatever torch's default is
        self.encode_linear, self.encode_in = linear(hidden_size, width), linear(hidden_size, inner)
        self.encode_out = linear(inner, width, bias=False)
        self.decode_linear, self.decode_in = linear(width, received_size), linear(width, inner)
        self.decode_out = linear(inner, received_size, bias=False)
        powers = () if nested_tokens is None else (nested_tokens,)
        self.register_buffer("power", torch.ones(powers, dtype=torch.float32))
        self.moments = self.decode_deviation = None
        if num_tokens is not None:
            self.moments = CodeMoments(num_tokens * width)
            self.decode_deviation = linear(width, inner, bias=False)
            nn.init.zeros_(self.decode_deviation.weight)

    def settings(self) -> dict[str, Any]:
        """Return the settings from which `build_code` builds this code again."""
        given = {"num_tokens": self.num_tokens, "nested_tokens": self.nested_tokens}
        given = {name: value for name, value in given.items() if value is not None}
        return {"kind": "jtcc", **_sizes(self), "width": self.width, **given}

    def encode(self, tokens: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens width"]:
        """Compress tokens to codes of unit mean power per element."""
        raw, constant = self._compress(tokens), self._power(tokens.shape[1])
        if self.training:
            power = raw.square().mean()
            # each number of tokens occurs in its share of the batches only; its constant follows as much faster
            constant.lerp_(power.detach(), min(1.0, MOMENTUM * (self.nested_tokens or 1)))
            if self.moments is not None:
                self.moments.observe(raw.detach().flatten(1))
        else:
            power = constant
        return raw / power.sqrt()

    def _compress(self, tokens: Tensor) -> Tensor:
        return self.encode_linear(tokens) + self.encode_out(nn.functional.gelu(self.encode_in(tokens)))

    @torch.no_grad()
    def measure(self, tokens: Float[Tensor, "examples tokens hidden"]) -> None:
        """Set power and moments to those of the codes of tokens, where training would let them follow its batches."""
        raw, most = self._compress(tokens), tokens.shape[1]
        for number in (most,) if self.nested_tokens is None else range(1, most + 1):
            self._power(number).copy_(raw[:, :number].square().mean())
        if self.moments is not None:
            self.moments.measure(raw.flatten(1))

    @property
    def sent_moments(self) -> CodeMoments | None:
        """Moments of codes as they are sent, at unit power; `moments` are those of before. None without any."""
        if self.moments is None or self.num_tokens is None:
            return None
        return self.moments.scaled(self._power(self.num_tokens).rsqrt())

    def first(self, codes: Float[Tensor, "batch tokens width"], num_tokens: int) -> Float[Tensor, "batch first width"]:
        """Return the codes of the first tokens, at the power at which they are sent alone.

        Encoding these tokens alone gives the same: a causal model's first tokens do not depend on the later ones.

        Raises
        ------
        ValueError
            If the code is not nested, or there are fewer tokens.
        """
        if self.nested_tokens is None:
            raise ValueError(
                "this code always sends all its tokens; `tokenlink train agents --nested` makes one whose first suffice"
            )
        if not 1 <= num_tokens <= codes.shape[1]:
            raise ValueError(f"num_tokens must be between 1 and {codes.shape[1]}, got {num_tokens}")
        return codes[:, :num_tokens] * (self._power(codes.shape[1]) / self._power(num_tokens)).sqrt()

    def start_from(self, earlier: "JTCC") -> None:
        """Take over a code of the same width; if the numbers of constants differ, all start from its last one.

        Moments of another number of tokens are learned anew.
        """
        own = self.state_dict()
        taken = {name: t for name, t in earlier.state_dict().items() if name in own and t.shape == own[name].shape}
        power = earlier.power if earlier.power.shape == self.power.shape else earlier.power.reshape(-1)[-1]
        self.load_state_dict({**own, **taken, "power": power.expand_as(self.power)})

    def _power(self, num_tokens: int) -> Tensor:
        """Return the constant for a number of tokens: a view, which training writes to."""
        if self.nested_tokens is None:
            return self.power
        if num_tokens > self.nested_tokens:
            raise ValueError(f"the code is nested in {self.nested_tokens} tokens, got {num_tokens}")
        return self.power[num_tokens - 1]

    def decode(
        self,
        codes_hat: Float[Tensor, "batch tokens width"],
        error_var: Float[Tensor, "batch tokens width"] | None = None,
    ) -> Float[Tensor, "batch tokens received"]:
        """Expand received codes to tokens of `received_size` numbers.

        Parameters
        ----------
        codes_hat : [batch, tokens, width]
            Received codes; with `error_var`, as unbiased recovery returns them (`lmmse-unbiased`, `ls`).
        error_var : [batch, tokens, width], optional
            Variance of their errors; None for codes without errors.
        """
        if error_var is None:
            error_var = torch.zeros_like(codes_hat)
        if self.decode_deviation is None or self.moments is None:
            codes = codes_hat / (1 + error_var)
            return self.decode_linear(codes) + self.decode_out(nn.functional.gelu(self.decode_in(codes)))
        scale = self._power(codes_hat.shape[1]).rsqrt()
        codes = self.moments.estimate(codes_hat.flatten(1), error_var.flatten(1), scale).view_as(codes_hat)
        inner = self.decode_in(codes) + self.decode_deviation(log_deviation(error_var))
        return self.decode_linear(codes) + self.decode_out(nn.functional.gelu(inner))


class TokenScaler(nn.Module):
    """No compression: each dimension is standardised by its mean and variance in training.

    LLaMA's residual stream has a few dimensions of enormous magnitude. Without a scale each, they would take nearly all
    the transmit power (Sun et al., "Massive Activations in Large Language Models", 2024).

    Parameters
    ----------
    hidden_size : int
        Length of a token, which is also the number of real numbers sent per token.
    received_size : int, optional
        Length of a token as the task agent takes it. Where it is another than `hidden_size`, received tokens go
        through a linear map, which is trained.
    num_tokens : int, optional
        Tokens that are sent together, whose moments the receiver knows; None for a receiver that takes the dimensions
        for independent.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, *, hidden_size: int, received_size: int | None = None, num_tokens: int | None = None) -> None:
        super().__init__()
        self.hidden_size = self.width = hidden_size
        self.received_size = received_size = _received(hidden_size, received_size)
        same = received_size == hidden_size
        self.map = None if same else nn.Linear(hidden_size, received_size, bias=False, dtype=torch.float32)
        self.num_tokens = num_tokens
        self.moments = None if num_tokens is None else CodeMoments(num_tokens * hidden_size)
        self.register_buffer("mean", torch.zeros(hidden_size, dtype=torch.float32))
        self.register_buffer("variance", torch.ones(hidden_size, dtype=torch.float32))

    @property
    def sent_moments(self) -> CodeMoments | None:
        """Moments of codes as they are sent."""
        return self.moments

    def settings(self) -> dict[str, Any]:
        """Return the settings from which `build_code` builds this code again."""
        given = {} if self.num_tokens is None else {"num_tokens": self.num_tokens}
        return {"kind": "uncompressed", **_sizes(self), **given}

    def encode(self, tokens: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Standardise tokens dimension by dimension."""
        if self.training:
            with torch.no_grad():
                variance, mean = torch.var_mean(tokens, dim=(0, 1), correction=0)
                self.mean.lerp_(mean, MOMENTUM)
                self.variance.lerp_(variance, MOMENTUM)
        codes = (tokens - self.mean) / self.variance.sqrt()
        if self.training and self.moments is not None:
            self.moments.observe(codes.detach().flatten(1))
        return codes

    @torch.no_grad()
    def measure(self, tokens: Float[Tensor, "examples tokens hidden"]) -> None:
        """Set means, variances and moments to those of tokens, where training would let them follow its batches."""
        variance, mean = torch.var_mean(tokens, dim=(0, 1), correction=0)
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        if self.moments is not None:
            self.moments.measure(((tokens - mean) / variance.sqrt()).flatten(1))

    def decode(
        self,
        codes_hat: Float[Tensor, "batch tokens hidden"],
        error_var: Float[Tensor, "batch tokens hidden"] | None = None,
    ) -> Float[Tensor, "batch tokens received"]:
        """Undo `encode`, from the linear MMSE estimate of the codes; arguments as for `JTCC.decode`.

        The linear map, where there is one, takes the standardised dimensions: massive ones would drown the others.
        """
        if error_var is None:
            codes = codes_hat
        elif self.moments is None:
            codes = codes_hat / (1 + error_var)
        else:
            codes = self.moments.estimate(codes_hat.flatten(1), error_var.flatten(1)).view_as(codes_hat)
        return codes * self.variance.sqrt() + self.mean if self.map is None else self.map(codes)


Code = JTCC | TokenScaler


def build_code(settings: dict[str, Any]) -> Code:
    """Build a code, with fresh weights, from its settings."""
    kinds = {"jtcc": JTCC, "uncompressed": TokenScaler}
    kind, arguments = settings["kind"], {k: v for k, v in settings.items() if k != "kind"}
    if kind not in kinds:
        raise ValueError(f"code kind must be one of {', '.join(kinds)}, got {kind!r}")
    return kinds[kind](**arguments)


def _received(hidden_size: int, received_size: int | None) -> int:
    """Return the length of a decoded token."""
    if received_size is not None and received_size < 1:
        raise ValueError(f"received_size must be at least 1, got {received_size}")
    return hidden_size if received_size is None else received_size


def _sizes(code: Code) -> dict[str, int]:
    """Return the settings of a code's lengths; one length is written once, as in folders from before there were two."""
    sizes = {"hidden_size": code.hidden_size}
    return sizes if code.received_size == code.hidden_size else {**sizes, "received_size": code.received_size}
