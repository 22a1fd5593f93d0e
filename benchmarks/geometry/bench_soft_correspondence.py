"""soft_correspondence beside the same formula in eager PyTorch and under torch.compile."""

import torch

from motionops.geometry import soft_correspondence, soft_correspondence_reference
from tests.contrast.samples import random_extents


def bench_forward(comparison):
    generator = torch.Generator().manual_seed(0)
    query, key = (random_extents(32, generator).float().to(comparison.device) for _ in range(2))
    grids = (4, 7, 7), (8, 14, 14)
    compiled = torch.compile(soft_correspondence_reference, fullgraph=True)
    comparison(
        "B 32, 196 x 1568 cells",
        ours=lambda: (soft_correspondence(query, key, *grids),),
        reference=lambda: (soft_correspondence_reference(query, key, *grids),),
        peers={
            "eager": lambda: (soft_correspondence_reference(query, key, *grids),),
            "torch.compile": lambda: (compiled(query, key, *grids),),
        },
        rtol=1e-5,
        moved_bytes=32 * 196 * 1568 * 4,
    )
