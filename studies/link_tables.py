"""What a study along settings of the link prints: air time, error of the codes and accuracy at each setting."""

import json

import numpy as np

from studies.archive import Results
from studies.axes import axis_of, written
from studies.tables import BOUNDS, Grid, percent


def refusals(results: Results) -> list[str]:
    """Return why some settings have no point, a sentence each."""
    return list(json.loads(str(results.attributes.get("refusals_json", "{}"))))


def along_settings(results: Results) -> bool:
    """Whether the first axis is one of words, such as sets of antennas, and the second the SNR."""
    axes = list(results.axes)
    return axes[1:] == ["snr_db"] and results.axes[axes[0]].dtype.kind in "UO"


def settings_table(results: Results) -> Grid:
    """Return resource elements, time on the air, code NMSE and accuracy at each value of the first axis and each SNR.

    A setting that cannot be has dashes; `refusals` says why. A scheme without link has one row.
    """
    axis = next(iter(results.axes))
    values, snr_db = results.axes[axis].tolist(), results.coordinates["snr_db"]
    rows = []
    crossing = [scheme for scheme in results.schemes if np.isfinite(results.along("data_res", scheme)).any()]
    for scheme in results.schemes:
        spent = results.along("data_res", scheme) + results.along("pilot_res", scheme)  # [settings, snr_db]
        active, nmse = (results.along(name, scheme) for name in ("active_s", "code_nmse"))
        bounds = [results.along(name, scheme) for name in BOUNDS]
        for i, value in enumerate(values if scheme in crossing else [None]):
            name = ", ".join(
                [*([scheme] if len(crossing) != 1 or value is None else []), *([written(value)] if value else [])]
            )
            cells = [_or_dash(spent[i, 0], ".0f"), _or_dash(1e3 * active[i, 0], ".3f")]
            for j in range(len(snr_db)):
                cells += [_or_dash(10 * np.log10(nmse[i, j]), ".1f")]
                cells += [percent(*(bound[i, j] for bound in bounds), absent="-")]
            rows.append([name, *cells])
    heads = [text for at in snr_db for text in (f"NMSE {at:g} dB", f"% {at:g} dB")]
    title = (
        f"{axis_of(axis).label}: REs and time of a question, pilots included; NMSE of\n"
        "the received codes [dB] and accuracy [%], 95 % Wilson interval, at each SNR"
    )
    return Grid(title, ["scheme", "REs", "ms", *heads], rows)


def _or_dash(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"
