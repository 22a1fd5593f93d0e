"""The card of tvl1_flow."""

import torch

from motionops.flow.tvl1_flow import tvl1_flow_reference
from tests.flow.samples import image_pair
from tests.operators.card import Card

FEW = {"warps": 2, "iterations": 7, "scales": 2}
IMAGE = torch.zeros(1, 8, 8)
BOTH = {"previous": IMAGE, "following": IMAGE}
WRONG = [
    ({"previous": IMAGE[0], "following": IMAGE[0]}, ValueError, r"previous must be \[N, H, W\], got \[8, 8\]"),
    ({"following": IMAGE[:, 1:]}, ValueError, r"following must be \[1, 8, 8\] .*, got \[1, 7, 8\]"),
    ({"previous": IMAGE.long(), "following": IMAGE.long()}, TypeError, "previous must be uint8, .*, got int64"),
    ({"following": IMAGE.byte()}, TypeError, "following must be float32 as previous is, got uint8"),
    ({"tau": 0}, ValueError, "tau must be above 0, got 0"),
    ({"attachment": -1}, ValueError, "attachment must be above 0, got -1"),
    ({"tightness": float("nan")}, ValueError, "tightness must be above 0, got nan"),
    ({"scales": 0}, ValueError, "scales must be 1 or more, got 0"),
    ({"scale_step": 1}, ValueError, "scale_step must be between 0 and 1, got 1"),
    ({"warps": -1}, ValueError, "warps must be 0 or more, got -1"),
    ({"iterations": -1}, ValueError, "iterations must be 0 or more, got -1"),
    ({"median": 4}, ValueError, "median must be 1, 3 or 5, got 4"),
    ({"previous": [[0.5]]}, TypeError, "previous must be a tensor or an array .*, got list"),
]


def sample(*shape, dtype=torch.float64, **parameters):
    def pair(seed):
        previous, following = image_pair(*shape, seed=10 * seed)
        return {"previous": previous.to(dtype), "following": following.to(dtype), **FEW, **parameters}

    return pair


CARD = Card(
    op="tvl1_flow",
    reference=tvl1_flow_reference,
    samples={"float64": sample(2, 20, 24), "bytes": sample(2, 9, 11, dtype=torch.uint8)},
    large={"large": sample(5, 20, 37), "defaults": sample(2, 40, 50, scales=5, warps=5, iterations=30)},
    features=("previous", "following"),
    types=(torch.uint8, torch.float32, torch.float64),
    # in float32 a median or a threshold falls to either side in single pixels
    near=lambda dtype: {"rtol": 1e-8, "atol": 1e-8} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3},
    alike=lambda dtype: {"rtol": 1e-8, "atol": 1e-8},
    alike_in=(torch.float64,),
    right=lambda: BOTH,
    wrong=WRONG,
)
