"""The videos that a run trains on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from motionops.commandline import say, warn
from motionops.errors import UserError
from motionops.training.checkpoint import NAME
from motionops.training.config import TrainConfig
from motionops.training.data.dali_batches import check_dali
from motionops.training.data.first_process import found_by_the_first
from motionops.training.data.manifest import (
    MANIFEST,
    TrainingVideos,
    fingerprint,
    manifest_lines,
    not_listed,
    parse_manifest,
    read_manifest,
    still_there,
)
from motionops.video import (
    Skipped,
    Video,
    check_videos,
    find_videos,
    moving_shapes,
    read_list,
    require_usable,
)
from motionops.video.checking import MOST_SKIPPED, SHOWN
from motionops.video.dali import require_dali
from motionops.video.known_counts import default_file
from motionops.video.lists import check_lists, data_place, folder_of, folder_of_list


def videos_of_the_run(config: TrainConfig, find: Callable[[TrainConfig, bool], TrainingVideos]) -> TrainingVideos:
    """What `find` finds in the first process, as all processes have it; `test` is the first one's alone.

    UserError where --decoder cannot read them.
    """
    if config.decoder == "dali":
        require_dali()

    def found() -> TrainingVideos:
        videos = find(config, True)
        if config.decoder == "dali":
            check_dali(videos.usable)
        return videos

    videos = found_by_the_first(found, manifest_lines)
    return videos if isinstance(videos, TrainingVideos) else parse_manifest(videos, partial(data_folder, config))


def find_training_videos(config: TrainConfig, progress: bool = True) -> TrainingVideos:
    """The videos that --data, --list and --test-list name, or MovingShapes where none of them is given.

    Every training video is decoded once; one that is missing, broken or too short is named on stderr and left out. A
    run that goes on has those that it began with.

    Raises:
        UserError: no such folder or list, an empty one, too many unusable videos (more than a tenth, or with --strict
            any).
    """
    if config.list_columns and config.list is None and config.test_list is None:
        raise UserError("--list-columns: there is no --list or --test-list whose columns these could be")
    folder = data_folder(config, progress)
    test = [] if config.test_list is None else read_list(config.test_list, config.data, config.list_columns)
    if config.list is not None:
        videos = read_list(config.list, config.data, config.list_columns)
    elif config.data is not None:
        videos = find_videos(config.data)
    else:
        videos = read_list(os.path.join(folder, "train.txt"))
        test = test or read_list(os.path.join(folder, "test.txt"))
    usable, skipped = checked(config, videos, folder, progress, config.least_frames())
    if test:
        check_lists(usable, test)  # now, not after hours of training
    return TrainingVideos(usable, skipped, test, folder)


def data_folder(config: TrainConfig, progress: bool = False) -> str:
    """Where the videos lie on this machine: --data, the list's folder, or that of MovingShapes, which are made."""
    if config.data is not None:
        return folder_of(data_place(config.data))
    if config.list is not None:
        return folder_of_list(config.list)
    return os.fspath(moving_shapes.generate(progress=progress))


def checked(
    config: TrainConfig, videos: Sequence[Video], folder: str | None, progress: bool, least: int
) -> tuple[list[Video], list[Skipped]]:
    """Those of the videos that can be used, and the others: as they are now, or as the run that goes on found them.

    Raises:
        UserError: too many unusable videos; a run that goes on was made of other ones.
    """
    file = config.output / MANIFEST
    if config.resume and file.exists() and (config.output / NAME).exists():
        before = read_manifest(file, folder)
        gone = not_listed(before.usable, videos, folder)
        if still_there(gone):  # somebody names others now
            made, now = fingerprint(before.usable), fingerprint(videos)
            raise UserError(f"--resume: {config.output / NAME} was made of {made}; now they are {now}")
        if len(gone) > MOST_SKIPPED * len(before.usable):
            raise UserError(
                f"--resume: {len(gone)} of the {len(before.usable)} videos of {file} are not among those named "
                f"now, the first is {gone[0].path}"
            )
        new = not_listed(videos, [*before.usable, *(Video(path) for path, _ in before.skipped)], folder)
        if gone:
            say(f"--resume: videos that are not there any more: {len(gone)}; others are read in their places")
        if new:
            say(f"--resume: videos that are new since the run began, and are not added: {len(new)}")
        return before.usable, before.skipped
    usable, skipped = check_videos(videos, least, progress=progress, known=default_file())
    require_usable(usable, skipped, strict=config.strict)
    if progress:
        warn_of(skipped)
    return usable, skipped


def warn_of(skipped: Sequence[Skipped]) -> None:
    """A line each, up to a number, and one for the others."""
    for video in skipped[:SHOWN]:
        warn(f"skipped {video}")
    if len(skipped) > SHOWN:
        warn(f"skipped {len(skipped) - SHOWN} more videos, which {MANIFEST} in --output names")


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
