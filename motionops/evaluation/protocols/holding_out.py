"""Training and test videos of class folders that came without lists."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.evaluation.protocols.splits import recording
from motionops.video import Video, class_names

# Kinetics: "<id>_<start>_<end>"; copies and parts of a file: "x (1)", "x - Copy", "x_copy2", "x_clip03", "x-part2".
_KINETICS = re.compile(r"(.{11})_\d{6}_\d{6}")
_PART = re.compile(r"( \(\d+\)|[ _-]+(copy|clip|part|scene|shot|segment)[ _-]?\d*)+$", re.IGNORECASE)


def source(path: str) -> str:
    """What a video was cut or copied from, as far as its name tells: such videos are too alike to test each other."""
    stem = Path(path).stem
    if group := recording(path):
        return group
    if kinetics := _KINETICS.fullmatch(stem):
        return kinetics[1]
    return _PART.sub("", stem) or stem


def hold_out(videos: Sequence[Video], share: float, seed: int = 0) -> tuple[list[Video], list[Video]]:
    """Split labelled videos: about a share of each class is held out, videos of one source on the same side.

    Args:
        videos: of class folders. Which ones are held out depends on the seed and on their names, not on their order.
        share: in (0, 1), of each class.
        seed: of the choice.

    Returns:
        Training and test videos, in the order of ``videos``. A class of one source is trained on alone, and named.

    Raises:
        UserError: a video without a class; no class has two sources.
    """
    unlabelled = [video.path for video in videos if video.label is None]
    if unlabelled:
        raise UserError(f"--split: {len(unlabelled)} videos lie in no class folder, the first is {unlabelled[0]}")
    held: dict[str, bool] = {}  # by source, over all classes
    alone = []
    for place, label in enumerate(class_names(videos)):
        own: dict[str, list[Video]] = defaultdict(list)
        for video in sorted((v for v in videos if v.label == label), key=lambda v: Path(v.path).parts[-2:]):
            own[source(video.path)].append(video)
        if len(own) < 2:
            alone.append(label)
        wanted = share * sum(map(len, own.values()))
        got = sum(len(group) for name, group in own.items() if held.get(name))
        free = [name for name in own if name not in held]
        for number in np.random.default_rng((seed, place)).permutation(len(free)):
            name = free[number]
            last = len(own) > 1 and sum(held.get(other, False) for other in own) == len(own) - 1
            size = len(own[name])
            # The first group is held out however large it is; the last one that is left is learnt from.
            nearer = abs(got + size - wanted) < abs(got - wanted)
            held[name] = len(own) > 1 and not last and (not got or nearer)
            got += size * held[name]
    train = [video for video in videos if not held[source(video.path)]]
    test = [video for video in videos if held[source(video.path)]]
    if not test:
        raise UserError("--split: no class has videos of two sources, of which one could be held out")
    if alone:
        named = f"{', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}"
        warn(f"--split: {len(alone)} classes have videos of one source alone, none is held out ({named})")
    return train, test


def kept_together(videos: Sequence[Video]) -> int:
    """How many sources have several videos."""
    return sum(count > 1 for count in Counter(source(video.path) for video in videos).values())
