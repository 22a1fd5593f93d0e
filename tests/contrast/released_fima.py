"""FIMA's pixel loss as its authors released it (github.com/ZMHH-H/FIMA, moco/loss.py), in our words.

One frame at a time, all logits and their exponentials in memory: an independent source for the tests, and a peer in the
benchmark.
"""

from __future__ import annotations

import torch
from torch import Tensor


def released_frame_loss(
    query: Tensor,  # [B, D, H, W] one frame of the prediction
    key: Tensor,  # [B, D, H, W] the same frame of the motion features
    other_keys: Tensor,  # [B, D, H, W'] the other frames
    query_box: Tensor,  # [B, 4] (x, y of the start, x, y of the end)
    key_box: Tensor,  # [B, 4]
    query_mask: Tensor,  # [B, H, W]
    key_mask: Tensor,  # [B, H, W]
    queue: Tensor | None,  # [D, K]
    radius: float = 0.7,
    temperature: float = 0.1,
) -> Tensor:
    """Mean over the samples that have positives of the mean over their pixels of −log(positives / everything)."""
    batch, dim, height, width = query.shape
    area = height * width

    def placed(box: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cell_width = (box[:, 2] - box[:, 0]) / width
        cell_height = (box[:, 3] - box[:, 1]) / height
        column = torch.arange(width, dtype=box.dtype, device=box.device).repeat(height)
        row = torch.arange(height, dtype=box.dtype, device=box.device).repeat_interleave(width)
        x = (column + 0.5) * cell_width[:, None] + box[:, :1]
        y = (row + 0.5) * cell_height[:, None] + box[:, 1:2]
        return x, y, torch.sqrt(cell_width**2 + cell_height**2)

    query_x, query_y, query_diagonal = placed(query_box)
    key_x, key_y, key_diagonal = placed(key_box)
    distance = torch.sqrt(
        (query_x[:, :, None] - key_x[:, None, :]) ** 2 + (query_y[:, :, None] - key_y[:, None, :]) ** 2
    )
    distance = distance / torch.max(query_diagonal, key_diagonal)[:, None, None]
    positive = (distance < radius).to(query.dtype)
    positive = positive * query_mask.reshape(batch, area, 1) * key_mask.reshape(batch, 1, area)

    rows = query.flatten(2).transpose(1, 2)  # [B, HW, D]
    own = (rows @ key.flatten(2) / temperature).exp()  # [B, HW, HW]
    columns = torch.cat([key.flatten(2), other_keys.flatten(2)], dim=2).transpose(0, 1).reshape(dim, -1)
    if queue is not None:
        columns = torch.cat([columns, queue], dim=1)
    everything = (rows.reshape(-1, dim) @ columns / temperature).exp().reshape(batch, area, -1).sum(dim=2)

    of_positives = (own * positive).sum(dim=2)  # [B, HW]
    has_positives = of_positives > 0
    samples = has_positives.any(dim=1)
    if not samples.any():
        return query.sum() * 0
    # A pixel with no positive gets log 1 = 0, and is not counted.
    ratio = torch.where(has_positives, of_positives, everything) / everything
    per_sample = -ratio.log().sum(dim=1)[samples] / has_positives.sum(dim=1)[samples]
    return per_sample.mean()


def released_pixel_loss(sample: dict[str, Tensor], **settings: float) -> Tensor:
    """The released loss of `pixel_contrast`'s arguments: the mean over the frames."""
    query, key = (sample[name].permute(1, 0, 4, 2, 3) for name in ("query", "key"))  # [T, B, D, H, W]
    frames = query.shape[0]

    def box(extent: Tensor) -> Tensor:
        return extent[:, [2, 1, 2, 1], [0, 0, 1, 1]].to(sample["query"].dtype)

    def mask(name: str) -> Tensor:
        given = sample.get(name)
        return query.new_ones(query.shape[1], *query.shape[3:]) if given is None else given

    queue = sample["negatives"].T if "negatives" in sample else None
    losses = []
    for t in range(frames):
        others = [key[s].flatten(2) for s in range(frames) if s != t]
        losses.append(
            released_frame_loss(
                query[t],
                key[t],
                torch.cat(others, dim=2) if others else key[t].flatten(2)[:, :, :0],
                box(sample["query_extent"]),
                box(sample["key_extent"]),
                mask("query_mask").to(query.dtype),
                mask("key_mask").to(query.dtype),
                queue,
                **settings,
            )
        )
    return torch.stack(losses).mean()
