"""The card of frame_difference."""

import numpy as np
import torch

from motionops.flow.frame_difference import frame_difference_reference
from tests.flow.samples import DTYPES, clip_sample
from tests.operators.card import EXACT, Card

CLIP = clip_sample(1, 3, 4, 5, 6)
WRONG = [
    ({"clip": CLIP[0]}, ValueError, r"clip must be \[B, C, T, H, W\], got \[3, 4, 5, 6\]"),
    ({"clip": (255 * CLIP).byte()}, TypeError, "clip must be float32, .*, got uint8"),
    ({"first": "zero"}, ValueError, 'first must be "wrap" or "repeat", got \'zero\''),
    ({"first": 0}, ValueError, 'first must be "wrap" or "repeat", got 0'),
    ({"clip": [[0.5]]}, TypeError, "clip must be a tensor or an array .*, got list"),
    ({"clip": np.array(["a"])}, TypeError, "clip must be an array that torch can share"),
]


def sample(*shape, first="wrap"):
    return lambda seed: {"clip": clip_sample(*shape, seed=seed), "first": first}


CARD = Card(
    op="frame_difference",
    reference=frame_difference_reference,
    samples={
        "wrap": sample(2, 3, 4, 6, 8),
        "repeat": sample(2, 3, 4, 6, 8, first="repeat"),
        "odd, wrap": sample(2, 3, 5, 7, 9),
        "odd, repeat": sample(2, 3, 5, 7, 9, first="repeat"),
    },
    large={"large": sample(3, 3, 8, 40, 57), "large, repeat": sample(3, 3, 8, 40, 57, first="repeat")},
    learns=("clip",),
    features=("clip",),
    near=lambda dtype: EXACT,
    alike=lambda dtype: EXACT,
    alike_in=DTYPES,
    laid_out=lambda result, arguments: result.stride() == torch.empty_like(arguments["clip"]).stride(),
    right=lambda: {"clip": CLIP},
    wrong=WRONG,
)
