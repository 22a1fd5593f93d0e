"""Motion vectors for tests and benchmarks: random blocks, and those of an encoder that covers the picture."""

import numpy as np
import torch


def random_vectors(count, frames, height, width, seed=0):
    """int32 `[count, 9]`: blocks of any size, partly outside, on one another, in any order, some of no frame."""
    random = np.random.default_rng(seed)
    columns = [
        random.integers(-1, frames + 2, count),
        random.choice([-2, -1, 1, 3], count),
        random.integers(1, 20, count),
        random.integers(1, 20, count),
        random.integers(-12, width + 12, count),
        random.integers(-12, height + 12, count),
        random.integers(-99, 100, count),
        random.integers(-99, 100, count),
        random.choice([1, 2, 4], count),
    ]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))


def covering_vectors(frames, height, width, block=16, seed=0):
    """int32 `[N, 9]`: a P-frame's quarter-pixel vectors of one size of block, each pixel in one block."""
    random = np.random.default_rng(seed)
    frame, y, x = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(frames), np.arange(0, height, block), np.arange(0, width, block), indexing="ij"
        )
    )
    ones = np.ones_like(frame)
    motion = random.integers(-40, 41, (2, len(frame)))
    columns = [frame, -ones, block * ones, block * ones, x + block // 2, y + block // 2, *motion, 4 * ones]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))
