"""What studies vary: label, unit, format and meaning of every axis, in one table."""

from dataclasses import dataclass

AxisValue = float | int | str
Coordinates = dict[str, AxisValue]


class Impossible(ValueError):
    """Coordinates of a study at which there can be no point; the message says why."""


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes
    ----------
    label : str
        Label in figures, with the unit.
    head : str
        Head of a table's column, with the unit.
    named : str
        Format of a value in running text.
    meaning : str
        Meaning in the archive.
    log_base : int, optional
        Base of the axis in figures, if it is logarithmic there.
    """

    label: str
    head: str
    named: str
    meaning: str
    log_base: int | None = None


AXES = {
    "snr_db": Axis(
        "SNR per receive antenna [dB]",
        "SNR [dB]",
        "{} dB",
        "average received signal power per resource element and receive antenna over noise variance [dB]",
    ),
    "num_tokens": Axis(
        "number of tokens", "tokens", "{} tokens", "machine-language tokens that are sent for each question"
    ),
    "width": Axis(
        "real numbers per token", "width", "width {}", "real numbers that are sent for each token", log_base=2
    ),
    "seed": Axis("training seed", "seed", "seed {}", "seed of the agents' training"),
    "antennas": Axis("antennas, transmit x receive", "antennas", "{} antennas", "transmit x receive antennas"),
    "channel": Axis("channel model", "channel", "{}", "channel model of the link"),
}


def axis_of(name: str) -> Axis:
    """Return the axis of a name; one that is not in the table is called by its name."""
    of_name = name.replace("{", "{{").replace("}", "}}")  # a format
    return AXES.get(name) or Axis(name.replace("_", " "), name, f"{of_name} {{}}", name.replace("_", " "))


def written(value: AxisValue) -> str:
    """Write a value without its unit: numbers as short as they are exact to six digits, strings as they are."""
    return value if isinstance(value, str) else f"{value:g}"


def named(axis: str, value: AxisValue) -> str:
    """Write a value in running text: "5 dB", "3 tokens", "1 token", "4x8 antennas"."""
    text = axis_of(axis).named.format(written(value))
    return text.removesuffix("s") if value == 1 else text
