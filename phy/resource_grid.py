"""Positions of the resource elements of a transmission: slots, symbols, subcarriers, pilots."""

import numpy as np

from phy.config import PILOT_SYMBOLS, SYMBOLS_PER_SLOT, LinkConfig


class ResourceGrid:
    """As many slots as `num_res` data resource elements need; they are filled subcarriers first, then OFDM symbols.

    A slot that is not filled carries data on the symbols nearest to its pilots, where the channel estimate is best;
    of equally near ones first on those between two pilot symbols.

    Parameters
    ----------
    config : LinkConfig
    num_res : int
        Data resource elements, at least one.

    Attributes
    ----------
    num_slots, num_symbols : int
        Number of slots of 14 OFDM symbols, and of all their symbols.
    subcarriers : np.ndarray, [num_subcarriers]
        Indices in use, within 0 … fft_size - 1.
    data_symbols, pilot_symbols : np.ndarray
        OFDM symbols with data, and with pilots, both in order of time. The data are on the first `num_res` elements of
        data_symbols x subcarriers.
    pilot_energy : float
        Energy of all pilots, in units of a data resource element's.
    """

    def __init__(self, config: LinkConfig, num_res: int):
        self.num_res, self.num_tx_ant, self.fft_size = num_res, config.num_tx_ant, config.fft_size
        self.symbol_duration = config.symbol_duration
        self.subcarriers = config.subcarriers
        in_slot = np.array(PILOT_SYMBOLS if config.pilots == "kronecker" else (), np.int64)
        free = np.setdiff1d(np.arange(SYMBOLS_PER_SLOT), in_slot)
        num_data_symbols = -(-num_res // len(self.subcarriers))
        self.num_slots = -(-num_data_symbols // len(free))
        self.num_symbols = self.num_slots * SYMBOLS_PER_SLOT
        slots = SYMBOLS_PER_SLOT * np.arange(self.num_slots)[:, None]
        missing = num_data_symbols - (self.num_slots - 1) * len(free)  # data symbols of the last slot
        last = slots[-1] + np.sort(_nearest_first(free, in_slot)[:missing])
        self.data_symbols = np.append(slots[:-1] + free, last)
        self.pilot_symbols = (slots + in_slot).ravel()
        num_pilots = len(self.pilot_symbols) * -(-len(self.subcarriers) // config.pilot_spacing)
        self.pilot_energy = num_pilots * 10 ** (config.pilot_boost_db / 10)


def _nearest_first(symbols, pilots):
    """Order symbols by their distance to the nearest pilot symbol, then from the middle of the pilots outwards."""
    if not len(pilots):
        return symbols
    distance = np.abs(symbols[:, None] - pilots).min(1)
    return symbols[np.lexsort((np.abs(symbols - pilots.mean()), distance))]
