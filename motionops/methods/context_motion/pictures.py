"""What a run of Context-Motion Decoupling shows of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motionops.evaluation.pictures import motion_panels
from motionops.methods.context_motion.views import CLIP, known_motion
from motionops.training.method import Method


def report(context_motion: Method, folder: Path, batch: dict[str, Any]) -> None:
    """motion.png: the last frames of the first clips, where they are cut out, and the motion that is predicted."""
    c = context_motion.config
    if not c.uses_motion() or c.motion != "vectors":
        return
    frames = [video[0, -1].cpu() for video in batch["frames"]]
    flow = [maps[0].mean(dim=0).cpu() for maps in known_motion(c, batch)]
    boxes = batch["extents"][:, CLIP, 1:].cpu()
    motion_panels(frames, flow, [field.norm(dim=0) for field in flow], boxes, folder / "motion.png")
