"""Features of whole videos by a network over motion vectors (Context-Motion Decoupling, Table 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from motionops.errors import UserError
from motionops.evaluation.features.labelled_features import LabelledFeatures
from motionops.motion.motion_vectors import whole_motion
from motionops.motion.vector_clips import fill_key_frames, in_steps, vector_clips
from motionops.video import Skipped, Video, VideoError, read_frames, require_usable
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
        progress: show a bar.

    Raises:
        UserError: more than a tenth of the videos cannot be used; fewer are named in ``skipped``.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    rows, used, skipped = [], [], []
    try:
        for video in with_progress(videos, len(videos), "motion features", progress):
            try:
                motion, intra = whole_motion(video.path, cell=cell)
                picture = read_frames(video.path, [0]).shape[1:3]
                if len(motion) < frames:
                    raise VideoError(video.path, f"has {len(motion)} frames, {frames} are needed")
            except VideoError as error:
                if strict:
                    raise UserError(f"{error.path}: {error.reason}") from error
                skipped.append(Skipped(error.path, error.reason))
                continue
            starts = clip_starts(len(motion), clips, frames, 1)
            numbers = starts[:, None] + torch.arange(frames)
            chosen = motion[numbers]
            chosen = (fill_key_frames(chosen, intra[numbers]) if fill else chosen).to(device)
            extents = centre_extent(*picture, crop).expand(clips, 3, 2).to(device)
            cut = in_steps(vector_clips(chosen, extents, size, torch.tensor([picture] * clips), cell=cell), steps)
            rows.append(network(cut).float().mean(dim=(0, 2, 3, 4)).cpu())
            used.append(video)
    finally:
        network.train(was_training)
    require_usable(used, skipped)
    return LabelledFeatures(torch.stack(rows), used, skipped)
