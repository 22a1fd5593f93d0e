"""The frozen features of two lists of labelled videos: what retrieval and the classifiers on features begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from motionops.evaluation.features.extraction import extract_features
from motionops.video import Skipped, Video, require_usable


class LabelledFeatures(NamedTuple):
    """Of one list: features ``[N, C]``, the N videos that they are of, and those that could not be used."""

    features: Tensor
    videos: list[Video]
    skipped: list[Skipped]

    @property
    def labels(self) -> list[str]:
        return [video.label for video in self.videos]


def labelled_features(
    backbone: nn.Module, videos: Sequence[Video], *, strict: bool = False, **settings
) -> LabelledFeatures:
    """Extract the features of a list; the settings are those of :func:`~motionops.evaluation.extract_features`.

    Raises:
        UserError: with ``strict`` a video that cannot be used; without it, more than a tenth of them.
    """
    unusable: list[Skipped] = []
    # With `strict` the first unusable video is an error, instead of one line among many after an hour.
    features = extract_features(backbone, videos, skipped=None if strict else unusable, **settings)
    paths = {video.path for video in unusable}
    used = [video for video in videos if video.path not in paths]
    require_usable(used, unusable)
    return LabelledFeatures(features, used, unusable)
