"""Channel estimates against the best linear one, and what they declare against what is measured.

The best one of each antenna pair knows the joint correlation of time and frequency. `lmmse` takes it for a product
(plus a specular part), `lmmse-robust` knows bounds only, `ls-linear` nothing. `lmmse-spatial` also knows how antennas
are correlated (cdl), and may be better than the best one that does not. A slot of data, 4x8 antennas, every subcarrier
sounded by one antenna in turn.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from rich.table import Table

from phy import AnalogLink, LinkConfig
from phy.config import CHANNELS
from phy.fading import BLOCK
from phy.pilots import pilot_combs

MODELS = tuple(name for name in CHANNELS if name not in ("awgn", "rayleigh"))
SPEEDS = (1, 30, 120)  # [km/h]
SNR_DB = (-10.0, 10.0, 30.0)
ESTIMATORS = ("ls-linear", "lmmse-robust", "lmmse", "lmmse-spatial")
KNOWING = ESTIMATORS[2:]
MOST_ABOVE_DB = 0.5  # of `KNOWING` over the bound, within a measurement's error
LEAST, MOST = 0.9, 1.1  # their declared over measured error


def bound(link: AnalogLink, no: float) -> float:
    """Return the mean error of the best linear estimate over the data of a slot."""
    grid = link.transmission(num_tokens=1, width=num_reals(link.config)).grid.resources
    times, tones = np.arange(1 - grid.num_symbols, grid.num_symbols), np.arange(1 - grid.fft_size, grid.fft_size)
    every = link.channel.correlation(times, tones)

    def correlate(first, second):
        lags = (a[:, None] - b for a, b in zip(first, second, strict=True))
        return every[
            tuple(lag + middle for lag, middle in zip(lags, (grid.num_symbols - 1, grid.fft_size - 1), strict=True))
        ]

    targets, errors = _points(grid.data_symbols, grid.subcarriers), []
    for comb in pilot_combs(link.config):
        pilots = _points(grid.pilot_symbols, grid.subcarriers[comb])
        among, cross = correlate(pilots, pilots), correlate(targets, pilots)
        weights = cross @ np.linalg.inv(among + no * np.eye(len(among)))
        errors.append(1 - np.mean((weights * cross.conj()).sum(1).real))
    return float(np.mean(errors))


def num_reals(config: LinkConfig) -> int:
    """Return the numbers that fill the twelve data symbols of a slot."""
    return 12 * config.num_subcarriers * config.reals_per_re


def errors_of(link: AnalogLink, no: float, blocks: int) -> tuple[float, float]:
    """Return measured and declared mean squared error of a link's estimate over blocks of fades."""
    transmission = link.transmission(num_tokens=1, width=num_reals(link.config))
    measured, declared = [], []
    for block in range(blocks):
        fades = link.channel.fades(BLOCK * block + np.arange(BLOCK), transmission.grid.resources)
        h_hat, err_var = transmission.estimate(fades, tf.fill([BLOCK, 1], no))
        difference = np.transpose(h_hat, [1, 2, 0, 3]) - np.asarray(transmission.sounding.combine(fades.h))
        measured.append(np.mean(np.abs(difference) ** 2))
        declared.append(np.mean(err_var))
    return float(np.mean(measured)), float(np.mean(declared))


def measure(*, rounds: int, on_case: Callable[[str], Any]) -> dict[str, Any]:
    """Measure every channel at every speed and SNR; `rounds` blocks of fades each."""
    rows = []
    for channel, speed in itertools.product(MODELS, SPEEDS):
        on_case(f"{channel}, {speed} km/h")
        facts: dict[str, Any] = {"channel": channel, "speed": speed / 3.6, "phase_mask": False}
        links = {name: AnalogLink(LinkConfig(estimator=name, **facts)) for name in ESTIMATORS}
        for snr_db in SNR_DB:
            no = 10 ** (-snr_db / 10)
            found = {name: errors_of(link, no, rounds) for name, link in links.items()}
            rows.append(
                {
                    **{"channel": channel, "speed": speed, "snr_db": snr_db},
                    "bound": bound(links["lmmse"], no),
                    "measured": {name: errors[0] for name, errors in found.items()},
                    "declared": {name: errors[1] for name, errors in found.items()},
                }
            )
    return {"fades": rounds * BLOCK, "rows": rows}


def tables(report: dict[str, Any]) -> list[Table]:
    """Return one table for each SNR: errors in dB, and what is declared over what is measured."""
    shown = []
    for snr_db in SNR_DB:
        table = Table(
            title=f"Error of the channel estimate in dB at {snr_db:g} dB, {report['fades']} fades; declared / measured",
            title_justify="left",
            box=None,
        )
        for column in ("channel", "km/h", "bound", *ESTIMATORS, *(f"d/m {name.split('-')[-1]}" for name in ESTIMATORS)):
            table.add_column(column, justify="left" if column == "channel" else "right")
        for row in report["rows"]:
            if row["snr_db"] == snr_db:
                errors = (row["bound"], *(row["measured"][name] for name in ESTIMATORS))
                ratios = (row["declared"][name] / row["measured"][name] for name in ESTIMATORS)
                cells = (*(f"{10 * np.log10(e):.1f}" for e in errors), *(f"{ratio:.2f}" for ratio in ratios))
                table.add_row(row["channel"], str(row["speed"]), *cells)
        shown.append(table)
    return shown


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Name the points where an estimate that knows the channel misses its bound, or declares another error."""
    found = []
    for row in report["rows"]:
        at = f"{row['channel']}, {row['speed']} km/h, {row['snr_db']:g} dB"
        for name in KNOWING:
            measured, declared = row["measured"][name], row["declared"][name]
            above = 10 * np.log10(measured / row["bound"])
            if above > MOST_ABOVE_DB:
                found.append(f"{at}: {name} is {above:.1f} dB above the bound")
            if not LEAST <= declared / measured <= MOST:
                found.append(f"{at}: {name} declares {declared / measured:.2f} of its error")
    return found


def _points(symbols: np.ndarray, subcarriers: np.ndarray) -> list[np.ndarray]:
    """Return OFDM symbol and subcarrier of every resource element."""
    return [part.ravel() for part in np.meshgrid(symbols, subcarriers, indexing="ij")]
