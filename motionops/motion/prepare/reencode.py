"""Copies of a set whose motion vectors can be trusted:
``motionops prepare reencode --data DIR --output DIR``.

P-frames only and one reference picture: every vector leads to the frame before. MPEG-4 in GOPs of 12 is what CoViAR
and Context-Motion Decoupling train on; here with vectors of a quarter of a pixel (FFmpeg's encoder makes half ones
unless it is told, and on a pan of known speed their median was 0.3 pixels off) and up to one for every 8 x 8 block.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from motionops.commandline import existing_folder, writable_folder
from motionops.errors import UserError
from motionops.motion.prepare.copied_lists import copy_list, copy_lists
from motionops.motion.prepare.videos import Finished, PrepareConfig, Written, place_below, prepare_videos
from motionops.motion.prepared_file import Kind, PreparedWriter
from motionops.video.checking import Skipped
from motionops.video.decoder import Decoder, words
from motionops.video.encoding import KEY_FRAME_EVERY, encoded
from motionops.video.list_lines import Video
from motionops.video.lists.reading import files_and_part
from motionops.video.sources import VideoError, exists, state, tried_again
from motionops.video.upright import AS_STORED, Turn

COPIES = Kind("copy", "python -m motionops prepare reencode", ("bytes INTEGER",))
RECORD = ".reencoded.sqlite"  # which copies there are, and of which state of their videos
# A search that finds more of the true motion than the encoders' own: of the cells of MovingShapes' sprites (40 pixels)
# 97 % were within a pixel instead of 95 % (MPEG-4), 98 % instead of 97 % (H.264), in files no larger on real videos.
OPTIONS = {
    "mpeg4": {"qmin": "3", "qmax": "3", "flags": "+qpel+mv4", "cmp": "satd", "subcmp": "satd", "mbcmp": "satd"},
    "h264": {"crf": "18", "x264-params": "mbtree=0:rc-lookahead=0:weightp=0:me=umh:subme=6"},
}
# A copy keeps its name, so that lists fit; where the container of that name cannot hold it, it is a Matroska file,
# which readers know by its first bytes.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".3gp": "mp4", ".avi": "avi", ".ts": "mpegts"}
ANY_OTHER = "matroska"
USUAL_RATE = 25
FINEST_TIME = 65535  # parts of a second: MPEG-4 counts time in no smaller ones, and uneven stamps give any mean rate
# As FFmpeg numbers them: RGB, unspecified, BT.470BG and SMPTE 170M, of which the last three are ITU-R 601.
COLOURS_OF_COPIES = (0, 2, 5, 6)
FULL_RANGE = 2
# What an encoder reports that is no fault of the video.
FAULTS_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT)


@dataclass
class ReencodeConfig(PrepareConfig):
    """Write copies of a set of videos whose motion vectors can be trusted: P-frames only, one reference picture.

    --output is a folder, with --part the same one for all parts. It gets the videos under the names they have below
    --data, without sound, frame for frame, and the lists that lie there (.txt, .csv, .json) and --list, so that it is
    used as --data was."""

    codec: Literal["mpeg4", "h264"] = "mpeg4"
    """Codec of the copies: MPEG-4 decodes several times as fast, H.264 takes less space."""
    gop: int = KEY_FRAME_EVERY
    """An I-frame, which has no motion vectors, comes every so many frames."""


class Copy(NamedTuple):
    """Frames of a video, and the bytes of its copy."""

    frames: int
    bytes: int


@tried_again
def reencode_video(path: str | os.PathLike, output: str | os.PathLike, codec: str = "mpeg4", gop: int = 12) -> Copy:
    """Write a copy of a video with P-frames only and one reference picture, frame for frame, without sound.

    Copies are upright. Later frames of another size are scaled to the first one's; H.264 has even sides only, so odd
    ones lose a pixel.
    Colours are stored as ITU-R 601, which readers take for granted where a file does not say it.

    Args:
        path: the video.
        output: the copy, written beside and renamed.
        codec: "mpeg4" or "h264".
        gop: an I-frame comes every so many frames.

    Raises:
        VideoError: the video cannot be read, or not be encoded.
        OSError: the copy cannot be written.
    """
    output = Path(output)
    with Decoder(path) as decoder:
        frames = decoder.frames()
        first = next(frames, None)
        if first is None:
            decoder.check_end(0)
        even = 1 if codec == "mpeg4" else 2
        height, width = (max(side // even * even, even) for side in decoder.size(first))
        rate = Fraction(decoder.stream.average_rate or decoder.stream.guessed_rate or USUAL_RATE)
        rate = 1 / (1 / rate).limit_denominator(FINEST_TIME)
        container = CONTAINERS.get(output.suffix.lower(), ANY_OTHER)
        how = {"rate": rate, "gop": gop, "options": OPTIONS[codec], "container": container}
        count = 0

        def encode(write, frame) -> None:
            nonlocal count
            colours = {} if _as_copies(frame) else {"dst_colorspace": "ITU601", "dst_color_range": "MPEG"}
            rows, columns = decoder.turn.size(height, width)
            picture = decoder.reformatter.reformat(frame, columns, rows, "yuv420p", threads=1, **colours)
            picture = _upright(picture, decoder.turn)
            picture.pts, picture.time_base = count, 1 / rate
            picture.pict_type = 0  # what it was in the original would be asked of the encoder
            try:
                write(picture)
            except decoder.av.error.FFmpegError as error:
                raise _judged(path, output, codec, error) from error
            count += 1

        try:
            with encoded(output, codec, height, width, **how) as write:
                encode(write, first)
                for frame in frames:
                    encode(write, frame)
                decoder.check_end(count)
        except decoder.av.error.FFmpegError as error:  # from opening or closing the copy
            raise _judged(path, output, codec, error) from error
    return Copy(count, output.stat().st_size)


def _upright(picture, turn: Turn):
    """A picture of brightness and two planes of colour, turned: not every container says how copies are to be seen."""
    if turn == AS_STORED:
        return picture
    height, width = turn.size(picture.height, picture.width)
    upright = type(picture)(width, height, picture.format.name)
    for stored, plane in zip(picture.planes, upright.planes, strict=True):
        rows = np.frombuffer(stored, np.uint8).reshape(-1, stored.line_size)[: stored.height, : stored.width]
        target = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        target[:] = turn.pictures(rows)
    return upright


def _as_copies(frame) -> bool:
    """Whether its colours are stored as a file that says nothing of them is read; MPEG-4 in AVI cannot say it."""
    return frame.colorspace in COLOURS_OF_COPIES and frame.color_range != FULL_RANGE


def _judged(path: str | os.PathLike, output: Path, codec: str, error: Exception) -> Exception:
    """Whether an encoder's error speaks of the disk or of the video."""
    if error.errno in FAULTS_OF_THE_DISK:
        return OSError(error.errno, os.strerror(error.errno), str(output))
    return VideoError(path, f"cannot be encoded in {codec} ({words(error)})")


