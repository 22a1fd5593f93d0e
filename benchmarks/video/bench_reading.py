"""read_video and read_frames beside PyAV as its documentation uses it, and beside its decoder alone."""

import numpy as np
import pytest
import torch

from motionops.extras import require_av
from motionops.video import read_frames, read_video
from motionops.video.encoding import write_video

FRAMES, HEIGHT, WIDTH = 200, 240, 320


@pytest.fixture
def path(tmp_path, device):
    """A 320×240 H.264 video of smooth things that move, with B-frames and three key frames."""
    if device.type != "cpu":
        pytest.skip("decoding is done on the CPU")
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 20
    colours = np.arange(3) * 2.0
    frames = [
        np.sin(x + t / 5)[..., None] * np.cos(y - t / 9)[..., None] + np.sin(colours + t / 7) for t in range(FRAMES)
    ]
    pixels = np.clip(
        128 + 60 * np.stack(frames) + np.random.default_rng(0).normal(0, 4, (FRAMES, HEIGHT, WIDTH, 1)), 0, 255
    )
    options = {"crf": "23", "bf": "3", "refs": "3", "g": "80", "x264-params": ""}
    write_video(tmp_path / "video.mp4", pixels.astype(np.uint8), options=options)
    return tmp_path / "video.mp4"


def plain(path):
    """All frames by ``VideoFrame.to_ndarray``."""
    with require_av().open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames))


def decoder_alone(path, result):
    """Decode without looking at the frames: the floor. Returns ``result``, to have something to compare."""
    with require_av().open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return result


def bench_read_video(comparison, path):
    whole = plain(path)
    comparison(
        f"{FRAMES} frames {WIDTH}×{HEIGHT} H.264, whole video",
        ours=lambda: read_video(path),
        reference=lambda: whole,
        peers={"PyAV, to_ndarray": lambda: plain(path), "PyAV, decoder alone": lambda: decoder_alone(path, whole)},
        rtol=0,
        atol=0,
        targets={"PyAV, to_ndarray": 1.0},
    )


def bench_clips(comparison, path):
    """Two clips, one at the end: every frame is decoded, those of the clips are converted."""
    wanted = torch.tensor([[20], [FRAMES - 32]]) + torch.arange(0, 32, 2)
    clips = plain(path)[wanted]
    comparison(
        f"2 clips of 16 of {FRAMES} frames {WIDTH}×{HEIGHT} H.264",
        ours=lambda: read_frames(path, wanted),
        reference=lambda: clips,
        peers={
            "PyAV, to_ndarray": lambda: plain(path)[wanted],
            "PyAV, decoder alone": lambda: decoder_alone(path, clips),
        },
        rtol=0,
        atol=0,
        targets={"PyAV, to_ndarray": 1.0, "PyAV, decoder alone": 0.8},
    )


def bench_read_frames(comparison, path):
    wanted = torch.arange(100, 132, 2)
    whole = plain(path)
    comparison(
        f"16 of {FRAMES} frames {WIDTH}×{HEIGHT} H.264, stride 2 from frame 100",
        ours=lambda: read_frames(path, wanted),
        reference=lambda: whole[wanted],
        peers={"PyAV, to_ndarray": lambda: plain(path)[wanted]},
        rtol=0,
        atol=0,
        targets={"PyAV, to_ndarray": 1.0},
    )
