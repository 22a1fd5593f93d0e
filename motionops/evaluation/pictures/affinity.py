"""How alike the cells of two feature maps are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from motionops.evaluation.pictures.drawing import figure, save


def affinity_matrix(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarity of every cell of one map with every cell of another, averaged over the clips.

    Args:
        first, second: ``[B, C, T, H, W]`` feature maps of the same clips, each averaged over time first; H and W may
            differ.

    Returns:
        ``[N, M]``, N = H * W cells of ``first``, M those of ``second``, row by row.

    Source: FIMA, section 4.4 and figure 5 (RGB and frame difference, 50 clips).
    """
    for name, maps in (("first", first), ("second", second)):
        if maps.ndim != 5 or maps.shape[:2] != first.shape[:2] or 0 in maps.shape:
            raise ValueError(
                f"affinity_matrix: {name} must be [B={first.shape[0]}, C={first.shape[1]}, T, H, W], "
                f"got {list(maps.shape)}"
            )
    cells = [torch.nn.functional.normalize(m.detach().float().mean(dim=2).flatten(2), dim=1) for m in (first, second)]
    return torch.einsum("bcn,bcm->nm", *cells) / len(first)


def affinity_picture(matrices: Sequence[Tensor], titles: Sequence[str], file: str | os.PathLike) -> Path:
    """Draw affinity matrices ``[N, M]`` side by side, on one scale of colours; a bright diagonal is alignment."""
    if not matrices or len(matrices) != len(titles):
        raise ValueError(f"affinity_picture: a title a matrix is needed, got {len(matrices)} and {len(titles)}")
    fig, axes = figure(1, len(matrices), width=3.1, height=2.9)
    low = min(float(matrix.min()) for matrix in matrices)
    for axis, matrix, title in zip(axes, matrices, titles, strict=True):
        image = axis.imshow(matrix.cpu().numpy(), cmap="viridis", vmin=low, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
    fig.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    return save(fig, file)
