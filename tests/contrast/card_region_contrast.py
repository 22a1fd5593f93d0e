"""The card of region_contrast."""

import math

import torch

from motionops.contrast import region_contrast_reference
from tests.contrast.memory import mebibytes
from tests.contrast.samples import region_sample
from tests.operators.card import Card

WRONG = [
    ({"query": torch.ones(2, 4)}, ValueError, "query"),
    ({"query": torch.ones(2, 2, 1, 2, 1, 4).int()}, TypeError, "query"),
    ({"query": "text"}, TypeError, "query"),
    ({"key": torch.ones(2, 2, 1, 2, 5)}, ValueError, "key"),
    (
        {"key": torch.ones(1, 2, 1, 2, 4)},
        ValueError,
        r"key must be \[M >= B=2, t' >= 1, .* D=4\], got \[1, 2, 1, 2, 4\]",
    ),
    ({"key": torch.ones(3, 2, 1, 2, 4)}, ValueError, r"key_extent must be \[M=3, 3, 2\], got \[2, 3, 2\]"),
    ({"rows": "some"}, ValueError, "rows must be one of all, overlapping, got 'some'"),
    ({"rows": 3}, ValueError, "rows must be one of all, overlapping, got 3"),
    ({"query_extent": torch.ones(2, 2, 3)}, ValueError, "query_extent"),
    ({"key_extent": torch.ones(1, 3, 2)}, ValueError, "key_extent"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
]


def allowed(batch):
    """Some times the features, and a constant; the logits are 16 and 256 MiB, S of a video alone is 256 KiB."""
    grid, dim = (4, 8, 8), 16
    rows = batch * math.prod(grid)
    return (
        lambda seed: region_sample(batch, 1, grid, grid, dim, seed=seed),
        lambda backend: min(mebibytes(rows, rows) / 2, 8 + 12 * mebibytes(rows, dim)),
    )


CARD = Card(
    op="region_contrast",
    reference=region_contrast_reference,
    samples={
        "views": lambda seed: region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5, seed=seed),
        "more keys": lambda seed: (
            region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5, key_batch=4, seed=seed)
            | {"temperature": torch.tensor(0.25), "rows": "overlapping"}
        ),
    },
    large={"large": lambda seed: region_sample(6, 3, (2, 4, 4), (4, 5, 4), 128, seed=seed)},
    learns=("query", "key", "temperature"),
    features=("query", "key"),
    without={torch.float64: ("key",)},
    one_alone={"rtol": 1e-5, "atol": 1e-7},
    threads={"rtol": 1e-5, "atol": 1e-7},
    right=lambda: region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4),
    wrong=WRONG,
    frugal=[allowed(8), allowed(32)],
)
