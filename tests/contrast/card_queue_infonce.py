"""The card of queue_infonce."""

import math

import torch

from motionops.contrast import queue_infonce_reference
from tests.contrast.memory import mebibytes
from tests.contrast.samples import queue_sample
from tests.operators.card import Card

WRONG = [
    ({"query": torch.ones(4)}, ValueError, r"query must be \[B, D >= 1\], got \[4\]"),
    ({"query": torch.ones(4, 0)}, ValueError, r"query must be \[B, D >= 1\], got \[4, 0\]"),
    ({"query": torch.ones(4, 5).int()}, TypeError, "query must be float32, .*, got int32"),
    ({"query": "text"}, TypeError, "query must be a tensor"),
    ({"key": torch.ones(3, 5)}, ValueError, r"key must be \[B=4, D=5\], got \[3, 5\]"),
    ({"key": torch.ones(4, 5).bool()}, TypeError, "key must be float32, .*, got bool"),
    ({"queue": torch.ones(5, 9)}, ValueError, r"queue must be \[K, D=5\], got \[5, 9\]"),
    ({"queue": torch.ones(5)}, ValueError, r"queue must be \[K, D=5\], got \[5\]"),
    ({"queue": torch.ones(9, 5).long()}, TypeError, "queue must be float32, .*, got int64"),
    ({"extra_negatives": torch.ones(2, 4)}, ValueError, r"extra_negatives must be \[E, D=5\], got \[2, 4\]"),
    ({"extra_negatives": torch.ones(2, 5).int()}, TypeError, "extra_negatives must be float32, .*, got int32"),
    ({"query_ids": None}, ValueError, "query_ids and queue_ids must be given together, got only queue_ids"),
    ({"queue_ids": None}, ValueError, "query_ids and queue_ids must be given together, got only query_ids"),
    ({"query_ids": torch.zeros(4).int()}, TypeError, "query_ids must be int64, got int32"),
    ({"queue_ids": torch.zeros(9)}, TypeError, "queue_ids must be int64, got float32"),
    ({"query_ids": torch.zeros(5).long()}, ValueError, r"query_ids must be \[B=4\], got \[5\]"),
    ({"queue_ids": torch.zeros(9, 1).long()}, ValueError, r"queue_ids must be \[K=9\], got \[9, 1\]"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": -0.1}, ValueError, "temperature must be finite and above 0, got -0.1"),
    ({"temperature": "warm"}, TypeError, "temperature must be a number, got 'warm'"),
    ({"temperature": torch.ones(2)}, TypeError, "temperature must be a number, got tensor"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
    ({"temperature": math.inf}, ValueError, "temperature must be finite and above 0, got inf"),
]


def right():
    ids = {"query_ids": torch.zeros(4).long(), "queue_ids": torch.zeros(9).long()}
    return {**queue_sample(4, 9, 5, extra_rows=2), **ids}


CARD = Card(
    op="queue_infonce",
    reference=queue_infonce_reference,
    samples={
        "plain": lambda seed: queue_sample(4, 9, 5, seed=seed),
        "a tensor's temperature": lambda seed: queue_sample(3, 7, 5, seed=seed) | {"temperature": torch.tensor(0.25)},
        "ids and extras": lambda seed: queue_sample(6, 20, 8, extra_rows=4, ids=True, seed=seed),
    },
    large={"large": lambda seed: queue_sample(40, 3000, 128, extra_rows=9, ids=True, seed=seed)},
    learns=("query", "key", "temperature"),
    features=("query", "key", "queue", "extra_negatives"),
    without={torch.float64: ("queue",)},
    threads={"rtol": 1e-5, "atol": 1e-7},
    right=right,
    wrong=WRONG,
    frugal=[
        # logits of 64 MiB, of which a part is left as partial results
        (
            lambda seed: queue_sample(1024, 16384, 16, extra_rows=7),
            lambda backend: min(mebibytes(1024, 16384) / 2, 8 + 12 * mebibytes(16384, 16)),
        )
    ],
)
