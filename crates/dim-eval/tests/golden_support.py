"""What the scripts share that write golden files: weights computed from names, and images of a pattern."""

import numpy as np
import torch

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def weights(name, shape, seed, centre, half):
    """Numbers around a centre: splitmix64 of the name's FNV-1a hash and the seed, as crates/dim-model/src/procedural.rs has it."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    key ^= seed * GOLDEN & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy((unit * half + centre).astype(np.float32)).reshape(shape)


def pattern(rows, columns):
    """Pixels of two images, `[image, channel, row, column]`, U8."""
    n, c, i, j = np.ogrid[:2, :3, :rows, :columns]
    return torch.from_numpy(((i * i * 3 // 7 + j * (5 + n) + c * 31 + i * j // (5 + c) + n * 17) % 256).astype(np.uint8))
