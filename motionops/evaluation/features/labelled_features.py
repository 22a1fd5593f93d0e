"""The frozen features of two lists of labelled videos: what retrieval and the classifiers on features begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from motionops.errors import UserError
from motionops.evaluation.features.extraction import extract_features
from motionops.evaluation.features.together import raise_in_all
from motionops.ranks import world
from motionops.video import Skipped, Video, require_usable


class LabelledFeatures(NamedTuple):
    """Of one list: features ``[N, C]``, the N videos that they are of, and those that could not be used."""

    features: Tensor
    videos: list[Video]
    skipped: list[Skipped]

    @property
    def labels(self) -> list[str]:
        return [video.label for video in self.videos]


def only_helps(settings: Mapping[str, Any]) -> bool:
    """Whether, by the settings of an extraction, this rank extracts for the first one and does no more."""
    return bool(settings.get("over_ranks")) and world()[0] > 0


def labelled_features(
    backbone: nn.Module, videos: Sequence[Video], *, strict: bool = False, over_ranks: bool = False, **settings
) -> LabelledFeatures:
    """Extract the features of a list; the settings are those of :func:`~motionops.evaluation.extract_features`.

    With ``over_ranks`` all ranks call; the first has the whole, the others have no video.

    Raises:
        UserError: with ``strict`` a video that cannot be used; without it, more than a tenth of them.
    """
    unusable: list[Skipped] = []
    # With `strict` the first unusable video is an error, instead of one line among many after an hour.
    skipped = None if strict else unusable
    features = extract_features(backbone, videos, skipped=skipped, over_ranks=over_ranks, **settings)
    return of_the_usable(features, videos, unusable, over_ranks)


def of_the_usable(
    features: Tensor, videos: Sequence[Video], unusable: list[Skipped], over_ranks: bool
) -> LabelledFeatures:
    """Features with their videos, in the first rank. UserError, in all of them, where too many are unusable."""
    if over_ranks and world()[0]:
        raise_in_all(None)
        return LabelledFeatures(features, [], [])
    paths = {video.path for video in unusable}
    used = [video for video in videos if video.path not in paths]
    error = None
    try:
        require_usable(used, unusable)
    except UserError as few:
        error = few
    if over_ranks:
        raise_in_all(error)
    elif error is not None:
        raise error
    return LabelledFeatures(features, used, unusable)
