"""Features of whole videos by a network over motion vectors (Context-Motion Decoupling, Table 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from motionops.errors import UserError
from motionops.evaluation.features.labelled_features import LabelledFeatures, of_the_usable
from motionops.evaluation.features.together import of_all_ranks, raise_in_all
from motionops.motion.motion_vectors import whole_motion
from motionops.motion.vector_clips import fill_key_frames, in_steps, vector_clips
from motionops.ranks import world
from motionops.video import Skipped, Video, VideoError, read_frames
from motionops.video.progress import with_progress
from motionops.views.even_clips import CENTRE_CROP, centre_extent, clip_starts


@torch.no_grad()
def motion_features(
    network: nn.Module,
    videos: Sequence[Video],
    *,
    clips: int = 10,
    frames: int = 8,
    size: int = 112,
    crop: float = CENTRE_CROP,
    cell: int = 8,
    fill: bool = True,
    steps: int = 0,
    strict: bool = False,
    over_ranks: bool = False,
    progress: bool = False,
) -> LabelledFeatures:
    """One feature a video: maps of motion clips averaged over time and space, then over evenly spread clips.

    Args:
        network: ``motion [B, 2, T, S, S] -> [B, C, T', H', W']``, where its parameters are. It runs in eval mode; its
            mode is restored.
        videos: labelled, of codecs with motion vectors.
        clips, frames, size, crop: clips a video, consecutive frames a clip, S, and the centre square's share of the
            short side.
        cell, fill, steps: as the network was trained: cells of the maps in pixels; whether I-frames take their
            neighbours' vectors; time steps of its input (0: as many as frames).
        strict: stop at a video that cannot be used.
        over_ranks: all ranks of a process group call, and each computes its part, ``videos[rank::world]``; the first
            has the whole, the others have no video.
        progress: show a bar, in the first rank.

    Raises:
        UserError: more than a tenth of the videos cannot be used; fewer are named in ``skipped``.
    """
    rank, ranks = world() if over_ranks else (0, 1)
    own = range(rank, len(videos), ranks)
    rows: dict[int, Tensor | str] = {}
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        for place in with_progress(own, len(own), "motion features", progress and rank == 0):
            try:
                cut = _clips(videos[place].path, clips, frames, size, crop, device, cell=cell, fill=fill)
            except VideoError as error:
                rows[place] = error.reason
                if strict:
                    break
                continue
            rows[place] = network(in_steps(cut, steps)).float().mean(dim=(0, 2, 3, 4)).cpu()
    finally:
        network.train(was_training)
    rows = of_all_ranks(rows, ranks)
    unusable = [Skipped(videos[place].path, row) for place, row in rows.items() if isinstance(row, str)]
    error = UserError(f"{unusable[0].path}: {unusable[0].reason}") if strict and unusable else None
    if over_ranks:
        raise_in_all(error)
    elif error is not None:
        raise error
    features = [row for row in rows.values() if isinstance(row, Tensor)]
    return of_the_usable(torch.stack(features) if features else torch.empty(0), videos, unusable, over_ranks)


def _clips(
    path: str, clips: int, frames: int, size: int, crop: float, device: torch.device, *, cell: int, fill: bool
) -> Tensor:
    """The motion of evenly spread clips ``[clips, 2, frames, size, size]``. VideoError where there is none."""
    motion, intra = whole_motion(path, cell=cell)
    picture = read_frames(path, [0]).shape[1:3]
    if len(motion) < frames:
        raise VideoError(path, f"has {len(motion)} frames, {frames} are needed")
    numbers = clip_starts(len(motion), clips, frames, 1)[:, None] + torch.arange(frames)
    chosen = (fill_key_frames(motion[numbers], intra[numbers]) if fill else motion[numbers]).to(device)
    extents = centre_extent(*picture, crop).expand(clips, 3, 2).to(device)
    return vector_clips(chosen, extents, size, torch.tensor([picture] * clips), cell=cell)
