"""Kronecker pilots: the same comb on every pilot symbol, each antenna on its own subcarriers."""

import numpy as np

from phy.resource_grid import ResourceGrid

_PILOT_SEED = 38212  # known to both ends


def pilot_antenna(num_tx_ant: int, num_subcarriers: int) -> np.ndarray:
    """Transmit antenna that sounds each subcarrier in use; the others are silent there. Shape [num_subcarriers]."""
    return np.arange(num_subcarriers) % num_tx_ant


def pilot_sequence(grid: ResourceGrid) -> np.ndarray:
    """Unit-energy QPSK pilots, [num_pilot_symbols, num_subcarriers], complex128.

    One antenna sends on each resource element, with the power of all of them on a data element: the total is 1 on both.
    """
    quadrants = [
        np.random.Generator(np.random.Philox([_PILOT_SEED, symbol])).integers(4, size=len(grid.subcarriers))
        for symbol in grid.pilot_symbols
    ]
    shape = (len(grid.pilot_symbols), len(grid.subcarriers))
    return np.exp(0.5j * np.pi * (np.reshape(quadrants, shape) + 0.5))
