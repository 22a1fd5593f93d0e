"""Frozen features of labelled videos, whatever the network takes: frames, or motion vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from motionops.evaluation.features.labelled_features import LabelledFeatures, labelled_features
from motionops.evaluation.features.motion_features import motion_features
from motionops.video import Video


def frozen_features(
    backbone: nn.Module,
    videos: Sequence[Video],
    *,
    strict: bool = False,
    vectors: Mapping[str, Any] | None = None,
    **settings,
) -> LabelledFeatures:
    """Frozen features of labelled videos; with ``vectors`` of a network over motion vectors, as its file says."""
    if vectors is None:
        return labelled_features(backbone, videos, strict=strict, **settings)
    names = ("clips", "frames", "size", "crop", "over_ranks", "progress")
    known = {name: settings[name] for name in names if name in settings}
    return motion_features(backbone, videos, strict=strict, **vectors, **known)
