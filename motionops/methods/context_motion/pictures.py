"""What a run of Context-Motion Decoupling shows of itself."""

from __future__ import annotations

from pathlib import Path

from motionops.evaluation.pictures import motion_panels
from motionops.methods.context_motion.views import CLIP, known_motion
from motionops.training.method import Method
from motionops.video import Batch


def report(context_motion: Method, folder: Path, batch: Batch) -> None:
    """motion.png: the last frames of the first clips, where they are cut out, and the motion that is predicted."""
    c = context_motion.config
    if not c.reads_vectors():
        return
    frames = [video[0, -1].cpu() for video in batch.frames]
    flow = [maps[0].mean(dim=0).cpu() for maps in known_motion(c, batch)]
    boxes = batch.extents[:, CLIP, 1:].cpu()
    motion_panels(
        frames,
        flow,
        [field.norm(dim=0) for field in flow],
        boxes,
        folder / "motion.png",
        quantity="length of the motion, pixels per frame",
    )
