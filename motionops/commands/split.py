"""``motionops prepare split``: lists of training and test videos, of class folders that came without."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from motionops.commandline import LARGEST_SEED, existing_folder, writable_folder
from motionops.errors import UserError
from motionops.evaluation.protocols.holding_out import hold_out, kept_together
from motionops.flags import SHARE, AtLeast, AtMost, check_ranges
from motionops.video import class_names, find_videos
from motionops.video.sources.addresses import is_tar


@dataclass
class Split:
    """Write train.txt and test.txt of a folder of class folders; clips of one source stay on one side."""

    data: Path
    """Folder of class folders."""
    output: Path
    """Folder for train.txt and test.txt; their paths are relative to --data."""
    share: Annotated[float, SHARE] = 0.2
    """Part of each class's videos that is held out for the test."""
    seed: Annotated[int, AtLeast(0), AtMost(LARGEST_SEED)] = 0
    """Which ones are held out."""


def write_split(config: Split) -> None:
    check_ranges(config)
    # A damaged shard stands for the videos that it lost: in a list it would be all of them.
    videos = [video for video in find_videos(existing_folder(config.data)) if not is_tar(video.path)]
    lists = dict(zip(("train", "test"), hold_out(videos, config.share, config.seed), strict=True))
    files = {name: config.output / f"{name}.txt" for name in lists}
    for file in files.values():
        if file.exists():
            raise UserError(f"--output: {file} is there already; name another folder or delete it")
    writable_folder(config.output)
    for name, part in lists.items():
        lines = [f"{os.path.relpath(video.path, config.data)} {video.label}\n" for video in part]
        files[name].write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    counts = " and ".join(f"{file} ({len(lists[name])} videos)" for name, file in files.items())
    whole = kept_together(videos)
    kept = f"; {whole} sources of several videos are each on one side" if whole else ""
    print(f"written: {counts}, {len(class_names(videos))} classes{kept}")
