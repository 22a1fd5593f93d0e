"""Where views are cut out of their videos."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from motionops.arrays import numbers_on_host
from motionops.scalars import check_scalars
from motionops.views.host import on_the_cpu

TRIES = 10  # boxes that are drawn for a view until one fits, as torchvision's RandomResizedCrop does


@on_the_cpu
def sample_extents(
    batch: int,
    *,
    frames: int,
    frame_count: int | torch.Tensor,
    stride: int = 1,
    starts: torch.Tensor | Sequence[int] | None = None,
    height: int = 1,
    width: int = 1,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    mirror: float = 0.5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw views: a random start frame, a random resized crop, a mirror image.

    The crop is that of torchvision's ``RandomResizedCrop`` without rounding to pixels: an area uniform in ``scale``, an
    aspect (width over height, in pixels) log-uniform in ``ratio``, ten tries until the box fits the picture, else
    the largest central box with an allowed aspect; then a uniform position.

    Args:
        batch: B views.
        frames, stride: frames of a clip and source frames from one to the next.
        frame_count: frames of the videos, one number or int64 ``[B]``; starts are uniform over those where the clip
            fits.
        starts: int64 ``[B]`` or a sequence of integers, start frames that are known already; then ``frame_count`` is
            only checked.
        height, width: of the source pictures in pixels; only their ratio counts.
        scale: range of the crop's share of the picture.
        ratio: range of its aspect.
        mirror: probability of a mirrored view.
        generator: on the CPU; without it torch's own.

    Returns:
        Extents, float32 ``[B, 3, 2]``: rows (t, y, x), columns (start, end). t is in source frames, from the start
        frame to ``start + frames * stride``; y and x are fractions of the picture; x runs backwards where mirrored.

    Raises:
        TypeError: an argument that is no number, or no whole one.
        ValueError: a range or count out of range, a video shorter than ``(frames - 1) * stride + 1``.
    """
    batch, frames, stride, height, width, scale, ratio, mirror = _checked(
        batch, frames, stride, height, width, scale, ratio, mirror
    )
    span = (frames - 1) * stride + 1
    frame_count = numbers_on_host("sample_extents", "frame_count", frame_count, whole=True)
    if frame_count.shape not in ((), (1,), (batch,)):
        raise ValueError(
            f"sample_extents: frame_count must be one number or [B={batch}], got {list(frame_count.shape)}"
        )
    last = frame_count.expand(batch) - span
    if batch and int(last.min()) < 0:
        raise ValueError(f"sample_extents: frame_count must be at least {span}, got {int(last.min()) + span}")
    # One block of numbers a view, so that view i's draw does not depend on how many follow.
    draws = torch.rand(batch, 4 + 2 * TRIES, generator=generator, dtype=torch.float64)
    if starts is not None:
        starts = numbers_on_host("sample_extents", "starts", starts, whole=True)
    if starts is None:
        starts = torch.minimum((draws[:, 0] * (last + 1)).long(), last)
    elif starts.shape != (batch,):
        raise ValueError(f"sample_extents: starts must be [B={batch}], got {list(starts.shape)}")
    elif batch and (int(starts.min()) < 0 or bool((starts > last).any())):
        raise ValueError(f"sample_extents: starts must be in [0, frame_count - {span}], got {starts.tolist()}")

    shares = scale[0] + (scale[1] - scale[0]) * draws[:, 4 : 4 + TRIES]
    logs = math.log(ratio[0]), math.log(ratio[1])
    # In fractions of the picture the aspect is that in pixels over the picture's own.
    ratios = torch.exp(logs[0] + (logs[1] - logs[0]) * draws[:, 4 + TRIES :]) * (height / width)
    widths, heights = (shares * ratios).sqrt(), (shares / ratios).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    allowed = min(max(width / height, ratio[0]), ratio[1]) * (height / width)
    box = torch.stack([heights.gather(1, first), widths.gather(1, first)], dim=1)[..., 0]
    fallback = torch.tensor([min(1.0, 1 / allowed), min(1.0, allowed)], dtype=torch.float64)
    some_fit = fits.any(dim=1, keepdim=True)
    box = torch.where(some_fit, box, fallback)
    places = torch.where(some_fit, draws[:, 1:3], torch.full((), 0.5, dtype=torch.float64))
    begin = places * (1 - box)
    extents = torch.stack([begin, begin + box], dim=-1)
    mirrored = draws[:, 3] < mirror
    extents[mirrored, 1] = extents[mirrored, 1].flip(-1)
    time = torch.stack([starts, starts + frames * stride], dim=-1).to(torch.float64)
    return torch.cat([time[:, None], extents], dim=1).float()


def _checked(batch, frames, stride, height, width, scale, ratio, mirror):
    """The arguments as Python's numbers."""
    op = "sample_extents"
    for name, ends in (("scale", scale), ("ratio", ratio)):
        if not hasattr(ends, "__len__") or len(ends) != 2:
            raise ValueError(f"{op}: {name} must be (low, high), got {ends!r}")
        check_scalars(op, real={f"{name}[{place}]": end for place, end in enumerate(ends)})
    scale, ratio = (tuple(map(float, ends)) for ends in (scale, ratio))
    whole = {"batch": batch, "frames": frames, "stride": stride}
    real = {"height": height, "width": width, "mirror": mirror}
    check_scalars(op, real=real, whole=whole)
    batch, frames, stride = map(int, whole.values())
    height, width, mirror = map(float, real.values())
    for name, value, least in (
        ("batch", batch, 0),
        ("frames", frames, 1),
        ("stride", stride, 1),
        ("height", height, 1),
        ("width", width, 1),
    ):
        if value < least:
            raise ValueError(f"{op}: {name} must be >= {least}, got {value}")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"{op}: scale must be (low, high) with 0 < low <= high <= 1, got {scale}")
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(f"{op}: ratio must be (low, high) with 0 < low <= high, got {ratio}")
    if not 0 <= mirror <= 1:
        raise ValueError(f"{op}: mirror must be in [0, 1], got {mirror}")
    return batch, frames, stride, height, width, scale, ratio, mirror
