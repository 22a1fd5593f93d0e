"""Motion vectors on a grid beside the decoder alone, and beside PyAV's records painted block by block."""

import numpy as np
import pytest
import torch

from motionops.extras import require_av
from motionops.motion import read_coded_clip, read_motion_vectors
from motionops.video import read_frames
from motionops.video.encoding import write_video
from tests.video.video_files import textured_pan

FRAMES, HEIGHT, WIDTH, CELL = 200, 240, 320, 8
THERE = 50  # frames that the texture moves one way


@pytest.fixture(params=["mpeg4", "h264"])
def path(tmp_path, device, request):
    """A 320×240 video of P-frames: a texture that moves there and back."""
    if device.type != "cpu":
        pytest.skip("decoding is done on the CPU")
    there = textured_pan(THERE, HEIGHT, WIDTH, 2.25, -1.5)
    frames = np.concatenate([there, there[::-1]] * (FRAMES // (2 * THERE)))
    path = tmp_path / f"{request.param}.mp4"
    write_video(path, frames, codec=request.param)
    return path


def opened(path, vectors=False):
    container = require_av().open(str(path))
    context = container.streams.video[0].codec_context
    context.thread_count = 1
    if vectors:
        context.flags2 |= require_av().codec.context.Flags2.export_mvs
    return container


def decoder_alone(path, result):
    """Decode without looking at the frames: the floor. Returns ``result``, to have something to compare."""
    with opened(path) as container:
        for _ in container.decode(video=0):
            pass
    return result


def painted(path):
    """Each block's displacement at each of its pixels, then the mean of each cell: what loops over records do."""
    maps = []
    with opened(path, vectors=True) as container:
        for frame in container.decode(video=0):
            picture = torch.zeros(2, HEIGHT, WIDTH)
            records = frame.side_data.get("MOTION_VECTORS")
            for record in [] if records is None else records.to_ndarray().tolist():
                _, w, h, _, _, x, y, _, u, v, scale = record
                left, top = x - w // 2, y - h // 2
                picture[0, top : top + h, left : left + w] = -u / scale
                picture[1, top : top + h, left : left + w] = -v / scale
            maps.append(torch.nn.functional.avg_pool2d(picture, CELL))
    return torch.stack(maps)


def bench_read_motion_vectors(comparison, path):
    whole = painted(path)
    comparison(
        f"{FRAMES} frames {WIDTH}×{HEIGHT} {path.stem}, vectors of the whole video",
        ours=lambda: read_motion_vectors(path, cell=CELL),
        reference=lambda: whole,
        peers={
            "PyAV, painted blocks": lambda: painted(path),
            "PyAV, decoder alone": lambda: decoder_alone(path, whole),
        },
        rtol=1e-5,
        targets={"PyAV, decoder alone": 0.8},
    )


def bench_read_coded_clip(comparison, path):
    """A training's clip: 16 frames of every fourth, their key frame, and the vectors of the 8 frames after them."""
    frames, motion = torch.arange(100, 164, 4), torch.arange(164, 172)
    clip = (read_frames(path, frames), painted(path)[motion])
    comparison(
        f"16 of {FRAMES} frames {WIDTH}×{HEIGHT} {path.stem}, vectors of 8",
        ours=lambda: read_coded_clip(path, frames, motion, cell=CELL)[::2],
        reference=lambda: clip,
        peers={"read_frames": lambda: (read_frames(path, frames), clip[1])},
        rtol=1e-5,
        targets={"read_frames": 0.8},
    )
