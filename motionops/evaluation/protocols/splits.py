"""Whether two lists of labelled videos can be compared, and what makes a score on them mean less than it seems."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from motionops.video import Video, class_names
from motionops.video.sources import real

_NAMED = 5  # classes that a warning names


def split_warnings(train: Sequence[Video], test: Sequence[Video]) -> list[str]:
    """What makes a score on these lists mean less than it seems, one line each.

    Videos in both lists; UCF101-style groups (``v_CLASS_gGG_cCC``: clips cut from one recording) in both lists;
    classes of the test list that the training list lacks, whose videos can only be wrong.
    """
    lines = []
    both = {real(v.path) for v in train} & {real(v.path) for v in test}
    if both:
        lines.append(f"{len(both)} videos are in both lists, the first is {min(both)}")
    groups = [{group for video in videos if (group := recording(video.path))} for videos in (train, test)]
    shared = sorted(groups[0] & groups[1])
    if shared:
        lines.append(
            f"{len(shared)} groups (clips of one recording) are in both lists, the first is {shared[0]}: "
            "the score counts recordings that were recognised"
        )
    known = set(class_names(train))
    lacking = [name for name in class_names(test) if name not in known]
    if lacking:
        count = sum(video.label in lacking for video in test)
        lines.append(
            f"{len(lacking)} classes of the test list are not in the training list ({_some(lacking)}): "
            f"their {count} videos count as wrong"
        )
    return lines


def class_warnings(
    train: Sequence[Video],
    test: Sequence[Video],
    listed_train: Sequence[Video] | None = None,
    listed_test: Sequence[Video] | None = None,
) -> list[str]:
    """Classes that are too small to learn from or to measure, one line for each kind.

    Args:
        train, test: the videos that are used.
        listed_train, listed_test: those that the lists name; a class all of whose videos were skipped is empty.
    """
    lines = []
    for name, used, listed in (("training", train, listed_train), ("test", test, listed_test)):
        left = set(class_names(used))
        empty = [label for label in class_names(listed or ()) if label not in left]
        if empty:
            lines.append(f"{len(empty)} classes are empty: all their {name} videos were skipped ({_some(empty)})")
    counts = Counter(video.label for video in train)
    single = [label for label in class_names(train) if counts[label] == 1]
    if single:
        lines.append(f"{len(single)} of {len(counts)} classes have one training video each ({_some(single)})")
    tested = {video.label for video in test}
    untested = [label for label in class_names(train) if label not in tested]
    if untested:
        lines.append(f"{len(untested)} of {len(counts)} classes have no test video ({_some(untested)})")
    return lines


def recording(path: str) -> str | None:
    """The group of a file that is named as UCF101's: ``v_CLASS_gGG`` of ``v_CLASS_gGG_cCC.avi``; None of others."""
    match = re.fullmatch(r"(v_.+_g\d+)_c\d+", Path(path).stem)
    return match[1] if match else None


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
