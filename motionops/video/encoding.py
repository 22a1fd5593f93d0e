"""Writing frames to a video file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from motionops.errors import UserError
from motionops.extras import require_av
from motionops.files import written_beside

# Every option fixes something. One thread makes the bytes a function of the frames; so does switching off x264's
# look-ahead, which for pictures whose sides are no multiples of 16 read what memory held (measured: 1 to 5 % of repeats
# of one file differed, 0 of 1500 without). A stream of P-frames with one reference picture is the one whose motion
# vectors mean what they say.
ENCODERS = {
    "h264": (
        "libx264",
        {
            "crf": "12",
            "preset": "veryfast",
            "bf": "0",
            "refs": "1",
            "threads": "1",
            "x264-params": "mbtree=0:rc-lookahead=0",
        },
    ),
    "mpeg4": ("mpeg4", {"qmin": "2", "qmax": "2", "bf": "0", "threads": "1"}),
}
KEY_FRAME_EVERY = 12


@contextlib.contextmanager
def encoded(
    path: str | os.PathLike,
    codec: str,
    height: int,
    width: int,
    *,
    rate: int | Fraction = 25,
    gop: int = KEY_FRAME_EVERY,
    options: Mapping[str, str] | None = None,
    container: str | None = None,
) -> Iterator[Callable[[Any], None]]:
    """A function that encodes one picture after another into a video file, which is there whole or not at all.

    Args:
        path: the file, written beside under another name and renamed.
        codec: a key of :data:`ENCODERS`.
        height, width: of the pictures.
        rate: pictures per second.
        gop: a key frame comes after so many pictures at the latest.
        options: encoder options that override those of :data:`ENCODERS`.
        container: as FFmpeg names it; by default it follows from the file's suffix.

    Raises:
        UserError: the codec is unknown or PyAV was built without its encoder.
    """
    if codec not in ENCODERS:
        raise UserError(f"unknown codec {codec!r}; choose one of: {', '.join(ENCODERS)}")
    av = require_av()
    encoder, settings = ENCODERS[codec]
    with written_beside(Path(path)) as partial, av.open(f"file:{partial}", "w", format=container) as file:
        try:
            stream = file.add_stream(encoder, rate=rate, options={**settings, **(options or {})})
        except av.codec.codec.UnknownCodecError as error:
            raise UserError(f"this PyAV has no encoder {encoder}; another codec: {', '.join(ENCODERS)}") from error
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        yield lambda picture: file.mux(stream.encode(picture))
        file.mux(stream.encode())


def write_video(
    path: str | os.PathLike, frames: np.ndarray, *, codec: str = "h264", rate: int = 25, options: dict | None = None
) -> None:
    """Encode RGB frames into a video file; the container follows from the file's suffix.

    Args:
        path: the file, written beside under another name and renamed, so that a killed process leaves no half of it.
        frames: uint8 ``[F, H, W, 3]``; H and W even (the colour planes have half the size).
        codec: ``"h264"`` (CRF 12) or ``"mpeg4"`` (quantiser 2); P-frames only, a key frame every 12 frames.
        rate: frames per second.
        options: encoder options that override those above, as the encoder names them.

    Raises:
        ValueError: frames of another type or shape.
        UserError: the codec is unknown or PyAV was built without its encoder.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or frames.shape[0] == 0:
        raise ValueError(
            f"write_video: frames must be uint8 [F >= 1, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"write_video: H and W must be even, got {frames.shape[1]}x{frames.shape[2]}")
    with encoded(path, codec, *frames.shape[1:3], rate=rate, options=options) as write:
        for frame in frames:
            write(require_av().VideoFrame.from_ndarray(frame, format="rgb24"))
