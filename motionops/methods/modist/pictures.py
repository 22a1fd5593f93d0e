"""What a run of MoDist shows of itself."""

from __future__ import annotations

from pathlib import Path

import torch

from motionops.evaluation.pictures import activation_overlay
from motionops.methods.modist.moving_clips import candidate_pairs
from motionops.methods.modist.views import Prepared
from motionops.motion.pair_motion import motion_of_pairs
from motionops.training.method import Method
from motionops.video import Batch


def report(modist: Method, folder: Path, batch: Batch) -> None:
    """motion.png: what the motion pathway sees of the first videos, over the later frames of its pairs.

    Prepared edges are shown over black, as their frames are not read.
    """
    c = modist.config
    if not c.uses_motion():
        return
    if isinstance(batch.own, Prepared):
        motion = batch.own.edges[:, 0].float()  # of the query
        pictures = torch.zeros((*motion.shape, 3), dtype=torch.uint8)
    else:
        pairs = candidate_pairs(c, batch.own, candidate=0)
        motion = motion_of_pairs(pairs, c.motion, modist.pair_flow).abs().mean(dim=1)
        pictures = pairs[:, :, 1].expand(-1, -1, -1, -1, 3)
    motion = motion / motion.flatten(1).amax(dim=1).clamp(min=1e-6).view(-1, 1, 1, 1)
    shown = torch.linspace(0, c.motion_frames - 1, min(c.motion_frames, 4)).long()
    said = {"title": "What the motion pathway sees", "quantity": f"{c.motion}, of the clip's largest"}
    frames, maps = pictures[:, shown].cpu(), motion[:, shown].cpu()
    activation_overlay(frames, maps, folder / "motion.png", **said, numbers=shown)
