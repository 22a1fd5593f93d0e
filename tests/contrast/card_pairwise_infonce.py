"""The card of pairwise_infonce."""

import math

import torch

from motionops.contrast import pairwise_infonce_reference
from tests.contrast.memory import mebibytes
from tests.contrast.samples import pairwise_sample
from tests.operators.card import Card

WRONG = [
    ({"query": torch.ones(4)}, ValueError, r"query must be \[N, D >= 1\], got \[4\]"),
    ({"query": torch.ones(4, 0)}, ValueError, r"query must be \[N, D >= 1\], got \[4, 0\]"),
    ({"query": torch.ones(4, 5).int()}, TypeError, "query must be float32, .*, got int32"),
    ({"query": "text"}, TypeError, "query must be a tensor"),
    ({"key": torch.ones(3, 5)}, ValueError, r"key must be \[M >= N=4, D=5\], got \[3, 5\]"),
    ({"key": torch.ones(4, 6)}, ValueError, r"key must be \[M >= N=4, D=5\], got \[4, 6\]"),
    ({"key": torch.ones(4, 5).bool()}, TypeError, "key must be float32, .*, got bool"),
    ({"key_ids": None}, ValueError, "query_ids and key_ids must be given together, got only query_ids"),
    ({"query_ids": None}, ValueError, "query_ids and key_ids must be given together, got only key_ids"),
    ({"query_ids": torch.ones(4).int()}, TypeError, "query_ids must be int64, got int32"),
    ({"query_ids": torch.ones(5).long()}, ValueError, r"query_ids must be \[N=4\], got \[5\]"),
    ({"key_ids": torch.ones(4).long()}, ValueError, r"key_ids must be \[M=9\], got \[4\]"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
]
STREAMED, IN_PANELS = 5, 130  # widths that the GPU takes one way and the other


def allowed(rows, dim, *, ids=False):
    """Two leaves, two gradients, the saved expected key, partial results: some times the features, and a constant."""

    def mib(backend):
        constant = 64 if dim == IN_PANELS and backend == "cuda" else 8  # of a panel's weights
        return min(mebibytes(rows, rows) / 2, constant + 12 * mebibytes(rows, dim))

    return lambda seed: pairwise_sample(rows, rows, dim, ids=ids, seed=seed), mib


CARD = Card(
    op="pairwise_infonce",
    reference=pairwise_infonce_reference,
    samples={
        "streamed": lambda seed: pairwise_sample(6, 9, STREAMED, seed=seed),
        "in panels": lambda seed: pairwise_sample(6, 9, IN_PANELS, seed=seed),
        "streamed, ids": lambda seed: pairwise_sample(6, 9, STREAMED, ids=True, seed=seed),
        "in panels, ids": lambda seed: pairwise_sample(6, 9, IN_PANELS, ids=True, seed=seed),
        "in panels, a tensor's temperature": lambda seed: (
            pairwise_sample(6, 9, IN_PANELS, seed=seed) | {"temperature": torch.tensor(0.25)}
        ),
    },
    large={
        "many rows": lambda seed: pairwise_sample(300, 700, 40, seed=seed),
        "many rows, wide": lambda seed: pairwise_sample(300, 1000, 128, seed=seed),
        "many rows in panels": lambda seed: pairwise_sample(300, 1000, 512, seed=seed),
        "many rows, ids": lambda seed: pairwise_sample(300, 700, 40, ids=True, seed=seed),
        "many rows in panels, ids": lambda seed: pairwise_sample(300, 1000, 512, ids=True, seed=seed),
    },
    learns=("query", "key", "temperature"),
    features=("query", "key"),
    without={torch.float64: ("key",)},
    unaligned={"rtol": 1e-6, "atol": 1e-8},
    threads={"rtol": 1e-5, "atol": 1e-7},
    right=lambda: pairwise_sample(4, 9, 5, ids=True),
    wrong=WRONG,
    # logits of 16 and 256 MiB
    frugal=[
        allowed(2048, 16),
        allowed(8192, 16),
        allowed(8192, 16, ids=True),
        allowed(8192, IN_PANELS),
        allowed(8192, IN_PANELS, ids=True),
    ],
)
