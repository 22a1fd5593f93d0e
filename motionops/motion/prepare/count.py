"""The frames of a whole set, counted before a training does it: ``motionops prepare count --data DIR``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.motion.prepare.videos import PrepareConfig
from motionops.video.checking import SHOWN, check_videos, require_usable
from motionops.video.known_counts import default_file


@dataclass
class CountConfig(PrepareConfig):
    """Count the frames of a set of videos, and find their key frames, before a training does it. --output is a file,
    by default that of the cache folder, which trainings read."""

    output: Path | None = None
    """What is written, by default frame_counts.jsonl in the cache folder. What is there already is continued."""
    decode: bool = False
    """Decode every frame of every video, which finds damage within a picture too."""


def main(config: CountConfig) -> int:
    """Count what is not counted yet."""
    config.require_at_least()
    file = config.of_the_part(default_file() if config.output is None else config.output)
    videos = config.videos()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()  # a part of which no video can be used is there, too
    except OSError as error:
        raise UserError(f"--output: cannot write {file}: {error.strerror}") from error
    usable, skipped = check_videos(videos, workers=config.workers, known=file, decode=config.decode)
    for video in skipped[:SHOWN]:
        warn(f"skipped {video.path}: {video.reason}")
    frames = sum(video.frames for video in usable)
    print(f"{file}: {len(usable)} of {len(videos)} videos can be used, {frames} frames", file=sys.stderr)
    require_usable(usable, skipped, strict=config.strict)
    return 0
