"""TV-L1 flow as pictures, for others' two-stream code: ``motionops prepare flow --data DIR --output DIR``.

The layout is that of TSN's and mmaction2's raw frames: ``OUTPUT/<video's place below --data>/flow_x_00001.jpg`` and
``flow_y_00001.jpg``, the flow from the first frame to the second, to the last but one. A flow of -20 pixels is 0, one
of 20 is 255, larger ones are cut off (I3D, and the usual bound of dense_flow): what stands still is 128.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from motionops.commandline import writable_folder
from motionops.errors import UserError
from motionops.extras import require
from motionops.flow.clip_flow import clip_flow
from motionops.library import has_cuda
from motionops.motion.prepare.videos import Finished, PrepareConfig, Written, place_below, prepare_videos
from motionops.motion.prepared_file import Kind, PreparedWriter
from motionops.video.checking import Skipped
from motionops.video.list_lines import Video
from motionops.video.reading import VideoError, read_pieces

FLOW = Kind("flow", "python -m motionops prepare flow", ("bytes INTEGER",))
RECORD = ".flow.sqlite"  # of which videos there are pictures, and of which state of theirs
FRAMES_AT_ONCE = 64
BOUND, QUALITY, SIDE = 20, 95, 256


@dataclass
class FlowConfig(PrepareConfig):
    """Write the TV-L1 flow of a set of videos as JPEG pictures of u and v, for others' two-stream code.

    --output is a folder, with --part the same one for all parts. It gets a folder a video, under the name that the
    video has below --data without its suffix, with flow_x_00001.jpg and flow_y_00001.jpg for the flow from the first
    frame to the second, and so on."""

    side: int = SIDE
    """Frames with a longer shorter side are shrunk to it before the flow; 0: none is."""
    bound: int = BOUND
    """Pixels of flow that become white; as many the other way are black, what stands still is 128."""
    quality: int = QUALITY
    """Of the JPEG pictures, 1 to 100."""


def flow_pictures(flow: torch.Tensor, bound: int = BOUND) -> torch.Tensor:
    """Flow of any shape as grey values, uint8: ``-bound..bound`` pixels are 0..255, what lies beyond is cut off."""
    return ((flow + bound) * (255 / (2 * bound))).round().clamp(0, 255).to(torch.uint8)


def with_shorter_side(frames: torch.Tensor, side: int) -> torch.Tensor:
    """Frames uint8 `[F, H, W, 3]` whose shorter side is at most `side` (0: as they are)."""
    height, width = frames.shape[1:3]
    if not side or min(height, width) <= side:
        return frames
    scale = side / min(height, width)
    size = [round(height * scale), round(width * scale)]
    pictures = functional.interpolate(frames.permute(0, 3, 1, 2).float(), size, mode="area")
    return pictures.round().to(torch.uint8).permute(0, 2, 3, 1)


@torch.no_grad()
def write_flow(path: str, folder: Path, *, side: int = SIDE, bound: int = BOUND, quality: int = QUALITY) -> Written:
    """Write the pictures of a video's flow into a folder, made beside and renamed; the video's frames, and the bytes.

    Raises:
        VideoError: it cannot be read, or has one frame.
        OSError: the pictures cannot be written.
    """
    device = "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
    partial_folder = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)  # of a killed run
    partial_folder.mkdir(parents=True)
    count = written = 0
    before = None
    try:
        for piece in read_pieces(path, FRAMES_AT_ONCE):
            frames = with_shorter_side(piece.to(device), side)
            # The last frame waits for its follower, which the next piece begins with.
            frames = frames if before is None else torch.cat([before, frames])
            before = frames[-1:]
            if len(frames) == 1:
                continue
            pictures = flow_pictures(clip_flow(frames[None])[0, :-1], bound).cpu().numpy()
            for both in pictures:
                count += 1
                for name, picture in zip("xy", both, strict=True):
                    data = _jpeg(picture, quality)
                    (partial_folder / f"flow_{name}_{count:05d}.jpg").write_bytes(data)
                    written += len(data)
        if not count:
            raise VideoError(path, "is too short: 1 frames, 2 are needed")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial_folder, folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return Written(count + 1, written)


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=quality)
    return held.getvalue()


def prepare_flow(
    videos: Sequence[Video],
    data: str,
    output: Path,
    *,
    side: int = SIDE,
    bound: int = BOUND,
    quality: int = QUALITY,
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
    record: Path | None = None,
) -> list[Skipped]:
    """Write the flow of those videos that the folder has none of yet or that have changed since, as they finish.

    `record` is the file that says of which videos there is flow; by default it lies in `output`.

    Returns and raises as :func:`prepare_videos`; also UserError where a video is not below `data`, two videos would
    have one folder, or the folder holds flow of other settings.
    """
    places: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for video in videos:
        place = output / os.path.splitext(place_below(video.path, data))[0]
        if taken.setdefault(place, video.path) != video.path:
            raise UserError(f"{taken[place]} and {video.path} would have their flow in one folder, {place}")
        places[video.path] = place
    how = {"side": side, "bound": bound, "quality": quality}
    writer = PreparedWriter(output / RECORD if record is None else record, FLOW, how)
    done = {video.path for video in videos} - {video.path for video in writer.missing(videos)}
    wanted = [video for video in videos if video.path not in done or not places[video.path].is_dir()]

    def write(path: str, finished: Finished) -> Written:
        writer.add(path, finished.state, finished.result.frames, (finished.result.bytes,))
        return finished.result

    work = partial(_work, places=places, **how)
    try:
        shown = {"workers": workers, "strict": strict, "progress": progress}
        return prepare_videos(videos, wanted, work, write, what="flow", **shown)
    finally:
        writer.close()


def _work(path: str, places: dict[str, Path], **how: int) -> Written:
    return write_flow(path, places[path], **how)


def main(config: FlowConfig) -> int:
    """Write the flow of all videos that have none yet."""
    config.require_at_least(side=0, bound=1, quality=1)
    if config.quality > 100:
        raise UserError(f"--quality: must be at most 100, got {config.quality}")
    require("motionops prepare flow", "PIL")
    videos, output = config.videos(), writable_folder(config.output)
    how = {name: getattr(config, name) for name in ("side", "bound", "quality", "workers", "strict")}
    prepare_flow(videos, config.root(), output, record=config.of_the_part(output / RECORD), **how)
    return 0
