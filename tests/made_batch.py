"""Batches that no reader made."""

from typing import Any

import torch

from motionops.video import Batch


def made_batch(frames: Any = None, count: int = 1, **given: Any) -> Batch:
    """A batch of these fields; those that a step does not look at are anything."""
    count = count if frames is None else len(frames)
    numbers = torch.arange(count)
    rest = {"starts": numbers[:, None], "index": numbers, "label": numbers, "picture": numbers[:, None].expand(-1, 2)}
    return Batch(frames, **{**rest, **given})
