"""Features in the plane."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from motionops.evaluation.pictures.drawing import figure, save, written
from motionops.extras import require

_NAMED = 20  # classes up to which a legend names them
_MARKERS = "osv^D<>pXP*h"


def tsne(features: Tensor, seed: int = 0) -> Tensor:
    """t-SNE of features ``[N, C]``, compared by cosine: ``[N, 2]``. At least 3 videos; needs scikit-learn.

    Source: van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008. The perplexity is 30, or a third of
    the videos where they are few.
    """
    require("t-SNE", "sklearn")
    from sklearn.manifold import TSNE

    if features.ndim != 2 or len(features) < 3:
        raise ValueError(f"tsne: features must be [N >= 3, C], got {list(features.shape)}")
    perplexity = min(30.0, (len(features) - 1) / 3)
    values = torch.nn.functional.normalize(features.detach().cpu().double(), dim=1).numpy()
    # Of equal features the first component has no length to scale by, and scikit-learn crashes on what is not a number.
    start = "pca" if min(values.shape) >= 2 and np.ptp(values, axis=0).any() else "random"
    machine = TSNE(perplexity=perplexity, init=start, random_state=seed)
    return torch.from_numpy(machine.fit_transform(values)).float()


def tsne_picture(
    points: Tensor,
    labels: Sequence[str],
    file: str | os.PathLike,
    classes: Sequence[str] | None = None,
    *,
    title: str = "t-SNE of features, by class",
) -> Path:
    """Draw points ``[N, 2]``, coloured by class, with a marker besides: colours alone repeat, and not all see them.

    Args:
        points: as :func:`tsne` gives them.
        labels: N classes.
        file: the PNG to write.
        classes: their order; by default alphabetical. Up to 20 are named.
        title: of the whole.
    """
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels):
        raise ValueError(f"tsne_picture: points must be [N, 2] with a label each, got {list(points.shape)}")
    names = list(classes) if classes is not None else sorted(set(labels))
    fig, (axis,) = figure(1, 1, width=5.6, height=4.2, title=title)
    for number, name in enumerate(names):
        own = points[[place for place, label in enumerate(labels) if label == name]]
        marker = _MARKERS[number // 10 % len(_MARKERS)] if len(names) > 10 else _MARKERS[number % len(_MARKERS)]
        axis.scatter(
            own[:, 0], own[:, 1], s=14, color=f"C{number % 10}", marker=marker, label=written(name), linewidths=0
        )
    axis.set_xticks([])
    axis.set_yticks([])
    if len(names) <= _NAMED:
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return save(fig, file)
