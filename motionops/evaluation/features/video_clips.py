"""The clips of a video that a frozen or a tested network sees: evenly spread in time, central squares in space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.library import NAMESPACE, can_call
from motionops.video import Video, VideoError, count_frames, read_frames
from motionops.video.reading import read_video_if_small
from motionops.views import augment_clips, augment_clips_reference
from motionops.views.even_clips import clip_starts, hold_last, segment_frames, square_extents

# Decoded videos up to this size are decoded once; larger ones a second time, after their frames were counted.
_SMALL_VIDEO_BYTES = 128 << 20


class VideoClips(Dataset):
    """Video i as normalised clips float32 ``[clips * crops, 3, T, S, S]``, or the reason why it cannot be used."""

    def __init__(self, videos: Sequence[Video], recipe: ClipRecipe, shuffle_frames: bool = False, seed: int = 0):
        self.videos, self.recipe = list(videos), recipe
        self.shuffle_frames, self.seed = shuffle_frames, seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Tensor | str:
        recipe, path, length = self.recipe, self.videos[index].path, self.videos[index].frames
        try:
            whole = read_video_if_small(path, -1 if length is None else length, _SMALL_VIDEO_BYTES)
            if whole is not None:
                length = len(whole)
            elif length is None:
                length = count_frames(path)
            if length < recipe.span and recipe.short == "skip":
                return f"is too short: {length} frames, {recipe.span} are needed"
            numbers = self._frame_numbers(index, length)
            pixels = read_frames(path, numbers) if whole is None else whole[numbers]
        except VideoError as error:
            return error.reason
        extents = square_extents(*pixels.shape[2:4], recipe.crop, recipe.crops).repeat(recipe.clips, 1, 1)
        if recipe.crops > 1:
            pixels = [clip for clip in pixels for _ in range(recipe.crops)]
        cut = augment_clips if can_call(NAMESPACE) else augment_clips_reference
        return cut(pixels, extents, recipe.size, mean=recipe.mean, std=recipe.std)

    def _frame_numbers(self, index: int, length: int) -> Tensor:
        """Frame numbers ``[clips, T]``."""
        recipe = self.recipe
        if recipe.sampling == "segments":
            numbers = segment_frames(length, recipe.frames)[None]
        else:
            starts = clip_starts(max(length, recipe.span), recipe.clips, recipe.frames, recipe.stride)
            numbers = hold_last(starts[:, None] + torch.arange(recipe.frames) * recipe.stride, length)
        if recipe.still:
            middle = recipe.frames // 2
            numbers = numbers[:, middle : middle + 1].expand(-1, recipe.frames)
        if self.shuffle_frames:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
            order = torch.rand(numbers.shape, generator=generator).argsort(dim=1)
            numbers = numbers.gather(1, order)
        return numbers
