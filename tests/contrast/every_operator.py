"""One small call of every contrastive operator, for tests of what they have in common."""

from __future__ import annotations

import torch
from torch import Tensor

import motionops
from motionops.contrast.pairwise_infonce import pairwise_infonce_reference
from motionops.contrast.pixel_contrast import pixel_contrast_reference
from motionops.contrast.queue_infonce import queue_infonce_reference
from motionops.contrast.region_contrast import region_contrast_reference
from tests.contrast.samples import pairwise_sample, pixel_sample, queue_sample, random_extents, unit_rows

OPERATORS = {
    "queue_infonce": (motionops.queue_infonce, queue_infonce_reference),
    "pairwise_infonce": (motionops.pairwise_infonce, pairwise_infonce_reference),
    "pixel_contrast": (motionops.pixel_contrast, pixel_contrast_reference),
    "region_contrast": (motionops.region_contrast, region_contrast_reference),
}
# Whose type the products have.
PRODUCTS = {
    "queue_infonce": "queue",
    "pairwise_infonce": "key",
    "pixel_contrast": "negatives",
    "region_contrast": "key",
}


def sample_of(op: str, dim: int = 24) -> dict[str, Tensor]:
    """Arguments in float32, some tiles large."""
    if op == "queue_infonce":
        return queue_sample(7, 90, dim, extra_rows=5, ids=True)
    if op == "pairwise_infonce":
        return pairwise_sample(70, 75, dim, ids=True)
    if op == "pixel_contrast":
        return pixel_sample(2, 2, 5, 5, dim, negative_rows=70, masks=True)
    generator = torch.Generator().manual_seed(0)
    return {
        "query": unit_rows(3, 2, 2, 3, 3, dim, generator=generator),
        "key": unit_rows(3, 2, 4, 4, dim, generator=generator),
        "query_extent": torch.stack([random_extents(2, generator) for _ in range(3)]).float(),
        "key_extent": random_extents(3, generator).float(),
    }


def features_of(sample: dict[str, Tensor]) -> list[str]:
    """The arguments that hold features."""
    return [name for name in ("query", "key", "queue", "extra_negatives", "negatives") if name in sample]
