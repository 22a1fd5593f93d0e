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
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
]
STREAMED, IN_PANELS = 5, 130  # widths that the GPU takes one way and the other


def allowed(rows, dim):
    """Two leaves, two gradients, the saved expected key, partial results: some times the features, and a constant."""

    def mib(backend):
        constant = 64 if dim == IN_PANELS and backend == "cuda" else 8  # of a panel's weights
        return min(mebibytes(rows, rows) / 2, constant + 12 * mebibytes(rows, dim))

    return lambda seed: pairwise_sample(rows, rows, dim, seed=seed), mib


CARD = Card(
    op="pairwise_infonce",
    reference=pairwise_infonce_reference,
    samples={
        "streamed": lambda seed: pairwise_sample(6, 9, STREAMED, seed=seed),
        "in panels": lambda seed: pairwise_sample(6, 9, IN_PANELS, seed=seed),
        "in panels, a tensor's temperature": lambda seed: (
            pairwise_sample(6, 9, IN_PANELS, seed=seed) | {"temperature": torch.tensor(0.25)}
        ),
    },
    large={
        "many rows": lambda seed: pairwise_sample(300, 700, 40, seed=seed),
        "many rows, wide": lambda seed: pairwise_sample(300, 1000, 128, seed=seed),
        "many rows in panels": lambda seed: pairwise_sample(300, 1000, 512, seed=seed),
    },
    learns=("query", "key", "temperature"),
    features=("query", "key"),
    without={torch.float64: ("key",)},
    unaligned={"rtol": 1e-6, "atol": 1e-8},
    threads={"rtol": 1e-5, "atol": 1e-7},
    right=lambda: pairwise_sample(4, 9, 5),
    wrong=WRONG,
    frugal=[allowed(2048, 16), allowed(8192, 16), allowed(8192, IN_PANELS)],  # logits of 16 and 256 MiB
)
