"""Kronecker pilots: the same comb on every pilot symbol, each antenna on its own subcarriers."""

import numpy as np

from phy.config import LinkConfig
from phy.resource_grid import ResourceGrid

_PILOT_SEED = 38212  # known to both ends


def pilot_antenna(num_tx_ant: int, num_subcarriers: int, pilot_spacing: int = 1) -> np.ndarray:
    """Transmit antenna that sounds each subcarrier in use; the others are silent there. Shape [num_subcarriers].

    Of each `pilot_spacing` neighbours only the first carries a pilot.
    """
    return np.arange(num_subcarriers) // pilot_spacing % num_tx_ant


def pilot_combs(config: LinkConfig) -> list[np.ndarray]:
    """Indices of each antenna's pilots among the subcarriers in use."""
    antenna = pilot_antenna(config.num_tx_ant, config.num_subcarriers, config.pilot_spacing)
    sounded = np.arange(config.num_subcarriers) % config.pilot_spacing == 0
    return [np.flatnonzero((antenna == a) & sounded) for a in range(config.num_tx_ant)]


def pilot_sequence(config: LinkConfig, grid: ResourceGrid) -> np.ndarray:
    """QPSK pilots, [num_pilot_symbols, num_subcarriers], complex128; zero where `pilot_spacing` leaves them out.

    One antenna sends on each resource element, with the power of all of them on a data element, times the boost.
    """
    quadrants = [
        np.random.Generator(np.random.Philox([_PILOT_SEED, symbol])).integers(4, size=config.num_subcarriers)
        for symbol in grid.pilot_symbols
    ]
    shape = (len(grid.pilot_symbols), config.num_subcarriers)
    amplitude = np.zeros(config.num_subcarriers)
    amplitude[:: config.pilot_spacing] = 10 ** (config.pilot_boost_db / 20)
    return amplitude * np.exp(0.5j * np.pi * (np.reshape(quadrants, shape) + 0.5))
