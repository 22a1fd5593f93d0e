"""The clips of a video that a frozen or a tested network sees: evenly spread in time, central squares in space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor
from torch.utils.data import Dataset

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.library import NAMESPACE, can_call
from motionops.video import Video, VideoError, count_frames, read_frames
from motionops.video.readers.cut_frames import Box, box_around, chosen_in_pictures
from motionops.video.reading import read_video_if_small
from motionops.views import augment_clips, augment_clips_reference
from motionops.views.even_clips import clip_starts, hold_last, segment_frames, square_extents

# Decoded videos up to this size are decoded once; larger ones a second time, after their frames were counted.
_SMALL_VIDEO_BYTES = 128 << 20


@dataclass(frozen=True)
class ClipViews:
    """The views of one video as its reader sends them: cut, or its frames and what to cut of them; the fewer bytes.

    Attributes:
        pixels: float32 ``[V, 3, T, S, S]``, the views; or uint8 ``[F, height, width, 3]``, each frame once, cut to the
            box of the squares.
        box: where that lies in the pictures.
        numbers: int64 ``[K, T]``, the frames of each distinct clip; None where the views are cut.
        extents: ``[crops, 3, 2]``, the squares of a clip. V is K times crops, those of a clip one after the other.
        clips: int64 ``[clips]``, which of the K is each of the video's clips: those of a short video are often equal.
    """

    pixels: Tensor
    box: Box
    numbers: Tensor | None
    extents: Tensor
    clips: Tensor

    def __len__(self) -> int:
        return (int(self.clips.max()) + 1) * len(self.extents)

    def to(self, device: torch.device) -> ClipViews:
        return replace(self, pixels=self.pixels.to(device))

    def cut(self, which: Sequence[int], recipe: ClipRecipe) -> Tensor:
        """Normalised clips float32 ``[len(which), 3, T, S, S]`` of these views, where the pixels are."""
        if self.numbers is None:
            return self.pixels[list(which)]
        crops = len(self.extents)
        numbers = self.numbers.to(self.pixels.device)
        clips = {clip: chosen_in_pictures(self.pixels, numbers[clip], self.box) for clip in {v // crops for v in which}}
        extents = self.extents[[view % crops for view in which]].to(self.pixels.device)
        cut = augment_clips if can_call(NAMESPACE) else augment_clips_reference
        return cut([clips[view // crops] for view in which], extents, recipe.size, mean=recipe.mean, std=recipe.std)

    def spread(self, features: Tensor) -> Tensor:
        """Features ``[V, C]`` of the views as those of all clips and crops of the video, ``[clips * crops, C]``."""
        return features.unflatten(0, (-1, len(self.extents)))[self.clips.to(features.device)].flatten(0, 1)


def in_batches(videos: Sequence[ClipViews], recipe: ClipRecipe, batch_size: int) -> Iterator[Tensor]:
    """The views of all videos, one after the other, cut in batches ``[<= batch_size, 3, T, S, S]``."""
    places = [(number, view) for number, video in enumerate(videos) for view in range(len(video))]
    for start in range(0, len(places), batch_size):
        groups = groupby(places[start : start + batch_size], key=lambda place: place[0])
        cut = [videos[number].cut([view for _, view in group], recipe) for number, group in groups]
        yield cut[0] if len(cut) == 1 else torch.cat(cut)  # 30 views of a video are 200 MB


class VideoClips(Dataset):
    """Video i as the views of its clips, or the reason why it cannot be used.

    Args:
        places: of the videos in the list that they are of, by which frames are shuffled; by default 0, 1, ...
    """

    def __init__(
        self,
        videos: Sequence[Video],
        recipe: ClipRecipe,
        shuffle_frames: bool = False,
        seed: int = 0,
        places: Sequence[int] | None = None,
    ) -> None:
        self.videos, self.recipe = list(videos), recipe
        self.shuffle_frames, self.seed = shuffle_frames, seed
        self.places = range(len(self.videos)) if places is None else places

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> ClipViews | str:
        recipe, path, length = self.recipe, self.videos[index].path, self.videos[index].frames
        try:
            whole = read_video_if_small(path, -1 if length is None else length, _SMALL_VIDEO_BYTES)
            if whole is not None:
                length = len(whole)
            elif length is None:
                length = count_frames(path)
            if length < recipe.span and recipe.short == "skip":
                return f"is too short: {length} frames, {recipe.span} are needed"
            numbers, clips = self._frame_numbers(index, length).unique(dim=0, return_inverse=True)
            frames, numbers = numbers.unique(return_inverse=True)
            pictures = read_frames(path, frames, self.videos[index].keys) if whole is None else whole
        except VideoError as error:
            return error.reason
        extents = square_extents(*pictures.shape[1:3], recipe.crop, recipe.crops)
        box = box_around(extents, tuple(pictures.shape[1:3]))
        pixels = pictures[:, box.top : box.top + box.height, box.left : box.left + box.width]
        pixels = pixels.contiguous() if whole is None else pixels[frames]
        views = ClipViews(pixels, box, numbers, extents, clips)
        if 3 * numbers.shape[1] * recipe.size**2 * 4 * len(views) < pixels.numel():
            return replace(views, pixels=views.cut(range(len(views)), recipe), numbers=None)
        return views

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
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.places[index])
            order = torch.rand(numbers.shape, generator=generator).argsort(dim=1)
            numbers = numbers.gather(1, order)
        return numbers
