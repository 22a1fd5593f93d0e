"""Losses of ablations, made of plain PyTorch or of the operators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from motionops.contrast.pixel_contrast import pixel_contrast
from motionops.contrast.queue_infonce import queue_infonce


def pixel_contrast_per_video(
    query: Tensor,
    key: Tensor,
    query_extent: Tensor,
    key_extent: Tensor,
    *,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    **arguments,
) -> Tensor:
    """`pixel_contrast` with each video's own pixels as columns (and `negatives`, if given), not those of the batch.

    The "98 negative samples" of FIMA's Table 10. Arguments and value as in `motionops.pixel_contrast`, a call a video.
    """
    losses = []
    for b in range(len(query)):
        one = slice(b, b + 1)
        masks = {name: m[one] for name, m in (("query_mask", query_mask), ("key_mask", key_mask)) if m is not None}
        losses.append(pixel_contrast(query[one], key[one], query_extent[one], key_extent[one], **masks, **arguments))
    if not losses:
        return query.sum() * 0.0
    # A video without a positive pair gives exactly 0, and one with a pair more: there are other columns.
    stacked = torch.stack(losses)
    return stacked.sum() / (stacked != 0).sum().clamp(min=1)


def frame_term(
    form: str, query: Tensor, key: Tensor, negatives: Tensor, queue: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """One prediction's part of L_Fra in a form of Table 9, and the rank of the key among all rows.

    Args:
        form: infonce, triplet or mse.
        query, key: `[B, D]` unit rows.
        negatives, queue: `[M, D]` and `[K, D]` unit rows: those of the step, and earlier ones.
    """
    loss, rank = queue_infonce(query, key, queue, temperature=temperature, extra_negatives=negatives)[:2]
    if form == "triplet":
        loss = margin_loss(query, key, torch.cat([negatives, queue]))
    elif form == "mse":
        loss = squared_distance(query, key)
    return loss, rank


def margin_loss(query: Tensor, key: Tensor, negatives: Tensor, margin: float = 0.5) -> Tensor:
    """Triplet loss on cosines: mean over rows and negatives of max(0, margin - q.k + q.n).

    The "Triplet" row of FIMA's Table 9; the paper gives neither margin nor choice of negatives, so all of them count.

    Args:
        query, key: `[B, D]` unit rows.
        negatives: `[K, D]` unit rows.
        margin: in cosines.
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    return functional.relu(margin - positive + query @ negatives.T.to(query.dtype)).mean()


def squared_distance(query: Tensor, key: Tensor) -> Tensor:
    """Mean over rows of |q - k|^2, `[B, D]` each: the "MSE" row of FIMA's Table 9, on unit rows."""
    return (query - key).square().sum(dim=1).mean()
