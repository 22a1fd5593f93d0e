"""What a run of FIMA shows of itself, and what it adds to the pictures of a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import motionops
from motionops.evaluation.pictures import activation_overlay, foreground_overlay
from motionops.methods.fima.views import cut_plain
from motionops.models.activation import activation_map
from motionops.training.method import Method
from motionops.video import Batch


def report(fima: Method, folder: Path, batch: Batch) -> None:
    """foreground.png: the foreground of the first views (Fig. 8); attention.png: where the decoder looks."""
    c = fima.config
    views = cut_plain(c, batch)
    clips = [normalised(c, view) for view in views]
    motion = normalised(c, motionops.frame_difference(views[0]))
    maps = [fima.backbone(clip) for clip in clips]
    mask = fima.foreground(fima.path.key_backbone(clips[0]), fima.path.key_backbone(motion))
    pictures = [(255 * view).round().to(torch.uint8).permute(0, 2, 3, 4, 1) for view in views]
    foreground_overlay(
        pictures[0][:, c.frames // 2], mask, folder / "foreground.png", title="What counts as foreground"
    )
    if fima.decoder is None:
        return
    *_, attention = fima.decoder(maps[0], maps[1], return_attention=True)  # [B, T, N, M]
    height, width = maps[0].shape[3:]
    # The cell of view 0 that is asked for: the one with the highest activation.
    cell = activation_map(maps[0]).flatten(1).argmax(dim=1) + (fima.decoder.cls_token is not None)
    weights = attention[torch.arange(len(cell)), :, cell].unflatten(2, (height, width))
    weights = weights / weights.amax(dim=(2, 3), keepdim=True)
    shown = torch.linspace(0, c.frames - 1, min(c.frames, 4)).long()
    said = {"title": "What the motion decoder looks at", "quantity": "attention, of the frame's largest"}
    activation_overlay(pictures[1][:, shown], weights, folder / "attention.png", **said, numbers=shown)


def normalised(config: Any, clip: Tensor) -> Tensor:
    """Values in 0..1 as the networks take them, `[B, 3, T, S, S]`."""
    mean, std = (clip.new_tensor(values).view(3, 1, 1, 1) for values in (config.mean, config.std))
    return (clip - mean) / std
