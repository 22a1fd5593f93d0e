"""The flags that the commands share. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from motionops.evaluation.protocols.papers import ProtocolName


@dataclass
class Measurement:
    """What every evaluation needs to know. None is what the protocol says, else the backbone's file, else a default."""

    backbone: str
    """FILE.safetensors or .ckpt of a trainer; NAME:FILE; random, random:NAME, random:FILE; torchvision:NAME."""
    data: Path | None = None
    """Folder of the videos; by default that of each list. Without --data, --train and --test: MovingShapes."""
    train: str | None = None
    """List of the training videos (the gallery), "path label" a line, or a split file; by default train.txt."""
    test: str | None = None
    """List of the test videos (the queries). By default test.txt."""
    output: Path = Path("runs/evaluation")
    """Folder for metrics.json and the rest."""
    results: Path | None = None
    """Table to which the scores are appended, a row a run; by default results.csv beside --output."""
    protocol: ProtocolName | None = None
    """Paper whose clips, crops, sampling, schedule and averaging are the defaults."""
    clips: int | None = None
    """Clips a video, spread evenly, whose features or scores are averaged; by default 10."""
    crops: int | None = None
    """Squares a clip: 1, the centre; 3, spread along the long side. By default 1."""
    frames: int | None = None
    """Frames a clip; by default those of the training, where the file says so."""
    stride: int | None = None
    """Source frames from one frame of a clip to the next; default as above."""
    size: int | None = None
    """Height and width of a clip in pixels; default as above."""
    crop: float | None = None
    """Side of the centre crop as a part of the frame's short side; default as above, else 0.875."""
    short: Literal["skip", "hold"] | None = None
    """What becomes of a video shorter than a clip: skipped, or its last frame held. By default skipped."""
    strict: bool = False
    """Stop at a video that cannot be used, instead of skipping it."""
    workers: int = 2
    """Processes that decode; 0 decodes in the main one."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """Arithmetic of the networks; auto is bf16 on a GPU that has it and 32 elsewhere."""
    seed: int = 0
    """Seed of an untrained network, and of all else that is random."""


@dataclass
class FrozenMeasurement(Measurement):
    """What evaluations of frozen features need to know besides."""

    cache: bool = True
    """Keep features in the cache folder, by backbone, sampling and the videos' content, and use what is there."""
    batch_size: int | None = None
    """Clips in one forward pass, by default 32; where a network is trained, videos a step, by default 16."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass
class TrainingFlags:
    """The flags of a supervised training. None is what the protocol says, else a default of this library."""

    epochs: int | None = None
    """Passes over the training videos; by default 30."""
    max_steps: int = -1
    """Stop after so many steps, the schedule unchanged; -1: after --epochs."""
    optimizer: Literal["sgd", "adamw", "adam"] | None = None
    """SGD has momentum 0.9. By default adamw."""
    learning_rate: float | None = None
    """Base learning rate; by default 5e-4."""
    weight_decay: float | None = None
    """Weight decay; by default 1e-4."""
    warmup_epochs: float | None = None
    """Epochs over which the rate rises linearly; by default 2."""
    warmup_start: float | None = None
    """Rate at the first step of the warm-up; by default the first step's share."""
    milestones: tuple[int, ...] | None = None
    """Epochs from which the rate is a tenth of what it was; by default none, and it follows half a cosine."""
    dropout: float | None = None
    """Before the classifier; by default 0.5."""
    crop_area: tuple[float, float] | None = None
    """Smallest and largest share of the frame that a random crop covers; by default 0.4 and 1."""
    grayscale: float | None = None
    """Probability of a grey clip; by default 0.2."""
    jitter: float | None = None
    """Probability of colour jitter; by default 0.2."""
    blur: float | None = None
    """Probability of a blurred clip; by default 0."""
    mirror: float | None = None
    """Probability of a mirrored clip; by default 0.5. 0 where classes differ in left and right."""
    cache_gib: float = 1.0
    """Memory for decoded videos, over all workers."""
    devices: int = 1
    """Processes on this machine, each with its GPU if there are any; under torchrun or SLURM theirs counts."""
    resume: bool = False
    """Continue from last.ckpt in --output, or without --output that of the newest run; without one, start."""
    overwrite: bool = False
    """Replace the run that --output holds; what no run wrote stays."""
    log_every: int = 10
    """Steps from one line of metrics.csv to the next."""
    checkpoint_every: int = 0
    """Steps from one last.ckpt to the next; 0: once an epoch, and as --checkpoint-minutes says."""
    checkpoint_minutes: float = 10.0
    """Within an epoch, minutes after which another last.ckpt is written where --checkpoint-every is 0; 0: none is."""
