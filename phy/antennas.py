"""Antenna panels of both ends."""

from sionna.phy.channel.tr38901 import PanelArray


def panel(num_ant: int, carrier_frequency: float, pattern: str) -> PanelArray:
    """A horizontal row of antennas, half a wavelength apart.

    Parameters
    ----------
    num_ant : int
        Number of antennas. Even: pairs of cross-polarised elements, slanted by 45 degrees either way. Odd: vertical
        elements.
    carrier_frequency : float, [Hz]
    pattern : {"omni", "38.901"}
        Radiation pattern of the elements, 3GPP TR 38.901, table 7.3-1.
    """
    dual = num_ant % 2 == 0
    return PanelArray(
        num_rows_per_panel=1,
        num_cols_per_panel=num_ant // 2 if dual else num_ant,
        polarization="dual" if dual else "single",
        polarization_type="cross" if dual else "V",
        antenna_pattern=pattern,
        carrier_frequency=carrier_frequency,
        precision="single",
    )
