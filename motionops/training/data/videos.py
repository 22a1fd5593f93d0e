"""The videos that a run trains on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from motionops.commandline import existing_folder, warn
from motionops.errors import UserError
from motionops.training.config import TrainConfig
from motionops.video import (
    Skipped,
    Video,
    check_videos,
    find_videos,
    moving_shapes,
    read_list,
    require_usable,
)
from motionops.video.known_counts import default_file
from motionops.video.lists import check_lists


@dataclass
class TrainingVideos:
    """What a run trains on and is measured on; `skipped` cannot be used, each with its reason."""

    usable: list[Video]
    skipped: list[Skipped] = field(default_factory=list)
    test: list[Video] = field(default_factory=list)


def find_training_videos(config: TrainConfig, progress: bool = True) -> TrainingVideos:
    """The videos that --data, --list and --test-list name, or MovingShapes where none of them is given.

    Every training video is decoded once; one that is missing, broken or too short is named on stderr and left out.

    Raises:
        UserError: no such folder or list, an empty one, too many unusable videos (more than a tenth, or with --strict
            any).
    """
    if config.data is not None:
        existing_folder(config.data)
    test = [] if config.test_list is None else read_list(config.test_list, root=config.data)
    if config.list is not None:
        videos = read_list(config.list, root=config.data)
    elif config.data is not None:
        videos = find_videos(config.data)
    else:
        folder = moving_shapes.generate(progress=progress)
        videos = read_list(folder / "train.txt")
        test = test or read_list(folder / "test.txt")
    usable, skipped = check_videos(videos, config.window(), progress=progress, known=default_file())
    if progress:
        for video in skipped:
            warn(f"skipped {video.path}: {video.reason}")
    require_usable(usable, skipped, strict=config.strict)
    if test:
        check_lists(usable, test)  # now, not after hours of training
    return TrainingVideos(usable, skipped, test)


def fit_batch(config: TrainConfig, videos: int, parts: int) -> TrainConfig:
    """The configuration with a --batch-size that a small set of videos fills, in equal parts.

    Raises:
        UserError: there are too few videos.
    """
    possible = videos // parts * parts
    least = 2 * parts  # BatchNorm takes no statistics of one
    if possible < least:
        raise UserError(f"{videos} usable videos are too few to learn from; at least {least} are needed")
    if config.batch_size <= possible:
        return config
    warn(f"--batch-size {config.batch_size} is more than the {videos} usable videos; {possible} is used")
    return replace(config, batch_size=possible)
