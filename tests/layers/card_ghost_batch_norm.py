"""The card of ghost_batch_norm."""

import numpy as np
import torch

from motionops.layers.ghost_batch_norm import ghost_batch_norm_reference
from tests.layers.samples import features_sample
from tests.operators.card import Card

X, C = torch.rand(4, 3, 2), torch.rand(3)
WRONG = [
    ({"input": X[0, 0]}, ValueError, r"input must be \[N, C, \.\.\.\], got \[2\]"),
    ({"input": X.int()}, TypeError, "input must be float32, .*, got int32"),
    ({"weight": C[:2]}, ValueError, r"weight must be \[C=3\], got \[2\]"),
    ({"weight": C, "bias": C[:2]}, ValueError, r"bias must be \[C=3\], got \[2\]"),
    ({"weight": C.int()}, TypeError, "weight must be float32, got int32"),
    ({"residual": X[:2]}, ValueError, r"residual must be \[4, 3, 2\] as input is, got \[2, 3, 2\]"),
    ({"residual": X.half()}, TypeError, "residual must be float32 as input is, got float16"),
    ({"groups": [2, 1]}, ValueError, "groups must add up to N=4 samples, got 3"),
    ({"groups": [2**62] * 4 + [4]}, ValueError, "groups must add up to N=4 samples, got more"),  # 4 in 64 bits
    ({"groups": [4, 0]}, ValueError, "groups must be numbers of samples, at least 1 each, got 0"),
    ({"eps": -1.0}, ValueError, "eps must not be negative, got -1"),
    ({"eps": "a"}, TypeError, "eps must be a number, got 'a'"),
    ({"input": [[0.5]]}, TypeError, "input must be a tensor or an array .*, got list"),
    ({"input": np.array(["a"])}, TypeError, "input must be an array that torch can share"),
]


def sample(*shape, groups, residual=False, relu=False):
    def arguments(seed):
        generator = torch.Generator().manual_seed(seed)
        given = {
            "input": features_sample(*shape, seed=seed),
            "weight": torch.rand(shape[1], generator=generator) + 0.5,
            "bias": torch.randn(shape[1], generator=generator),
        }
        if residual:
            given["residual"] = features_sample(*shape, seed=seed + 1)
        return {**given, "groups": groups, "relu": relu}

    return arguments


def alike(dtype):
    rounding = 1e-14 if dtype == torch.float64 else 1e-6
    return {"rtol": rounding, "atol": 10 * rounding}


CARD = Card(
    op="ghost_batch_norm",
    reference=ghost_batch_norm_reference,
    samples={
        "plain": sample(4, 16, 2, 3, 3, groups=[1, 3]),
        "residual": sample(4, 16, 2, 3, 3, groups=[1, 3], residual=True),
        "relu": sample(4, 16, 2, 3, 3, groups=[1, 3], relu=True),
        "residual, relu": sample(4, 5, 2, 3, 3, groups=[2, 2], residual=True, relu=True),
    },
    large={"chunks of rows": sample(3, 24, 4, 40, 40, groups=[2, 1], residual=True, relu=True)},
    learns=("input", "weight", "bias", "residual"),
    features=("input", "residual"),
    alike=alike,
    alike_in=(torch.float32, torch.float64),
    rougher={"chunks of rows": 8},  # 19,200 values a channel
    laid_out=lambda result, arguments: result.ndim < 3 or result.movedim(1, -1).is_contiguous(),
    right=lambda: {"input": X},
    wrong=WRONG,
)
