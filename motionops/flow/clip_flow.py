"""The optical flow of clips, as methods compute it while training."""

from __future__ import annotations

import torch
from torch import Tensor

from motionops.arrays import as_tensor
from motionops.flow.tvl1_flow import WHITE, tvl1_flow

BT601 = (0.299, 0.587, 0.114)  # grey of red, green and blue


def clip_flow(frames: Tensor, *, interval: int = 1, **tvl1_arguments) -> Tensor:
    """TV-L1 flow of every frame of clips, to the frame `interval` later (MCL, Section 3.1) or, negative, earlier.

    Frames without a partner in their clip take the nearest flow that exists: with interval 1 the last frame repeats the
    one before, as in MCL. A clip that has no pair at all gets a flow of zero.

    Args:
        frames: RGB, either uint8 `[B, T, H, W, 3]`, as videos are read; or floating `[B, 3, T, H, W]` in 0..1, as
            `augment_clips(..., mean=0, std=1)` cuts clips.
        interval: in frames, not 0.
        tvl1_arguments: of `motionops.tvl1_flow`.

    Returns:
        float32 `[B, T, 2, H, W]`: u (pixels to the right), v (pixels down). No gradient.

    Raises:
        TypeError: frames that are no tensor or array, or of another type.
        ValueError: a wrong shape or interval.
    """
    frames = as_tensor("clip_flow", "frames", frames)
    floating = frames.is_floating_point()
    if not floating and frames.dtype != torch.uint8:
        raise TypeError(f"clip_flow: frames must be uint8 or floating, got {frames.dtype}")
    if frames.ndim != 5 or frames.shape[1 if floating else -1] != 3:
        layout = "[B, 3, T, H, W] where they are floating" if floating else "[B, T, H, W, 3]"
        raise ValueError(f"clip_flow: frames must be {layout}, got {list(frames.shape)}")
    if floating:
        frames = frames.detach().movedim(1, -1)
    if isinstance(interval, bool) or not isinstance(interval, int) or interval == 0:
        raise ValueError(f"clip_flow: interval must be a whole number other than 0, got {interval!r}")
    batch, time, height, width = frames.shape[:4]
    distance = abs(interval)
    if time <= distance or 0 in (batch, height, width):
        return torch.zeros(batch, time, 2, height, width, device=frames.device)
    grey = frames.float() @ torch.tensor(BT601, device=frames.device, dtype=torch.float32)
    if floating:
        grey = grey * WHITE
    earlier, later = grey[:, :-distance].flatten(0, 1), grey[:, distance:].flatten(0, 1)
    pair = (earlier, later) if interval > 0 else (later, earlier)
    flow = tvl1_flow(*pair, **tvl1_arguments).unflatten(0, (batch, time - distance))
    if interval > 0:
        return torch.cat([flow, flow[:, -1:].expand(-1, distance, -1, -1, -1)], dim=1)
    return torch.cat([flow[:, :1].expand(-1, distance, -1, -1, -1), flow], dim=1)
