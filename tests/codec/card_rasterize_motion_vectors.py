"""The card of rasterize_motion_vectors."""

import torch

from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors_reference
from tests.codec.samples import covering_vectors, random_vectors
from tests.operators.card import Card

WRONG = [
    ({"vectors": torch.ones(3, 9)}, TypeError, "vectors must be int32, got float32"),
    ({"vectors": torch.ones(3, 7).int()}, ValueError, r"vectors must be \[N, 9\] \(frame, source, w.*got \[3, 7\]"),
    ({"vectors": torch.ones(9).int()}, ValueError, r"vectors must be \[N, 9\].*got \[9\]"),
    ({"vectors": "file.mp4"}, TypeError, "vectors must be a tensor or an array with __dlpack__"),
    ({"frames": -1}, ValueError, "frames must be from 0 to .*got -1"),
    ({"height": -1}, ValueError, "height must be from 0 to .*got -1"),
    ({"width": 2**40}, ValueError, "width must be from 0 to .*got 1099511627776"),
    ({"cell": 0}, ValueError, "cell must be from 1 to .*got 0"),
]


def sample(count, frames, height, width, **options):
    return lambda seed: {
        "vectors": random_vectors(count, frames, height, width, seed=seed),
        "frames": frames,
        "height": height,
        "width": width,
        **options,
    }


CARD = Card(
    op="rasterize_motion_vectors",
    reference=rasterize_motion_vectors_reference,
    samples={"vectors": sample(50, 3, 30, 30), "fine": sample(20, 2, 16, 24, cell=4)},
    large={"large": sample(500, 6, 60, 90), "squares": sample(200, 4, 64, 64)},
    features=("vectors",),
    types=(torch.int32, torch.int64),
    near=lambda dtype: {"rtol": 1e-6, "atol": 1e-7},
    alike=lambda dtype: {"rtol": 1e-6, "atol": 1e-7},
    alike_in=(torch.int32,),
    right=lambda: {"vectors": covering_vectors(1, 16, 16), "frames": 1, "height": 16, "width": 16},
    wrong=WRONG,
)
