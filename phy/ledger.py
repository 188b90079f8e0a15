"""Costs of a transmission: every resource element, the energy and the time."""

from dataclasses import dataclass

import numpy as np

from phy.resource_grid import ResourceGrid

MINI_SLOT = 2  # OFDM symbols of the shortest mini-slot; 3GPP TS 38.214, table 5.1.2.1-1, mapping type B


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """Resource elements of the slots that one example occupies, and their contents.

    A resource element is one complex channel use, twice a real one.
    `data_res + pilot_res + guard_res + idle_res == total_res`.

    Attributes
    ----------
    data_res : int
        Elements that carry codes or coded bits.
    pilot_res : int
        Elements of pilots, and the silent ones between them that `pilot_spacing` leaves.
    guard_res : int
        Guard carriers and the null at the carrier frequency, on all symbols.
    idle_res : int
        Empty elements of the last slot, which another user may take.
    total_res : int
        Product of num_symbols and fft_size.
    num_slots, num_symbols : int
    duration_s : float
        Time on air of these symbols, cyclic prefixes included [s].
    active_symbols : int
        Symbols that carry data or pilots.
    active_s : float
        Their time on air [s].
    mini_slots : int
        Mini-slots of `MINI_SLOT` symbols that hold them; what a scheduler of mini-slots would grant.
    span_s : float
        Time from the first of them to the end of the last [s]: only then has a receiver all pilots.
    energy : float
        Transmitted energy, in units of one resource element's mean transmit power; idle and guard elements are silent.
    num_reals : int
        Number of reals carried; analog links only.
    payload_bits : int
        Bits of the payload; this and the next two are for digital links only.
    overhead_bits : int
        Header, padding and CRC.
    coded_bits : int
        Bits on the air.
    """

    data_res: int
    pilot_res: int
    guard_res: int
    idle_res: int
    total_res: int
    num_slots: int
    num_symbols: int
    duration_s: float
    active_symbols: int
    active_s: float
    mini_slots: int
    span_s: float
    energy: float
    num_reals: int = 0
    payload_bits: int = 0
    overhead_bits: int = 0
    coded_bits: int = 0

    def __post_init__(self):
        parts = self.data_res + self.pilot_res + self.guard_res + self.idle_res
        if parts != self.total_res:
            raise ValueError(f"the ledger's parts add up to {parts} resource elements, the grid has {self.total_res}")

    @property
    def channel_uses(self) -> int:
        """Complex channel uses of data and pilots; a real channel use is half a complex one."""
        return self.data_res + self.pilot_res

    @property
    def code_rate(self) -> float:
        """Bits of payload and overhead over bits on the air; NaN for analog links."""
        return (self.payload_bits + self.overhead_bits) / self.coded_bits if self.coded_bits else float("nan")


def grid_ledger(grid: ResourceGrid, *, data_energy: float, **carried: int) -> Ledger:
    """Count the resource elements of `grid`.

    Parameters
    ----------
    grid : ResourceGrid
    data_energy : float
        Energy of the data, in units of a full resource element's.
    **carried : int
        num_reals; or payload_bits, overhead_bits, coded_bits.
    """
    num_pilots = len(grid.pilot_symbols) * len(grid.subcarriers)
    active = np.union1d(grid.data_symbols, grid.pilot_symbols)
    return Ledger(
        data_res=grid.num_res,
        pilot_res=num_pilots,
        guard_res=grid.num_symbols * (grid.fft_size - len(grid.subcarriers)),
        idle_res=(grid.num_symbols - len(grid.pilot_symbols)) * len(grid.subcarriers) - grid.num_res,
        total_res=grid.num_symbols * grid.fft_size,
        num_slots=grid.num_slots,
        num_symbols=grid.num_symbols,
        duration_s=grid.num_symbols * grid.symbol_duration,
        active_symbols=len(active),
        active_s=len(active) * grid.symbol_duration,
        mini_slots=len(np.unique(active // MINI_SLOT)),
        span_s=float(active[-1] - active[0] + 1) * grid.symbol_duration,
        energy=data_energy + grid.pilot_energy,
        **carried,
    )
