"""The card of motion_map."""

import torch

from motionops.flow.motion_map import motion_map_reference
from tests.flow.samples import DTYPES, flow_sample
from tests.operators.card import Card

FLOW = flow_sample(1, 3, 2, 4, 5)
WRONG = [
    ({"flow": FLOW[0, 0]}, ValueError, r"flow must be \[..., T, 2, H, W\], got \[2, 4, 5\]"),
    ({"flow": FLOW[:, :, :1]}, ValueError, r"flow must be \[..., T, 2, H, W\], got \[1, 3, 1, 4, 5\]"),
    ({"flow": FLOW.int()}, TypeError, "flow must be float32, .*, got int32"),
    ({"flow": [[0.5]]}, TypeError, "flow must be a tensor or an array .*, got list"),
    ({"grid": (2, 2, 1)}, ValueError, r"grid must divide T=3 .*, got \[2, 2, 1\]"),
    ({"grid": (3, 3, 1)}, ValueError, r"grid must divide H=4 .*, got \[3, 3, 1\]"),
    ({"grid": (3, 2, 10)}, ValueError, r"grid must divide W=5 .*, got \[3, 2, 10\]"),
    ({"grid": (1, 0, 1)}, ValueError, r"grid must divide H=4 .*, got \[1, 0, 1\]"),
    ({"grid": (1, 1, -5)}, ValueError, r"grid must divide W=5 .*, got \[1, 1, -5\]"),
    ({"flow": FLOW[..., :0], "grid": (1, 1, 1)}, ValueError, "grid must divide W=0"),
    ({"grid": (2, 2)}, ValueError, r"grid must be three whole numbers .*, got \(2, 2\)"),
    ({"grid": (1.0, 2, 1)}, TypeError, r"grid must be three whole numbers .*, got \(1.0, 2, 1\)"),
    ({"grid": 2}, TypeError, "grid must be three whole numbers .*, got 2"),
]


def sample(*shape, grid=None):
    return lambda seed: {"flow": flow_sample(*shape, seed=seed), "grid": grid}


def alike(dtype):
    eps = torch.finfo(dtype).eps
    return {"rtol": 8 * eps, "atol": 32 * eps}


CARD = Card(
    op="motion_map",
    reference=motion_map_reference,
    samples={
        "whole": sample(2, 3, 2, 7, 9),
        "blocks": sample(2, 3, 2, 6, 8, grid=(1, 2, 4)),
        "columns": sample(2, 3, 2, 7, 9, grid=(3, 1, 3)),
    },
    large={
        "frames": sample(2, 8, 2, 90, 57),
        "frames in blocks": sample(2, 8, 2, 90, 57, grid=(1, 30, 1)),
        "rows": sample(1, 1, 2, 300, 64),
        "rows in blocks": sample(1, 1, 2, 300, 64, grid=(1, 30, 1)),
        "tiles": sample(1, 2, 2, 40, 36, grid=(1, 4, 4)),
    },
    learns=("flow",),
    features=("flow",),
    alike=alike,
    alike_in=DTYPES,
    right=lambda: {"flow": FLOW},
    wrong=WRONG,
)
