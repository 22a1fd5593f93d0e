"""RandAugment (Cubuk et al., 2020) of clips: the same operations on all frames of a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from motionops.evaluation.protocols.finetuning.config import MAGNITUDES


def rand_augment(clips: Tensor, operations: int, magnitude: int) -> Tensor:
    """Clips in 0..1, `[B, 3, T, S, S]`, each after random operations of torchvision's; drawn from torch's generator."""
    from torchvision.transforms import RandAugment

    change = RandAugment(operations, magnitude, num_magnitude_bins=MAGNITUDES)
    pictures = (255 * clips).round().clamp(0, 255).to(torch.uint8).transpose(1, 2)  # [B, T, 3, S, S]
    changed = torch.stack([change(clip) for clip in pictures])
    return changed.transpose(1, 2).float() / 255
