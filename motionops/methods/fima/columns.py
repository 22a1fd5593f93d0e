"""Whose samples are negatives in a step: of the process, of all processes, or of a group, as of a paper's GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from motionops.contrast.pixel_contrast import pixel_contrast
from motionops.contrast.rank_weight import rank_weight
from motionops.methods.fima.ablations import frame_term, pixel_contrast_per_video
from motionops.methods.fima.flags import FIMAConfig
from motionops.models.shuffled_batch_norm import group_sizes
from motionops.ranks import gather_others


def pixel_columns(
    config: FIMAConfig,
    pixels: Tensor,
    motion: Tensor,
    where: tuple[Tensor, Tensor],
    masks: dict[str, Tensor | None],
    queue: Tensor | None,
) -> Tensor:
    """`pixel_contrast` of predictions and motion, `[B, T, H, W, D]`, at `where` both are, against the negatives that
    --columns and --pixel-negatives name; of groups the mean, as GPUs average their gradients."""
    c = config
    contrast = pixel_contrast if c.pixel_negatives == "batch" else pixel_contrast_per_video
    options = {"radius": c.radius, "temperature": c.temperature}
    if c.columns == "ranks":
        others = gather_others(motion).flatten(0, 3)
        negatives = others if queue is None else torch.cat([others, queue])
        weight = rank_weight(*where, *motion.shape[2:4], radius=c.radius, **masks)
        return weight * contrast(pixels, motion, *where, negatives=negatives, **options, **masks)
    loss = 0.0
    for rows in sample_groups(config, len(pixels)):
        own = {name: mask if mask is None else mask[rows] for name, mask in masks.items()}
        of_group = pixels[rows], motion[rows], where[0][rows], where[1][rows]
        loss = loss + contrast(*of_group, negatives=queue, **options, **own) * (rows.stop - rows.start) / len(pixels)
    return loss


def frame_columns(
    config: FIMAConfig, query: Tensor, key: Tensor, others: Sequence[Tensor], queue: Tensor
) -> tuple[Tensor, Tensor]:
    """L_Fra's part of a prediction `[B, D]` and its key, with `others [B, D]` of the same videos as negatives; rank."""
    c = config
    if c.columns == "ranks":
        negatives = torch.cat(list(others))
        negatives = torch.cat([negatives, gather_others(negatives)])
        return frame_term(c.frame_loss, query, key, negatives, queue, c.temperature)
    loss, ranks = 0.0, []
    for rows in sample_groups(config, len(query)):
        negatives = torch.cat([part[rows] for part in others])
        own, rank = frame_term(c.frame_loss, query[rows], key[rows], negatives, queue, c.temperature)
        loss = loss + own * (rows.stop - rows.start) / len(query)
        ranks.append(rank)
    return loss, torch.cat(ranks)


def sample_groups(config: FIMAConfig, count: int) -> list[slice]:
    """The samples of a process, as they are one another's negatives."""
    places, start = [], 0
    for size in group_sizes(count, config.group if config.columns == "group" else 0):
        places.append(slice(start, start + size))
        start += size
    return places
