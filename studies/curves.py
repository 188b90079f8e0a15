"""One row per curve: its three parts, its label and line, the weights it takes, and whether it runs by default.

Nothing that a point's numbers depend on imports this table: a new row, or another colour, leaves every finished point
valid. A curve of your own stays outside of the package: `-s schemes='[machine-tokens, my_module:MY_CURVE]'`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studies import outside
from studies.config import checked_name, expanded
from studies.schemes.carriers import (
    adaptive,
    analog,
    analog_images,
    arq,
    arq_by_answer,
    bounds,
    coded_images,
    image_files,
    lossless,
    quantized,
    text,
)
from studies.schemes.encoders.answers import answers
from studies.schemes.encoders.captions import captions
from studies.schemes.encoders.image_codes import image_codes
from studies.schemes.encoders.tokens import tokens
from studies.schemes.readers.echo import echo
from studies.schemes.readers.pictures import pictures
from studies.schemes.readers.prefix import prefix
from studies.schemes.readers.words import words
from studies.schemes.scheme import Carrier, Encoder, Reader, Scheme

if TYPE_CHECKING:
    from studies.workbench import Workbench

BLACK, DARK_GREY, GREY, LIGHT_GREY = "0.15", "0.35", "0.5", "0.65"
BLUE, LIGHT_BLUE, ORANGE, BROWN = "#08519c", "#3182bd", "#e6550d", "#a63603"
PURPLE, GREEN, TEAL, PINK = "#756bb1", "#31a354", "#02818a", "#c51b8a"
GROUPS = ANALOG, DIGITAL, TEXT, IMAGES, CONTROLS = ("analog tokens", "digital tokens", "text", "images", "controls")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve.

    Attributes
    ----------
    name : str
        Scheme in configurations and archives.
    encoder, carrier, reader : callable
        Functions that build a part from (workbench, weights); no encoder where nothing is encoded ahead.
    about : str
        What reaches the answering model, in one line.
    label : str
        Label in the figure's legend.
    line : mapping
        Style of the line, as matplotlib's keywords.
    level : bool
        True: a bound or a control without link, drawn as one level across the figure.
    group : str
        Kind of scheme. Figures with many curves have a panel for each; the levels of `CONTROLS` are in all of them.
    hatched : bool
        True: a bound, drawn with hatching above its line.
    weights : str
        Key of `models` that names its weights; or a name or folder of weights.
    default : bool
        Whether it runs unless `schemes` says otherwise. Digital ones and images take minutes.
    bounds : tuple of str
        Schemes that are not to lie above it.
    """

    name: str
    encoder: "Callable[[Workbench, str], Encoder] | None" = None
    carrier: "Callable[[Workbench, str], Carrier]"
    reader: "Callable[[Workbench, str], Reader]"
    about: str
    label: str
    line: Mapping[str, Any] = field(default_factory=dict)
    level: bool = False
    group: str = ""
    hatched: bool = False
    weights: str = "machine_tokens"
    default: bool = False
    bounds: tuple[str, ...] = ()

    def __post_init__(self):
        checked_name(self.name)
        for part in (self.encoder, self.carrier, self.reader):
            if part is not None and not (inspect.isfunction(part) or inspect.isclass(part)):
                raise TypeError(
                    f"curve {self.name!r}: its parts must be functions, whose module its points depend on; got {part!r}"
                )

    def build(self, workbench: "Workbench") -> Scheme:
        """Build the scheme from a run's configuration."""
        weights = expanded(self.weights)
        encoder = None if self.encoder is None else self.encoder(workbench, weights)
        return Scheme(encoder, self.carrier(workbench, weights), self.reader(workbench, weights))

    def look(self) -> dict[str, Any]:
        """Return what a figure has to know of it; archives keep this of curves that are not in the table."""
        looks = {"label": self.label, "line": dict(self.line), "level": self.level}
        return {**looks, "group": self.group, "hatched": self.hatched}

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of its parts: their import closure is the source code that its points depend on."""
        parts = (self.encoder, self.carrier, self.reader)
        return tuple(sorted({part.__module__ for part in parts if part is not None}))


_ROWS = (
    Curve(
        name="machine-tokens",
        encoder=tokens,
        carrier=analog.codes_with_prior,
        reader=prefix,
        about="the proposal: tokens, compressed by the JTCC, over the analog link",
        label="machine tokens",
        line={"color": BLUE, "marker": "o", "linestyle": "-"},
        group=ANALOG,
        default=True,
    ),
    Curve(
        name="machine-tokens-uncompressed",
        encoder=tokens,
        carrier=analog.codes,
        reader=prefix,
        about="the same without the JTCC: every hidden dimension on the air (benchmark 4)",
        label="machine tokens, uncompressed",
        line={"color": ORANGE, "marker": "s", "linestyle": "-", "markerfacecolor": "white"},
        group=ANALOG,
        weights="machine_tokens_uncompressed",
        default=True,
    ),
    Curve(
        name="raw-image",
        carrier=lossless.everything,
        reader=pictures,
        about="the noiseless image, at the sensor's own model: an upper bound (benchmark 1)",
        label="raw image (upper bound)",
        line={"color": BLACK, "linestyle": "--"},
        group=CONTROLS,
        hatched=True,
        level=True,
        default=True,
    ),
    Curve(
        name="question-only",
        carrier=lossless.nothing,
        reader=prefix,
        about="the question and no prefix: the blind line",
        label="question only (blind)",
        line={"color": DARK_GREY, "linestyle": ":"},
        group=CONTROLS,
        level=True,
        default=True,
    ),
    Curve(
        name="silent-link",
        carrier=lossless.silence,
        reader=prefix,
        about="control: a prefix decoded from silence, codes that are all zero",
        label="control: silent link",
        line={"color": LIGHT_GREY, "linestyle": "-."},
        group=CONTROLS,
        level=True,
        default=True,
    ),
    Curve(
        name="wrong-image",
        encoder=tokens,
        carrier=analog.partners_codes,
        reader=prefix,
        about="control: tokens of another image, for a question of the same family, over the same fade",
        label="control: another image's tokens",
        line={"color": GREY, "marker": "x", "linestyle": "-"},
        group=CONTROLS,
        default=True,
    ),
    Curve(
        name="gaussian-codes",
        encoder=tokens,
        carrier=analog.gaussian_codes,
        reader=prefix,
        about="control: noise with the mean and covariance of real codes in their place",
        label="control: Gaussian codes",
        line={"color": GREY, "marker": "+", "linestyle": "--"},
        group=CONTROLS,
    ),
    Curve(
        name="rotated-codes",
        encoder=tokens,
        carrier=analog.rotated_codes,
        reader=prefix,
        about="control: one's own codes, all turned alike about their mean: the same distances, other directions",
        label="control: rotated codes",
        line={"color": GREY, "marker": "1", "linestyle": ":"},
        group=CONTROLS,
    ),
    Curve(
        name="machine-tokens-adaptive",
        encoder=tokens,
        carrier=adaptive.first_tokens,
        reader=prefix,
        about="one code whose first tokens suffice: as many as SNR and kind of task call for",
        label="machine tokens, adaptive number",
        line={"color": LIGHT_BLUE, "marker": "*", "markersize": 7, "linestyle": "-"},
        group=ANALOG,
        weights="machine_tokens_adaptive",
    ),
    Curve(
        name="machine-tokens-arq",
        encoder=tokens,
        carrier=arq.four_times,
        reader=prefix,
        about="machine tokens, sent again over up to four fades until the receiver is sure enough",
        label="machine tokens, up to 4 transmissions",
        line={"color": BLUE, "marker": ">", "linestyle": "--"},
        group=ANALOG,
    ),
    Curve(
        name="machine-tokens-arq-2",
        encoder=tokens,
        carrier=arq.twice,
        reader=prefix,
        about="the same with at most one retransmission",
        label="machine tokens, up to 2 transmissions",
        line={"color": BLUE, "marker": "<", "linestyle": "-.", "markerfacecolor": "white"},
        group=ANALOG,
    ),
    Curve(
        name="machine-tokens-arq-answer",
        encoder=tokens,
        carrier=arq_by_answer.twice,
        reader=prefix,
        about="at most one retransmission, where the answer is unsure and the link may be the reason",
        label="machine tokens, once more if unsure",
        line={"color": BLUE, "marker": "d", "linestyle": "-."},
        group=ANALOG,
    ),
    Curve(
        name="caption",
        encoder=captions,
        carrier=text.captions,
        reader=words,
        about="the image in words by the sensor's own model, compressed, over the digital link (benchmark 3)",
        label="caption",
        line={"color": GREEN, "marker": "D", "linestyle": "-"},
        group=TEXT,
    ),
    Curve(
        name="caption-harq",
        encoder=captions,
        carrier=text.captions_harq,
        reader=words,
        about="the same with at most one retransmission",
        label="caption, up to 2 transmissions",
        line={"color": GREEN, "marker": "D", "linestyle": ":", "markerfacecolor": "white"},
        group=TEXT,
    ),
    Curve(
        name="caption-error-free",
        encoder=captions,
        carrier=lossless.everything,
        reader=words,
        about="the same words, none of them lost: a bound",
        label="caption, none lost (bound)",
        line={"color": GREEN, "linestyle": (0, (5, 1.5, 1, 1.5, 1, 1.5))},
        group=TEXT,
        hatched=True,
        level=True,
    ),
    Curve(
        name="answer-text",
        encoder=answers,
        carrier=text.answers,
        reader=echo,
        about="the answer alone, by a sensor that is told the question; it breaks the privacy rule",
        label="answer alone (sees the question)",
        line={"color": BLACK, "marker": "*", "linestyle": "--"},
        group=TEXT,
    ),
    Curve(
        name="quantized-tokens",
        encoder=tokens,
        carrier=quantized.transform,
        reader=prefix,
        about="the codes of machine-tokens, quantised, over the digital link in as many resource elements",
        label="quantized tokens",
        line={"color": PURPLE, "marker": "^", "linestyle": "-"},
        group=DIGITAL,
    ),
    Curve(
        name="token-indices",
        encoder=tokens,
        carrier=quantized.vector,
        reader=prefix,
        about="each token as its index in a codebook, over the digital link in as many resource elements",
        label="token indices",
        line={"color": PURPLE, "marker": "v", "linestyle": "-.", "markerfacecolor": "white"},
        group=DIGITAL,
    ),
    Curve(
        name="quantized-tokens-harq",
        encoder=tokens,
        carrier=quantized.transform_harq,
        reader=prefix,
        about="quantized-tokens with at most one retransmission, as machine-tokens-arq-2 has it",
        label="quantized tokens, up to 2 transmissions",
        line={"color": PURPLE, "marker": "<", "linestyle": ":"},
        group=DIGITAL,
    ),
    Curve(
        name="quantized-tokens-cqi",
        encoder=tokens,
        carrier=quantized.transform_cqi,
        reader=prefix,
        about="quantized-tokens, bytes and modulation chosen for each fade, which the receiver reports",
        label="quantized tokens, adapted to the fade",
        line={"color": PURPLE, "marker": "p", "linestyle": "--"},
        group=DIGITAL,
    ),
    Curve(
        name="token-indices-harq",
        encoder=tokens,
        carrier=quantized.vector_harq,
        reader=prefix,
        about="token-indices with at most one retransmission, as machine-tokens-arq-2 has it",
        label="token indices, up to 2 transmissions",
        line={"color": PURPLE, "marker": ">", "linestyle": ":", "markerfacecolor": "white"},
        group=DIGITAL,
    ),
    Curve(
        name="token-indices-cqi",
        encoder=tokens,
        carrier=quantized.vector_cqi,
        reader=prefix,
        about="token-indices, bytes chosen for each fade, which the receiver reports",
        label="token indices, adapted to the fade",
        line={"color": PURPLE, "marker": "8", "linestyle": "--", "markerfacecolor": "white"},
        group=DIGITAL,
    ),
    Curve(
        name="bound-digital",
        encoder=tokens,
        carrier=bounds.any_code,
        reader=prefix,
        about="quantised codes in as many resource elements, lost only where any code of that size must lose them",
        label="quantized tokens, any code (bound)",
        line={"color": PURPLE, "linestyle": (0, (2.5, 1, 2.5, 3))},
        group=DIGITAL,
        hatched=True,
        bounds=("quantized-tokens", "bound-digital-reached"),
    ),
    Curve(
        name="bound-indices",
        encoder=tokens,
        carrier=bounds.any_code_of_indices,
        reader=prefix,
        about="codebook indices in as many resource elements, lost only where any code of that size must lose them",
        label="token indices, any code (bound)",
        line={"color": TEAL, "linestyle": (0, (2.5, 1, 1, 1, 1, 1))},
        group=DIGITAL,
        hatched=True,
        bounds=("token-indices",),
    ),
    Curve(
        name="bound-digital-reached",
        encoder=tokens,
        carrier=bounds.random_code,
        reader=prefix,
        about="as bound-digital, lost as often as with random codes: some code is as good",
        label="quantized tokens, random code",
        line={"color": PURPLE, "linestyle": (0, (1, 1))},
        group=DIGITAL,
    ),
    Curve(
        name="bound-linear",
        encoder=tokens,
        carrier=bounds.linear,
        reader=prefix,
        about="the codes of machine-tokens with the error of the best linear code of their covariance",
        label="machine tokens, best linear code (bound)",
        line={"color": BLUE, "linestyle": (0, (8, 1.5))},
        group=ANALOG,
        hatched=True,
        bounds=("machine-tokens",),
    ),
    Curve(
        name="jpeg-ldpc",
        carrier=coded_images.jpeg,
        reader=pictures,
        about="the image as JPEG over the digital link in two slots, adapted to the SNR",
        label="JPEG, LDPC",
        line={"color": BROWN, "marker": "P", "linestyle": "-"},
        group=IMAGES,
    ),
    Curve(
        name="jpeg-ldpc-fixed",
        carrier=coded_images.jpeg_fixed,
        reader=pictures,
        about="the same, made for 10 dB at every SNR: it shows the cliff",
        label="JPEG, LDPC, made for 10 dB",
        line={"color": BROWN, "marker": "P", "linestyle": ":", "markerfacecolor": "white"},
        group=IMAGES,
    ),
    Curve(
        name="jpeg-file",
        carrier=image_files.jpeg_file,
        reader=pictures,
        about="the image as a JPEG file of quality 75, of which nothing is lost: what others compress against",
        label="JPEG file, none lost",
        line={"color": ORANGE, "linestyle": (0, (4, 1, 1, 1))},
        level=True,
        group=IMAGES,
    ),
    Curve(
        name="avif-ldpc",
        carrier=coded_images.avif,
        reader=pictures,
        about="the image as AVIF over the digital link in two slots, adapted to the SNR",
        label="AVIF, LDPC",
        line={"color": BROWN, "marker": "X", "linestyle": "-."},
        group=IMAGES,
    ),
    Curve(
        name="avif-small",
        carrier=coded_images.avif_small,
        reader=pictures,
        about="the same in as many resource elements as machine-tokens",
        label="AVIF, as small as machine tokens",
        line={"color": BROWN, "marker": "X", "linestyle": "-", "markerfacecolor": "white"},
        group=IMAGES,
    ),
    Curve(
        name="avif-small-harq",
        carrier=coded_images.avif_small_harq,
        reader=pictures,
        about="avif-small with at most one retransmission",
        label="AVIF, small, up to 2 transmissions",
        line={"color": BROWN, "marker": "d", "linestyle": ":"},
        group=IMAGES,
    ),
    Curve(
        name="avif-small-cqi",
        carrier=coded_images.avif_small_cqi,
        reader=pictures,
        about="avif-small, bytes and modulation chosen for each fade, which the receiver reports",
        label="AVIF, small, adapted to the fade",
        line={"color": BROWN, "marker": "s", "linestyle": "--"},
        group=IMAGES,
    ),
    Curve(
        name="deepjscc",
        encoder=image_codes,
        carrier=analog_images.images,
        reader=pictures,
        about="the image by DeepJSCC over the analog link, in as many resource elements as jpeg-ldpc (benchmark 2)",
        label="DeepJSCC",
        line={"color": PINK, "marker": "h", "linestyle": "-"},
        group=IMAGES,
        weights="deepjscc",
    ),
    Curve(
        name="deepjscc-small",
        encoder=image_codes,
        carrier=analog_images.images,
        reader=pictures,
        about="the same in as many resource elements as machine-tokens",
        label="DeepJSCC, as small as machine tokens",
        line={"color": TEAL, "marker": "H", "linestyle": "-.", "markerfacecolor": "white"},
        group=IMAGES,
        weights="deepjscc_small",
    ),
)
CURVES = {row.name: row for row in _ROWS}
DEFAULT = tuple(row.name for row in _ROWS if row.default)


def find(name: str) -> Curve:
    """Return a curve of the table, or one of your own as MODULE:ATTRIBUTE.

    Raises
    ------
    KeyError
        If the table has no such name.
    ValueError
        If the module cannot be imported, or its attribute is no `Curve`.
    """
    return outside.load(name, Curve) if ":" in name else CURVES[name]
