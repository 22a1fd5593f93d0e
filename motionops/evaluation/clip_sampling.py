"""The clips of a video that a frozen or a tested network sees: evenly spread in time, central squares in space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from motionops.video import VideoError, count_frames, read_frames
from motionops.video.reading import read_video_if_small
from motionops.views import augment_clips

# 224 of 256: the share of the short side that a centre crop keeps in the papers' test protocols.
CENTRE_CROP = 0.875

# Decoded videos up to this size are decoded once; larger ones a second time, after their frames were counted.
_SMALL_VIDEO_BYTES = 128 << 20


def clip_starts(length: int, clips: int, frames: int, stride: int) -> Tensor:
    """First frames of evenly spread clips, int64 ``[clips]``; one clip starts in the middle of what is possible.

    Raises:
        ValueError: the video of ``length`` frames is shorter than a clip, ``(frames - 1) * stride + 1``.
    """
    last = length - ((frames - 1) * stride + 1)
    if last < 0:
        raise ValueError(f"clip_starts: length must be at least {length - last}, got {length}")
    if clips == 1:
        return torch.tensor([last // 2])
    return (torch.arange(clips) * last + (clips - 1) // 2) // (clips - 1)


def hold_last(numbers: Tensor, length: int) -> Tensor:
    """Frame numbers of which those behind the end of a video of ``length`` frames name its last frame."""
    return numbers.clamp(max=length - 1)


def square_extents(height: int, width: int, crop: float, crops: int) -> Tensor:
    """Extents ``[crops, 3, 2]`` of squares with ``crop`` times the short side, spread evenly along the long side."""
    extents = centre_extent(height, width, crop).repeat(crops, 1, 1)
    if crops > 1:
        row = 2 if width >= height else 1
        side = crop * min(height, width) / max(height, width)
        start = torch.linspace(0.0, 1.0 - side, crops)
        extents[:, row] = torch.stack([start, start + side], dim=1)
    return extents


def centre_extent(height: int, width: int, crop: float = CENTRE_CROP) -> Tensor:
    """Extent ``[3, 2]`` of the centre square whose side is ``crop`` of the short side; the t row is (0, 1)."""
    side = crop * min(height, width)
    rows = [(0.0, 1.0)]
    rows += [(0.5 - 0.5 * side / length, 0.5 + 0.5 * side / length) for length in (height, width)]
    return torch.tensor(rows)


class VideoClips(Dataset):
    """Video i as normalised clips float32 ``[clips * crops, 3, T, S, S]``, or the reason why it cannot be used."""

    def __init__(
        self, videos, *, clips, frames, stride, size, crop, crops, mean, std, still, short, shuffle_frames, seed
    ):
        self.videos = list(videos)
        self.clips, self.frames, self.stride, self.size = clips, frames, stride, size
        self.crop, self.crops = crop, crops
        self.mean, self.std = mean, std
        self.still, self.short, self.shuffle_frames, self.seed = still, short, shuffle_frames, seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Tensor | str:
        path, length = self.videos[index].path, self.videos[index].frames
        try:
            whole = read_video_if_small(path, -1 if length is None else length, _SMALL_VIDEO_BYTES)
            if whole is not None:
                length = len(whole)
            elif length is None:
                length = count_frames(path)
            span = (self.frames - 1) * self.stride + 1
            if length < span and self.short == "skip":
                return f"is too short: {length} frames, {span} are needed"
            numbers = self._frame_numbers(index, length)
            pixels = read_frames(path, numbers) if whole is None else whole[numbers]
        except VideoError as error:
            return error.reason
        extents = square_extents(*pixels.shape[2:4], self.crop, self.crops).repeat(self.clips, 1, 1)
        if self.crops > 1:
            pixels = [clip for clip in pixels for _ in range(self.crops)]
        return augment_clips(pixels, extents, self.size, mean=self.mean, std=self.std)

    def _frame_numbers(self, index: int, length: int) -> Tensor:
        """Frame numbers ``[clips, T]``."""
        offsets = torch.arange(self.frames) * self.stride
        if self.still:
            offsets = offsets[self.frames // 2].expand(self.frames)
        span = (self.frames - 1) * self.stride + 1
        starts = clip_starts(max(length, span), self.clips, self.frames, self.stride)
        numbers = hold_last(starts[:, None] + offsets, length)
        if self.shuffle_frames:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
            order = torch.rand(numbers.shape, generator=generator).argsort(dim=1)
            numbers = numbers.gather(1, order)
        return numbers
