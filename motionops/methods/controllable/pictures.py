"""What a run of Controllable Augmentations shows of itself."""

from __future__ import annotations

from pathlib import Path

import torch

import motionops
from motionops.evaluation.pictures import activation_overlay
from motionops.methods.controllable.views import GLOBAL, cut
from motionops.training.method import Method
from motionops.video import Batch


def report(controllable: Method, folder: Path, batch: Batch) -> None:
    """regions.png: where in the global view the first local clip's strongest cell is found."""
    c = controllable.config
    if not c.uses_global():
        return
    clips = cut(c, batch, controllable.shared_generator(0))
    local, view = controllable.local_maps(clips.local)[:, 0], controllable.view_map(clips.view)
    cell = local.float().square().mean(dim=-1).flatten(1).argmax(dim=1)
    query = controllable.project(local).flatten(1, 3)[torch.arange(len(cell)), cell]
    similarity = torch.einsum("bd,bthwd->bthw", query, controllable.project(view)) / c.temperature
    weights = similarity.flatten(1).softmax(dim=1).view_as(similarity)
    weights = weights / weights.amax(dim=(1, 2, 3), keepdim=True)
    where = batch.extents[:, GLOBAL]
    plain = motionops.augment_clips(batch.view(GLOBAL), where, c.size, mean=0.0, std=1.0)
    pictures = (255 * plain).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
    said = {"title": "Where the local clip is found", "quantity": "similarity, of the clip's largest"}
    activation_overlay(
        pictures.cpu(), weights.cpu(), folder / "regions.png", **said, numbers=torch.arange(pictures.shape[1])
    )
