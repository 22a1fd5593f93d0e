"""The flags that all five trainers share. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from motionops.evaluation.features import MEAN, STD
from motionops.models import BackboneName

# Flags that may differ between a run and its resumption: they change where and how far it runs, not what it learns from
# what. (Another precision rounds otherwise, and another number of devices normalises in other groups.)
FREE_TO_CHANGE = frozenset(
    {"preset", "data", "list", "test_list", "output", "workers", "devices", "resume", "max_steps", "log_every"}
    | {
        "motion_file",
        "prepared",
        "raft_weights",
        "checkpoint_every",
        "checkpoint_minutes",
        "strict",
        "cache_gib",
        "decoder",
        "evaluation_clips",
        "evaluation_crop",
        "precision",
        "compile",
        "profile",
        "retrieval",
    }
)


@dataclass
class TrainConfig:
    """What every method's training needs to know."""

    preset: str = "demo"
    """Named set of defaults."""

    data: Path | None = None
    """Folder of videos: class folders, or anything with --list. Without it MovingShapes is generated, once."""
    list: Path | None = None
    """Training videos: one a line, "path label", "path,label" or "path", or a data set's own split file."""
    test_list: Path | None = None
    """Held-out labelled videos; with them the run ends with retrieval (gallery: the training videos)."""
    output: Path = Path("runs/motionops")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    strict: bool = False
    """Stop where a video cannot be used, instead of skipping it."""

    backbone: BackboneName = "r3d_small"
    """Network that is trained."""
    frames: int = 8
    """Frames of a clip."""
    stride: int = 2
    """Source frames from one frame of a clip to the next."""
    size: int = 32
    """Side of a clip in pixels."""

    epochs: int = 30
    """Passes over the training videos; the learning rate's schedule spans them."""
    batch_size: int = 32
    """Videos a step, over all devices."""
    accumulate: int = 1
    """Parts in which a step's batch is computed, one after another, to save memory: gradients are averaged over them.
    BatchNorm and losses see a part at a time; queues move once a step, when all parts are done."""
    max_steps: int = -1
    """Stop after so many steps, the schedule unchanged; -1: after --epochs."""
    optimizer: Literal["sgd", "adamw", "adam"] = "adamw"
    """SGD has momentum 0.9; AdamW decays the weights themselves, Adam by their gradient."""
    learning_rate: float = 2e-3
    """Base learning rate."""
    weight_decay: float = 1e-4
    """Weight decay."""
    warmup_epochs: float = 2.0
    """Epochs over which the learning rate rises linearly; a cosine to 0 follows."""
    schedule: Literal["step", "epoch"] = "step"
    """Whether the cosine moves every step or every epoch."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate is divided by 10; with any of them there is no cosine."""

    crop_area: tuple[float, float] = (0.4, 1.0)
    """Smallest and largest share of the frame that a random crop covers."""
    mean: tuple[float, float, float] = MEAN
    """Mean of the colour channels, in 0..1."""
    std: tuple[float, float, float] = STD
    """Standard deviation of the colour channels."""

    workers: int = 2
    """Processes that decode videos; 0: the training process does. The result does not depend on it."""
    decoder: Literal["pyav", "dali"] = "pyav"
    """Reader of video files; dali decodes on the GPU (docs/videos.md)."""
    cache_gib: float = 1.0
    """Memory for decoded videos, over all workers (pyav); a set of small videos is then decoded once."""
    precision: Literal["32", "bf16-mixed"] = "32"
    """Arithmetic of the networks; the losses accumulate in float32 either way."""
    compile: bool = False
    """Compile networks and losses with torch.compile: the first step then takes minutes, the others less."""
    profile: int = 0
    """Time the parts of so many steps, print them, and write report/profile.json and a trace; 0: do not."""
    devices: int = 1
    """Processes on this machine, each with its GPU if there are any; under torchrun or SLURM theirs counts."""
    seed: int = 0
    """Everything random follows from it: weights, order, views, dropout, shuffles."""
    resume: bool = False
    """Continue from last.ckpt in --output; without one, start."""
    log_every: int = 10
    """Steps from one line of metrics.csv to the next."""
    checkpoint_every: int = 0
    """Steps from one last.ckpt to the next; 0: once an epoch, and as --checkpoint-minutes says."""
    checkpoint_minutes: float = 10.0
    """Within an epoch, minutes after which another last.ckpt is written where --checkpoint-every is 0; 0: none is."""
    evaluation_crop: float = 1.0
    """Side of the centre crop for retrieval, as a part of the frame's short side."""
    evaluation_clips: int = 10
    """Clips a video whose features are averaged for retrieval."""

    def window(self) -> int:
        """Source frames that one view spans."""
        return self.frames * self.stride
