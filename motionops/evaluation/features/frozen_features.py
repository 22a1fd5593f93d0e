"""Frozen features of labelled videos, whatever the network takes: frames, or motion vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from motionops.evaluation.features.labelled_features import LabelledFeatures, labelled_features, only_helps
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
    if only_helps(settings):  # vectors are read at decode speed, by the first alone
        return LabelledFeatures(torch.empty(0), [], [])
    known = {name: settings[name] for name in ("clips", "frames", "size", "crop", "progress") if name in settings}
    return motion_features(backbone, videos, strict=strict, **vectors, **known)