def reencode_videos(
    videos: Sequence[Video],
    data: Path,
    output: Path,
    *,
    codec: str = "mpeg4",
    gop: int = KEY_FRAME_EVERY,
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
    record: Path | None = None,
) -> list[Skipped]:
    """Write copies of those videos that the folder has none of yet or that have changed since, as they finish.

    `record` is the file that says which copies there are; by default it lies in `output`.

    Returns and raises as :func:`prepare_videos`; also UserError where a video is not below `data`, or the folder holds
    copies of other settings.
    """
    places = {video.path: output / place_below(video.path, os.fspath(data)) for video in videos}
    writer = PreparedWriter(output / RECORD if record is None else record, COPIES, {"codec": codec, "gop": gop})
    done = {video.path for video in videos} - {video.path for video in writer.missing(videos)}
    wanted = [video for video in videos if video.path not in done or not places[video.path].is_file()]

    def work(path: str) -> Copy:
        places[path].parent.mkdir(parents=True, exist_ok=True)
        return reencode_video(path, places[path], codec, gop)

    def write(path: str, finished: Finished) -> Written:
        writer.add(path, finished.state, finished.result.frames, (finished.result.bytes,))
        return Written(*finished.result)

    try:
        how = {"workers": workers, "strict": strict, "progress": progress}
        return prepare_videos(videos, wanted, work, write, what="copies", **how)
    finally:
        writer.close()
        if progress:
            _report(videos, places)


def _report(videos: Sequence[Video], places: dict[str, Path]) -> None:
    """Say what the videos that have copies take, and what the copies take."""
    copied = [video.path for video in videos if places[video.path].is_file() and exists(video.path)]
    before = sum(state(path).size for path in copied)
    after = sum(places[path].stat().st_size for path in copied)
    if before:
        print(
            f"{len(copied)} videos take {before / 2**20:.1f} MiB, their copies {after / 2**20:.1f} MiB "
            f"({after / before:.2f} times as much)",
            file=sys.stderr,
        )


def main(config: ReencodeConfig) -> int:
    """Write copies of all videos that have none yet, and of the lists."""
    config.require_at_least(gop=1)
    if config.data is None:
        raise UserError("--data: name the folder of the videos, whose folders the copies keep")
    data = existing_folder(config.root())
    inside, outside = os.path.realpath(config.output), os.path.realpath(data)
    if os.path.commonpath([inside, outside]) == outside:
        raise UserError(f"--output: {config.output} is within --data, so that the copies would be taken for videos")
    videos = config.videos()
    output = writable_folder(config.output)
    copy_lists(data, output)
    if config.list is not None:
        for file in files_and_part(os.fspath(config.list))[0]:
            copy_list(Path(file), data, output)
    how = {name: getattr(config, name) for name in ("codec", "gop", "workers", "strict")}
    reencode_videos(videos, data, output, record=config.of_the_part(output / RECORD), **how)
    return 0
