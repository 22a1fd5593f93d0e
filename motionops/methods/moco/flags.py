"""The flags of MoCo and its preset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from motionops.flags import FREE, LOCAL
from motionops.training.shared_flags import Contrast, Look, Momentum


@dataclass(frozen=True)
class MoCoConfig(Contrast, Momentum, Look):
    """Learn video features from unlabelled videos with MoCo (clips of one video are alike, others are not)."""

    output: Annotated[Path, FREE, LOCAL] = Path("runs/moco")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""

    symmetric: bool = True
    """Each clip of a video is a query once, and a key once; else the first is the query (Algorithm 1)."""

    def check(self) -> None:
        super().check()
        keys = self.batch_size * (1 + self.symmetric)
        self.require_negatives(keys, f"the {keys} keys of a step")


PRESETS = {"demo": MoCoConfig(jitter=0.2, blur=0.2)}
