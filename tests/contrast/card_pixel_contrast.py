"""The card of pixel_contrast."""

import math

import torch

from motionops.contrast import pixel_contrast_reference
from tests.contrast.memory import mebibytes
from tests.contrast.samples import pixel_sample
from tests.operators.card import Card

WRONG = [
    ({"query": torch.ones(2, 3, 4, 5)}, ValueError, r"query must be \[B, T, H, W, D >= 1\], got \[2, 3, 4, 5\]"),
    ({"query": torch.ones(2, 1, 3, 4, 0)}, ValueError, r"query must be \[B, T, H, W, D >= 1\], got \[2, 1, 3, 4, 0\]"),
    ({"query": torch.ones(2, 1, 3, 4, 5).int()}, TypeError, "query must be float32, .*, got int32"),
    ({"query": None}, TypeError, "query must be a tensor"),
    (
        {"key": torch.ones(2, 1, 4, 3, 5)},
        ValueError,
        r"key must be \[M >= B=2, T=1, H=3, W=4, D=5\], got \[2, 1, 4, 3, 5\]",
    ),
    ({"key": torch.ones(2, 1, 3, 4, 5).bool()}, TypeError, "key must be float32, .*, got bool"),
    ({"query_extent": torch.ones(2, 2, 2)}, ValueError, r"query_extent must be \[B=2, 3, 2\], got \[2, 2, 2\]"),
    ({"key_extent": torch.ones(3, 3, 2)}, ValueError, r"key_extent must be \[M=2, 3, 2\], got \[3, 3, 2\]"),
    ({"key": torch.ones(1, 1, 3, 4, 5)}, ValueError, r"key must be \[M >= B=2, .*\], got \[1, 1, 3, 4, 5\]"),
    ({"key": torch.ones(3, 1, 3, 4, 5)}, ValueError, r"key_extent must be \[M=3, 3, 2\], got \[2, 3, 2\]"),
    ({"query_extent": torch.ones(2, 3, 2).int()}, TypeError, "query_extent must be float32, .*, got int32"),
    ({"query_mask": torch.ones(2, 3, 4)}, TypeError, "query_mask must be bool, got float32"),
    ({"key_mask": torch.ones(2, 3, 4).int()}, TypeError, "key_mask must be bool, got int32"),
    (
        {"query_mask": torch.ones(2, 4, 3).bool()},
        ValueError,
        r"query_mask must be \[B=2, H=3, W=4\] or \[B=2, T=1, H=3, W=4\], got \[2, 4, 3\]",
    ),
    ({"key_mask": torch.ones(2, 12).bool()}, ValueError, r"key_mask must be \[B=2, H=3, W=4\] or .*, got \[2, 12\]"),
    ({"query_mask": torch.ones(2, 2, 3, 4).bool()}, ValueError, r"query_mask must be .*, got \[2, 2, 3, 4\]"),
    ({"key_mask": torch.ones(3, 1, 3, 4).bool()}, ValueError, r"key_mask must be .*, got \[3, 1, 3, 4\]"),
    ({"negatives": torch.ones(5, 6)}, ValueError, r"negatives must be \[K, D=5\], got \[5, 6\]"),
    ({"negatives": torch.ones(6, 5).long()}, TypeError, "negatives must be float32, .*, got int64"),
    ({"radius": 0.0}, ValueError, "radius must be finite and above 0, got 0"),
    ({"radius": math.nan}, ValueError, "radius must be finite and above 0, got nan"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": -1.0}, ValueError, "temperature must be finite and above 0, got -1"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
    ({"temperature": math.inf}, ValueError, "temperature must be finite and above 0, got inf"),
]

CARD = Card(
    op="pixel_contrast",
    reference=pixel_contrast_reference,
    samples={
        "plain": lambda seed: pixel_sample(2, 2, 3, 3, 5, seed=seed),
        "masks and negatives": lambda seed: pixel_sample(2, 2, 2, 3, 6, negative_rows=7, masks=True, seed=seed),
        "more keys": lambda seed: (
            pixel_sample(2, 2, 2, 3, 6, key_batch=4, masks=True, of_frames=("query_mask",), seed=seed)
            | {"temperature": torch.tensor(0.25)}
        ),
    },
    large={"large": lambda seed: pixel_sample(4, 2, 7, 7, 64, negative_rows=999, masks=True, seed=seed)},
    learns=("query", "key", "temperature"),
    features=("query", "key", "negatives"),
    without={torch.float64: ("key", "negatives")},
    threads={"rtol": 1e-5, "atol": 1e-7},
    right=lambda: pixel_sample(2, 1, 3, 4, 5, negative_rows=6, masks=True),
    wrong=WRONG,
    frugal=[
        # logits of 64 MiB, and as much again for the distances
        (
            lambda seed: pixel_sample(8, 2, 16, 16, 16, masks=True),
            lambda backend: min(mebibytes(4096, 4096) / 2, 8 + 12 * mebibytes(4096, 16)),
        )
    ],
)
