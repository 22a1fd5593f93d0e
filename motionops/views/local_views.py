"""Local clips inside a global view of their video (Controllable Augmentations, Section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from motionops.arrays import numbers_on_host
from motionops.scalars import check_scalars
from motionops.views.extents import sample_extents
from motionops.views.host import on_the_cpu


@on_the_cpu
def local_starts(
    frame_count: int, clips: int, *, frames: int, stride: int = 1, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Start frames of K clips whose centres lie in [(k - 1) T / K, k T / K], k = 1 .. K, each uniform there.

    A clip's extent, ``frames * stride`` source frames, stays inside its video, as :func:`local_extents` wants it: near
    the ends, where a clip with such a centre would leave it, the nearest start is taken, so that of long clips in a
    short video the first and the last ones overlap more.

    Args:
        frame_count: T, frames of the video.
        clips: K.
        frames, stride: frames of a clip and source frames from one to the next.
        generator: on the CPU; without it torch's own.

    Returns:
        int64 `[K]`, rising.

    Raises:
        TypeError: an argument that is no whole number.
        ValueError: no clip; a clip longer than the video; fewer frames than segments.
    """
    whole = {"frame_count": frame_count, "clips": clips, "frames": frames, "stride": stride}
    check_scalars("local_starts", whole=whole)
    frame_count, clips, frames, stride = map(int, whole.values())
    if min(clips, frames, stride) < 1:
        raise ValueError(f"local_starts: clips, frames and stride must be at least 1, got {clips}, {frames}, {stride}")
    length = frames * stride
    if length > frame_count:
        raise ValueError(f"local_starts: a clip of {length} source frames does not fit a video of {frame_count}")
    if clips > frame_count:
        raise ValueError(f"local_starts: a video of {frame_count} frames has no {clips} segments")
    k = torch.arange(clips, dtype=torch.float64)
    most = frame_count - length
    first = (k * frame_count / clips - length / 2).ceil().clamp(0, most)
    last = ((k + 1) * frame_count / clips - length / 2).floor().clamp(0, most)
    # A segment of less than a frame may hold no start: the one before it is the nearest.
    first = torch.minimum(first, last)
    draws = torch.rand(clips, generator=generator, dtype=torch.float64)
    return torch.minimum(first + (draws * (last - first + 1)).floor(), last).long()


@on_the_cpu
def local_extents(
    view: torch.Tensor,
    starts: torch.Tensor | Sequence[int],
    *,
    frames: int,
    stride: int = 1,
    height: int = 256,
    width: int = 256,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    mirror: float = 0.5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw local clips inside a view: random resized crops of its box, mirrored or not by themselves.

    Every row of their soft correspondence with the view then sums to 1.

    Args:
        view: `[3, 2]`, extent of the global view.
        starts: int64 `[K]` or a sequence of integers, start frames of the clips.
        frames, stride: frames of a clip and source frames from one to the next.
        height, width: of the source pictures in pixels; beside their ratio it counts that the view has a pixel.
        scale: range of a crop's share of the view.
        ratio: range of its aspect, width over height in pixels.
        mirror: probability of a mirrored clip.
        generator: on the CPU; without it torch's own.

    Returns:
        Extents, float32 `[K, 3, 2]`, as those of :func:`motionops.sample_extents`.

    Raises:
        TypeError: an argument that is no number, or no whole one.
        ValueError: a wrong shape, a clip that is not inside the view in time, what `sample_extents` refuses.
    """
    check_scalars("local_extents", real={"height": height, "width": width}, whole={"frames": frames, "stride": stride})
    frames, stride, height, width = int(frames), int(stride), float(height), float(width)
    view = numbers_on_host("local_extents", "view", view)
    starts = numbers_on_host("local_extents", "starts", starts, whole=True)
    if view.shape != (3, 2):
        raise ValueError(f"local_extents: view must be [3, 2], got {list(view.shape)}")
    if starts.ndim != 1:
        raise ValueError(f"local_extents: starts must be [K], got {list(starts.shape)}")
    begin, end = view[0].tolist()
    for start in starts.tolist():
        if start < begin or start + frames * stride > end:
            raise ValueError(
                f"local_extents: the clip of source frames {start} to {start + frames * stride} lies outside its "
                f"global view of {begin:g} to {end:g}"
            )
    low, high = view[1:].double().amin(dim=1), view[1:].double().amax(dim=1)
    size = high - low
    extents = sample_extents(
        len(starts),
        frames=frames,
        stride=stride,
        frame_count=int(end),
        starts=starts,
        height=height * float(size[0]),
        width=width * float(size[1]),
        scale=scale,
        ratio=ratio,
        mirror=mirror,
        generator=generator,
    )
    inside = low[:, None] + size[:, None] * extents[:, 1:].double()
    # Rounding may not lead out of the view.
    inside = torch.minimum(torch.maximum(inside, low[:, None]), high[:, None])
    return torch.cat([extents[:, :1], inside.float()], dim=1)
