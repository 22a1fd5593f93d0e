"""The card of soft_correspondence."""

import torch

from motionops.geometry import soft_correspondence_reference
from tests.geometry.samples import random_views
from tests.operators.card import Card

UNCOUNTABLE = r"query_grid and key_grid must make a result of less than 2\^63 bytes, got .* for B=2"
WRONG = [
    ({"query_extent": torch.ones(2, 3)}, ValueError, r"query_extent must be \[B, 3, 2\], got \[2, 3\]"),
    ({"key_extent": torch.ones(1, 3, 2)}, ValueError, r"key_extent must be \[B=2, 3, 2\], got \[1, 3, 2\]"),
    ({"query_extent": torch.ones(2, 3, 2).int()}, TypeError, "query_extent must be float32 or float64, got int32"),
    ({"key_extent": torch.ones(2, 3, 2).half()}, TypeError, "key_extent must be float32 or float64, got float16"),
    ({"query_grid": (1, 0, 2)}, ValueError, r"query_grid must be \(t, h, w\), each at least 1, got \[1, 0, 2\]"),
    ({"key_grid": (1, 2)}, ValueError, r"key_grid must be three whole numbers \(t, h, w\), got \(1, 2\)"),
    # 2513055 · 2468295 · 2973861 = 2^64 + 1918109: counted in 64 bits it would be a small grid
    ({"query_grid": (2513055, 2468295, 2973861)}, ValueError, UNCOUNTABLE),
    ({"query_grid": (1, 2**32, 2**32)}, ValueError, UNCOUNTABLE),
    ({"key_grid": (1, 7, 0x6DB6DB6DB6DB6DB7)}, ValueError, UNCOUNTABLE),
    ({"key_grid": 3}, TypeError, r"key_grid must be three whole numbers \(t, h, w\), got 3"),
    ({"query_grid": (1, 2.5, 2)}, TypeError, r"query_grid must be three whole numbers \(t, h, w\), got \(1, 2.5, 2\)"),
]


def sample(count, query_grid, key_grid, dtype=torch.float32):
    def arguments(seed):
        query, key = (random_views(count, seed=2 * seed + number).to(dtype) for number in (0, 1))
        return {"query_extent": query, "key_extent": key, "query_grid": query_grid, "key_grid": key_grid}

    return arguments


CARD = Card(
    op="soft_correspondence",
    reference=soft_correspondence_reference,
    samples={"views": sample(4, (2, 3, 2), (3, 2, 4)), "float64": sample(2, (1, 2, 2), (2, 1, 3), torch.float64)},
    large={"large": sample(20, (2, 3, 2), (3, 2, 4)), "many cells": sample(9, (4, 7, 7), (4, 7, 7))},
    features=("query_extent", "key_extent"),
    types=(torch.float32, torch.float64),
    near=lambda dtype: {"rtol": 1e-6, "atol": 1e-12},
    alike=lambda dtype: {"rtol": 1e-6, "atol": 1e-9},
    right=lambda: sample(2, (1, 2, 2), (1, 2, 2))(0),
    wrong=WRONG,
)
