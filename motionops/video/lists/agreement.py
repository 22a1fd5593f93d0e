"""Whether lists do for an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from motionops.errors import UserError
from motionops.video.list_lines import Video


def check_lists(train: Sequence[Video], test: Sequence[Video]) -> None:
    """Raise UserError where an evaluation is impossible: an empty list, a video without one label, no common class."""
    for name, videos in (("train", train), ("test", test)):
        if not videos:
            raise UserError(f"the {name} list holds no video")
        several = [video for video in videos if len(video.labels) > 1]
        if several:
            raise UserError(
                f"the {name} list has {len(several)} videos with several labels, the first is {several[0].path} "
                f"({', '.join(several[0].labels)}); evaluations need one class of each, training alone takes them"
            )
        unlabelled = [video.path for video in videos if video.label is None]
        if unlabelled:
            raise UserError(
                f"the {name} list has {len(unlabelled)} videos without a label, the first is {unlabelled[0]}; "
                "retrieval needs the class of each"
            )
    if not {video.label for video in train} & {video.label for video in test}:
        raise UserError("train and test lists have no class in common; are both labelled by number or by name?")
