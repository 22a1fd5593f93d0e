"""Small video files whose frames show their numbers, and a plain decode to compare with."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from motionops.extras import require_av


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 ``[F, H, W, 3]``: frame n shows its number as eight grey bars (bit i is bar i), so a decoder cannot lie."""
    frames = np.full((count, height, width, 3), 40, dtype=np.uint8)
    bar = width // 8
    for number in range(count):
        for bit in range(8):
            if number >> bit & 1:
                frames[number, :, bit * bar : (bit + 1) * bar] = 215
    return frames


def numbers_of(frames) -> list[int]:
    """The numbers that frames ``[N, H, W, 3]`` show."""
    frames = np.asarray(frames)
    bar = frames.shape[2] // 8
    bars = frames[:, :, : 8 * bar].reshape(len(frames), frames.shape[1], 8, bar, 3).mean(axis=(1, 3, 4))
    return [int(sum(1 << bit for bit in range(8) if row[bit] > 128)) for row in bars]


def encode(
    path: Path, frames: np.ndarray, encoder: str, options: dict, stamps=None, rate: int = 25, gop: int = 12
) -> Path:
    """Encode with PyAV directly; ``stamps`` are presentation times in thousandths of a second."""
    av = require_av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *frames.shape[1:3], "yuv420p", gop
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if stamps is not None:
                picture.pts, picture.time_base = int(stamps[number]), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def plain_decode(path: Path) -> np.ndarray:
    """PyAV as its documentation uses it."""
    av = require_av()
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def turn_header(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix (a, b, c, d) into the track header of an MP4 file that says nothing of one."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2: the matrix follows 40 bytes of a version 0 box
    one, unit = 1 << 16, 1 << 30
    a, b, c, d = matrix
    rows = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, unit)
    assert data[place : place + 36] == b"".join(n.to_bytes(4, "big") for n in (one, 0, 0, 0, one, 0, 0, 0, unit))
    data[place : place + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in rows)
    path.write_bytes(data)


def textured_pan(count: int, height: int, width: int, u: float, v: float, seed: int = 0) -> np.ndarray:
    """uint8 ``[F, H, W, 3]``: a texture of plane waves that moves by exactly (u, v) pixels a frame."""
    random = np.random.default_rng(seed)
    length, angle = random.uniform(8, 60, (2, 40)) * [[1], [2 * np.pi / 60]]
    phases = random.uniform(0, 2 * np.pi, (40, 3))
    frame = np.arange(count)[:, None]
    # a wave's phase is a sum of one of the column and one of row and channel: sin(a + b) = sin a cos b + cos a sin b
    along_x = (np.arange(width) - u * frame)[:, None] * (2 * np.pi / length * np.cos(angle))[:, None]  # [F, waves, W]
    along_y = (np.arange(height) - v * frame)[..., None] * (2 * np.pi / length * np.sin(angle))  # [F, H, waves]
    along_y = along_y[:, :, None] + phases.T  # [F, H, 3, waves]
    rows = np.concatenate([np.cos(along_y), np.sin(along_y)], axis=3).reshape(count, 3 * height, 80)
    picture = 128 + 14 * (rows @ np.concatenate([np.sin(along_x), np.cos(along_x)], axis=1))
    picture = np.moveaxis(picture.reshape(count, height, 3, width), 2, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)
