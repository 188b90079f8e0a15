"""Fixtures by Sionna 2.2: paths of CDL with the draws behind them, transport blocks over LDPC, polar words.

Sionna 2 is written for PyTorch and asks for another h5py than this project, so it needs an environment of its own:

    python3 -m venv /tmp/sionna2
    /tmp/sionna2/bin/pip install sionna==2.2.0 torch==2.13.0
    /tmp/sionna2/bin/python tests/phy/golden/make_golden.py

The files beside this one, `cdl.npz` and `words.npz`, are its output. `tests/phy/test_golden.py` reads them.
"""

from pathlib import Path

import numpy as np
import sionna
import torch
from sionna.phy import config
from sionna.phy.channel import cir_to_ofdm_channel
from sionna.phy.channel.tr38901 import CDL, PanelArray
from sionna.phy.fec.crc import CRCEncoder
from sionna.phy.fec.ldpc import LDPC5GEncoder
from sionna.phy.fec.polar import Polar5GEncoder

ANGLES = ("aoa", "aod", "zoa", "zod")
FOLDER = Path(__file__).parent
CARRIER, DELAY_SPREAD, SPEED, NUM_LINKS = 3.5e9, 100e-9, 20.0, 2
NUM_TIMES, RATE = 2, 2e3  # the second time is a slot of 0.5 ms after the first
TONES = np.array([-3.84e6, -30e3, 0.0, 1.5e6, 3.81e6])
# Arguments of `TransportFormat.of`: bytes, bits per symbol, code rate, whether a header tells the number of bytes; then
# what it answers: block and CRC bits, number of blocks, and k, mother bits and n of each.
BLOCKS = (
    ((12, 2, 0.5, True), (120, 16, 1, 136, 272, 272)),
    ((7, 2, 0.1, False), (56, 16, 1, 72, 360, 720)),
    ((100, 4, 0.8, True), (832, 16, 1, 848, 1060, 1060)),
    ((1200, 6, 0.75, True), (10240, 24, 2, 5156, 6876, 6876)),
)
LDPC = ((40, 80, 2), (120, 600, 2), (500, 752, 4), (1056, 1320, 6), (4000, 6000, 2))  # k, n, bits per symbol
POLAR = ((20, 64), (32, 64), (40, 640), (60, 200), (140, 576), (200, 400), (500, 1000))  # k without CRC, n


def panel(num_ant, pattern):
    """The panel of `phy.antennas.panel`."""
    dual = num_ant % 2 == 0
    return PanelArray(
        num_rows_per_panel=1,
        num_cols_per_panel=num_ant // 2 if dual else num_ant,
        polarization="dual" if dual else "single",
        polarization_type="cross" if dual else "V",
        antenna_pattern=pattern,
        carrier_frequency=CARRIER,
        precision="double",
    )


def paths(profile, direction):
    """Paths between a terminal with 2 antennas and a base with 4; draws, coefficients, delays, H on `TONES`."""
    model = CDL(
        *(profile, DELAY_SPREAD, CARRIER, panel(2, "omni"), panel(4, "38.901"), direction),
        min_speed=SPEED,
        max_speed=SPEED,
        precision="double",
        spec_version="16.1",
    )
    drawn, shuffle, phases, velocity = [], model._shuffle_angles, model._cir_gen._step_10, model._get_velocity

    def shuffled(angles):
        state = model.torch_rng.get_state()
        result = shuffle(angles)
        model.torch_rng.set_state(state)  # the same permutation once more, of the numbers 0 … 19
        drawn.append(shuffle(torch.arange(20.0, dtype=torch.float64).expand(angles.shape))[:, 0, 0])
        return result

    def kept(draw):
        def drawing(*args):
            drawn.append(draw(*args))
            return drawn[-1]

        return drawing

    model._shuffle_angles, model._cir_gen._step_10 = shuffled, kept(phases)
    model._get_velocity = kept(velocity)
    a, tau = model(NUM_LINKS, NUM_TIMES, RATE)
    h = cir_to_ofdm_channel(torch.tensor(TONES), a, tau)
    speeds, aoa, aod, zoa, zod, phase = (part.numpy() for part in drawn)
    return {
        "velocity": speeds.astype(np.float32),
        **{name: part.astype(np.uint8) for name, part in zip(ANGLES, (aoa, aod, zoa, zod), strict=True)},
        "phase": phase[:, 0, 0].astype(np.float32),
        "a": a.numpy()[:, 0, :, 0].astype(np.complex64),  # [links, rx, tx, paths, times]
        "tau": tau.numpy()[0, 0, 0],
        "h": h.numpy()[:, 0, :, 0].astype(np.complex64),  # [links, rx, tx, times, tones]
    }


def bits(*shape):
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(sum(shape))).float()


def packed(words):
    return np.packbits(words.numpy().astype(np.uint8), axis=-1)


def transport_block(arguments, form):
    """Bytes and the coded bits of their transport block."""
    num_bytes, bits_per_symbol, _, header = arguments
    block_bits, crc_bits, num_blocks, k, mother_bits, n = form
    payload = np.random.default_rng(num_bytes).integers(256, size=num_bytes, dtype=np.uint8)
    length = np.frombuffer(num_bytes.to_bytes(3, "big"), np.uint8)
    sent = np.unpackbits(np.append(length, payload) if header else payload)
    block = torch.zeros(1, block_bits)
    block[0, : len(sent)] = torch.tensor(sent, dtype=torch.float32)
    blocks = CRCEncoder("CRC16" if crc_bits == 16 else "CRC24A")(block).reshape(num_blocks, -1)
    if num_blocks > 1:
        blocks = CRCEncoder("CRC24B")(blocks)
    words = LDPC5GEncoder(k, mother_bits, num_bits_per_symbol=bits_per_symbol)(blocks)
    return payload, packed(words[:, torch.arange(n) % mother_bits].flatten())


def main():
    """Write both files."""
    if not sionna.__version__.startswith("2.2"):
        raise RuntimeError(f"these fixtures are made by Sionna 2.2, this is {sionna.__version__}: see the docstring")
    config.seed = 38901
    versions = {"versions": f"sionna {sionna.__version__}, torch {torch.__version__}, numpy {np.__version__}"}
    cdl = versions | {"tones": TONES}
    for profile in "ACDE":
        for direction in ("uplink", "downlink"):
            cdl |= {f"{profile} {direction} {name}": part for name, part in paths(profile, direction).items()}
    words = dict(versions)
    for k, n, bits_per_symbol in LDPC:
        sent, name = bits(2, k), f"ldpc {k} {n} {bits_per_symbol}"
        encode = LDPC5GEncoder(k, n, num_bits_per_symbol=bits_per_symbol)
        words |= {f"{name} in": packed(sent), name: packed(encode(sent))}
    for k, n in POLAR:
        for channel in ("uplink", "downlink"):
            if channel == "uplink" or (k <= 140 and n <= 576):
                sent, name = bits(2, k), f"polar {k} {n} {channel}"
                encode = Polar5GEncoder(k, n, channel_type=channel)
                words |= {f"{name} in": packed(sent), name: packed(encode(sent))}
    for arguments, form in BLOCKS:
        payload, word = transport_block(arguments, form)
        name = "block {} {} {} {:d}".format(*arguments)
        words |= {f"{name} in": payload, f"{name} form": np.array(form), name: word}
    np.savez_compressed(FOLDER / "cdl.npz", **cdl)
    np.savez_compressed(FOLDER / "words.npz", **words)


if __name__ == "__main__":
    main()
