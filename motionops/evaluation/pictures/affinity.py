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
    return (torch.einsum("bcn,bcm->nm", *cells) / len(first)).clamp(-1, 1)  # rounding goes beyond


def affinity_picture(matrices: Sequence[Tensor], titles: Sequence[str], file: str | os.PathLike) -> Path:
    """Draw affinity matrices ``[N, M]`` side by side, on one scale of colours; a bright diagonal is alignment."""
    if not matrices or len(matrices) != len(titles):
        raise ValueError(f"affinity_picture: a title a matrix is needed, got {len(matrices)} and {len(titles)}")
    fig, axes = figure(1, len(matrices), width=3.1, height=2.9, title="How alike the cells of feature maps are")
    low = min(float(matrix.min()) for matrix in matrices)
    for axis, matrix, title in zip(axes, matrices, titles, strict=True):
        image = axis.imshow(matrix.cpu().numpy(), cmap="viridis", vmin=low, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("cell, line by line", fontsize=7)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("cell, line by line", fontsize=7)
    bar = fig.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("cosine", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return save(fig, file)


def clip_similarities(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of every clip's feature in one modality with every clip's in another, within each video.

    Args:
        first, second: ``[V, K, C]``, features of K clips of V videos.

    Returns:
        ``[V, K, K]``.

    Source: FIMA, section 4.4 and figure 5b (RGB and frame difference, 10 clips of 50 videos).
    """
    if first.ndim != 3 or first.shape != second.shape or 0 in first.shape:
        raise ValueError(
            f"clip_similarities: first and second must be [V, K, C] alike, got {list(first.shape)} and "
            f"{list(second.shape)}"
        )
    unit = [torch.nn.functional.normalize(features.detach().float(), dim=2) for features in (first, second)]
    return unit[0] @ unit[1].transpose(1, 2)


def similarity_picture(values: Sequence[Tensor], titles: Sequence[str], file: str | os.PathLike) -> Path:
    """Draw the distribution of each set of similarities as a violin, with its mean."""
    if not values or len(values) != len(titles):
        raise ValueError(f"similarity_picture: a title a set is needed, got {len(values)} and {len(titles)}")
    fig, (axis,) = figure(1, 1, width=2.4 + 1.4 * len(values), height=2.9, title="How alike clips of a video are")
    axis.violinplot([value.flatten().cpu().numpy() for value in values], showmeans=True, showextrema=False)
    axis.set_xticks(range(1, len(titles) + 1), titles, fontsize=8)
    axis.set_ylabel("cosine", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    axis.grid(axis="y", alpha=0.25)
    return save(fig, file)
