"""A few clips to look at: as the network takes them, and large enough for eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from motionops.video import Video, VideoError, count_frames, read_frames
from motionops.views import augment_clips
from motionops.views.colour import KINETICS_MEAN, KINETICS_STD
from motionops.views.even_clips import CENTRE_CROP, centre_extent, clip_starts, hold_last, segment_frames

_EYES = 160  # pixels: the least side of a picture


class ShownClips(NamedTuple):
    """N clips of T frames.

    Attributes:
        videos: that they are of.
        clips: float32 ``[N, 3, T, S, S]``, normalised as the network takes them.
        plain: the same with values in 0..1.
        pictures: uint8 ``[N, T, P, P, 3]``, the same frames and crop, at least 160 pixels wide.
        following: uint8 ``[N, P, P, 3]``, the source frame after the middle one of each clip.
        numbers: int64 ``[N, T]``, of the frames in their videos.
    """

    videos: list[Video]
    clips: Tensor
    plain: Tensor
    pictures: Tensor
    following: Tensor
    numbers: Tensor

    @property
    def middle(self) -> int:
        return self.pictures.shape[1] // 2


def shown_clips(videos: Sequence[Video], settings: Mapping[str, Any], place: float = 0.5) -> ShownClips:
    """One clip of each video that can be read, with the crop and sampling of ``settings``.

    Args:
        videos: to choose from.
        settings: frames, stride, size; crop, mean, std where they are not the defaults of ``extract_features``.
        place: where in the video: 0 its first possible clip, 1 its last.
    """
    frames, stride, size = (settings[name] for name in ("frames", "stride", "size"))
    mean, std = (settings.get(name, default) for name, default in (("mean", KINETICS_MEAN), ("std", KINETICS_STD)))
    used, clips, plain, pictures, following, shown = [], [], [], [], [], []
    for video in videos:
        try:
            length = count_frames(video.path) if video.frames is None else video.frames
            if settings.get("sampling") == "segments":
                numbers = segment_frames(length, frames)
            else:
                span = (frames - 1) * stride + 1
                starts = clip_starts(max(length, span), 101, frames, stride)
                numbers = hold_last(starts[round(100 * place)] + stride * torch.arange(frames), length)
            after = hold_last(numbers[frames // 2] + 1, length)
            pixels = read_frames(video.path, torch.cat([numbers, after[None]]))
        except VideoError:
            continue
        extent = centre_extent(*pixels.shape[1:3], crop=settings.get("crop", CENTRE_CROP))[None]
        used.append(video)
        clips.append(augment_clips(pixels[None, :-1], extent, size, mean=mean, std=std)[0])
        plain.append(augment_clips(pixels[None, :-1], extent, size, mean=0.0, std=1.0)[0])
        large = augment_clips(pixels[None], extent, max(size, _EYES), mean=0.0, std=1.0)[0]
        large = (255 * large).round().to(torch.uint8).permute(1, 2, 3, 0)
        pictures.append(large[:-1])
        following.append(large[-1])
        shown.append(numbers)
    return ShownClips(used, *(torch.stack(parts) for parts in (clips, plain, pictures, following, shown)))
