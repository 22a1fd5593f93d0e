"""What a run of MCL shows of itself."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

import motionops
from motionops.evaluation.pictures import activation_overlay, motion_panels, scaled_activation
from motionops.flow.clip_flow import clip_flow
from motionops.methods.mcl.motion_alignment import aligned_map
from motionops.methods.mcl.recording import recorded
from motionops.methods.mcl.views import QUERY, tubelets, view_frames
from motionops.models.pathway import pooled
from motionops.training.method import Method
from motionops.video import Batch


def report(mcl: Method, folder: Path, batch: Batch) -> None:
    """motion.png: what moves, and the query's box; aligned.png: the query's motion, and what is aligned with it."""
    c = mcl.config
    extents, motion = tubelets(c, batch, mcl.grid)
    views = view_frames(c, batch.frames)[:2]  # the query, and the first key
    middle = (c.frames - 1) // 2
    pairs = [video[middle : middle + 2].cpu() for video in views[QUERY]]  # with the clip's next frame
    flow = [clip_flow(pair[None])[0] for pair in pairs]
    maps = [motionops.motion_map(field[None])[0, 0] for field in flow]
    boxes = extents[:, QUERY, 1:].cpu()
    motion_panels([pair[0] for pair in pairs], [field[0] for field in flow], maps, boxes, folder / "motion.png")
    if not c.aligns():
        return
    clips = [
        motionops.augment_clips(frames, extents[:, view], c.size, mean=c.mean, std=c.std)
        for view, frames in enumerate(views)
    ]
    with torch.enable_grad(), recorded(mcl.backbone) as outputs:
        q, k = (mcl.head("inter", pooled(mcl.backbone(clip))) for clip in clips)
        (gradient,) = torch.autograd.grad((q * k.detach()).sum(), outputs[:1])
    aligned = aligned_map(gradient, outputs[0].detach(), c.alignment_variant, c.alignment_form)
    # A reader that was not told of the backbone averages over other cells: then what is shown is what was aligned.
    motion = functional.adaptive_avg_pool3d(motion[:, None].float(), aligned.shape[1:])[:, 0]
    # The clip's frames twice: under the motion of their cells, and under what is aligned with it.
    shown = torch.linspace(0, c.frames - 1, min(c.frames, 4)).long()
    plain = motionops.augment_clips(views[QUERY], extents[:, QUERY], c.size, mean=0.0, std=1.0)
    pictures = (255 * plain[:, :, shown]).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
    both = torch.stack([motion, aligned.float()], dim=1).flatten(0, 1)
    titles = ["motion", "aligned map"] * len(pictures)
    pictures = pictures.repeat_interleave(2, dim=0)
    said = {"title": "The query's motion, and what is aligned with it", "quantity": "0 to 1 in each line"}
    maps = scaled_activation(both[:, None])
    activation_overlay(pictures, maps, folder / "aligned.png", titles, **said, numbers=shown)
