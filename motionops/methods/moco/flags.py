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

    def check(self) -> None:
        super().check()
        self.require_negatives(self.batch_size, f"the --batch-size of {self.batch_size}")


PRESETS = {"demo": MoCoConfig(jitter=0.2, blur=0.2)}
