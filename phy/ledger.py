"""What a transmission costs: every resource element, the energy and the time."""

from dataclasses import asdict, dataclass

from phy.config import LinkConfig
from phy.token_grid import TokenGrid


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """Resource elements of the slots that one example occupies.

    A resource element is one complex channel use. `data_res + pilot_res + guard_res + idle_res == total_res`.

    Attributes
    ----------
    data_res : int
        Elements that carry codes.
    pilot_res : int
        Elements of pilots.
    guard_res : int
        Guard carriers, on all symbols.
    idle_res : int
        Elements of the last slot that the codes leave empty and another user may take.
    total_res : int
        num_symbols times fft_size.
    num_slots, num_symbols : int
    duration_s : float
        Time on air of these symbols, cyclic prefixes included [s].
    energy : float
        Transmitted energy in units of one resource element's mean transmit power; idle and guard elements are silent.
    num_reals : int
        Real numbers carried.
    """

    data_res: int
    pilot_res: int
    guard_res: int
    idle_res: int
    total_res: int
    num_slots: int
    num_symbols: int
    duration_s: float
    energy: float
    num_reals: int

    def __post_init__(self):
        parts = self.data_res + self.pilot_res + self.guard_res + self.idle_res
        if parts != self.total_res:
            raise ValueError(f"the ledger's parts add up to {parts} resource elements, the grid has {self.total_res}")

    @property
    def channel_uses(self) -> int:
        """Complex channel uses that are spent: data and pilots. A real channel use is half a complex one."""
        return self.data_res + self.pilot_res

    def as_dict(self) -> dict:
        """All entries by name."""
        return asdict(self)


def analog_ledger(config: LinkConfig, grid: TokenGrid) -> Ledger:
    """The ledger of one example on `grid`."""
    num_pilots = len(grid.pilot_symbols) * len(grid.subcarriers)
    num_free = (grid.num_symbols - len(grid.pilot_symbols)) * len(grid.subcarriers)
    num_reals = grid.num_tokens * grid.width
    return Ledger(
        data_res=grid.num_res,
        pilot_res=num_pilots,
        guard_res=grid.num_symbols * (grid.fft_size - len(grid.subcarriers)),
        idle_res=num_free - grid.num_res,
        total_res=grid.num_symbols * grid.fft_size,
        num_slots=grid.num_slots,
        num_symbols=grid.num_symbols,
        duration_s=grid.num_symbols * config.symbol_duration,
        energy=num_reals * grid.scale**2 + num_pilots,
        num_reals=num_reals,
    )
