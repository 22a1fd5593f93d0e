"""The flags that the commands share. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from motionops.commandline import LARGEST_SEED, flag
from motionops.errors import UserError
from motionops.evaluation.protocols.papers import ProtocolName
from motionops.flags import NOT_NEGATIVE, POSITIVE, SHARE, Above, AtLeast, AtMost, Below, Within
from motionops.video.lists import ListColumn


def refuse_given(config: Any, names: Iterable[str], why: str) -> None:
    """UserError where one of the flags was given: `why` it would have no effect."""
    defaults = {field.name: field.default for field in fields(config)}
    given = [flag(name) for name in names if name in defaults and getattr(config, name) != defaults[name]]
    if given:
        raise UserError(f"{', '.join(given)}: {why}")


@dataclass
class Sampling:
    """Which network sees which clips. None is what the protocol says, else the backbone's file, else a default."""

    backbone: str
    """FILE.safetensors or .ckpt of a trainer; NAME:FILE; hf:OWNER/NAME; torchvision:NAME; random, random:NAME or
    random:FILE."""
    data: Path | None = None
    """Folder of the videos; by default that of each list. Without --data, --train and --test: MovingShapes."""
    list_columns: tuple[ListColumn, ...] = ()
    """What the columns of plain lists are, as path,frames,label; by default a path and a label."""
    clips: Annotated[int | None, AtLeast(1)] = None
    """Clips a video, spread evenly, whose features or scores are averaged; by default 10."""
    crops: Annotated[int | None, AtLeast(1)] = None
    """Squares a clip: 1, the centre; 3, spread along the long side. By default 1."""
    frames: Annotated[int | None, AtLeast(1)] = None
    """Frames a clip; by default those of the training, where the file says so."""
    stride: Annotated[int | None, AtLeast(1)] = None
    """Source frames from one frame of a clip to the next; default as above."""
    size: Annotated[int | None, AtLeast(1)] = None
    """Height and width of a clip in pixels; default as above."""
    crop: Annotated[float | None, Above(0, 1)] = None
    """Side of the centre crop as a part of the frame's short side; default as above, else 0.875."""
    short: Literal["skip", "hold"] | None = None
    """What becomes of a video shorter than a clip: skipped, or its last frame held. By default skipped."""
    sampling: Literal["clips", "segments"] | None = None
    """Frames of a clip: with the stride, or one of each of as many segments of the whole video. By default clips."""
    strict: bool = False
    """Stop at a video that cannot be used, instead of skipping it."""
    workers: Annotated[int, AtLeast(0)] = 2
    """Processes that decode; 0 decodes in the main one."""
    precision: Literal["auto", "32", "bf16-mixed"] = "auto"
    """Arithmetic of the networks; auto is bf16-mixed on a GPU that has it and 32 elsewhere."""
    seed: Annotated[int, AtLeast(0), AtMost(LARGEST_SEED)] = 0
    """Seed of an untrained network, and of all else that is random."""


@dataclass
class Measurement(Sampling):
    """What every evaluation needs to know."""

    train: str | None = None
    """List of the training videos (the gallery), "path label" a line, or a split file; by default train.txt."""
    test: str | None = None
    """List of the test videos (the queries). By default test.txt."""
    split: Annotated[float | None, SHARE] = None
    """Without lists: the part of each class folder of --data that is held out for the test, as --seed chooses."""
    output: Path = Path("runs/evaluation")
    """Folder for metrics.json and the rest."""
    results: Path | None = None
    """Table to which the scores are appended, a row a run; by default results.csv beside --output."""
    protocol: ProtocolName | None = None
    """Paper whose clips, crops, sampling, schedule and averaging are the defaults."""


@dataclass
class FrozenFlags:
    """How features of a frozen network are computed."""

    cache: bool = True
    """Keep features in the cache folder, by backbone, sampling and the videos' content, and use what is there."""
    batch_size: Annotated[int | None, AtLeast(1)] = None
    """Clips in one forward pass, by default 32; where a network is trained, videos a step, by default 16."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass
class FrozenMeasurement(FrozenFlags, Measurement):
    """What evaluations of frozen features need to know."""


@dataclass
class TrainingFlags:
    """The flags of a supervised training. None is what the protocol says, else a default of this library."""

    epochs: Annotated[int | None, AtLeast(1)] = None
    """Passes over the training videos; by default 30."""
    max_steps: Annotated[int, AtLeast(-1)] = -1
    """Stop after so many steps, the schedule unchanged; -1: after --epochs."""
    optimizer: Literal["sgd", "adamw", "adam"] | None = None
    """SGD has momentum 0.9. By default adamw."""
    learning_rate: Annotated[float | None, POSITIVE] = None
    """Base learning rate; by default 5e-4."""
    weight_decay: Annotated[float | None, NOT_NEGATIVE] = None
    """Weight decay; by default 1e-4."""
    clip_gradient: Annotated[float | None, NOT_NEGATIVE] = None
    """Largest norm of a step's gradients, all together; by default 0, which shortens none."""
    warmup_epochs: Annotated[float | None, NOT_NEGATIVE] = None
    """Epochs over which the rate rises linearly; by default 2."""
    warmup_start: Annotated[float | None, NOT_NEGATIVE] = None
    """Rate at the first step of the warm-up; by default the first step's share."""
    milestones: tuple[int, ...] | None = None
    """Epochs from which the rate is a tenth of what it was; by default none, and it follows half a cosine."""
    nesterov: bool | None = None
    """Nesterov's momentum, of sgd; by default False."""
    accumulate: Annotated[int | None, AtLeast(1)] = None
    """Parts in which a step's batch is computed, to save memory; BatchNorm sees a part at a time. By default 1."""
    dropout: Annotated[float | None, Below(0, 1)] = None
    """Before the classifier; by default 0.5."""
    normalise: bool | None = None
    """Whether the classifier sees features of unit length; by default False."""
    crop_area: tuple[float, float] | None = None
    """Smallest and largest share of the frame that a random crop covers; by default 0.4 and 1."""
    grayscale: Annotated[float | None, Within(0, 1)] = None
    """Probability of a grey clip; by default 0.2."""
    jitter: Annotated[float | None, Within(0, 1)] = None
    """Probability of colour jitter; by default 0.2."""
    blur: Annotated[float | None, Within(0, 1)] = None
    """Probability of a blurred clip; by default 0."""
    rand_augment: tuple[int, int] | None = None
    """Operations of RandAugment on each training clip, and their magnitude in 0..30; by default 0 0, none."""
    mirror: Annotated[float | None, Within(0, 1)] = None
    """Probability of a mirrored clip; by default 0.5. 0 where classes differ in left and right."""
    test_size: Annotated[int | None, AtLeast(1)] = None
    """Side of a test clip in pixels; by default --size."""
    cache_gib: Annotated[float, NOT_NEGATIVE] = 1.0
    """Memory for decoded videos, over all workers."""
    devices: Annotated[int, AtLeast(1)] = 1
    """Processes on this machine, each with its GPU if there are any; under torchrun or SLURM theirs counts."""
    resume: bool = False
    """Continue from last.ckpt in --output, or without --output that of the newest run; without one, start."""
    overwrite: bool = False
    """Replace the run that --output holds; what no run wrote stays."""
    log_every: Annotated[int, AtLeast(1)] = 10
    """Steps from one line of metrics.csv to the next."""
    checkpoint_every: Annotated[int, AtLeast(0)] = 0
    """Steps from one last.ckpt to the next; 0: once an epoch, and as --checkpoint-minutes says."""
    checkpoint_minutes: Annotated[float, NOT_NEGATIVE] = 10.0
    """Within an epoch, minutes after which another last.ckpt is written where --checkpoint-every is 0; 0: none is."""


def refuse_idle_clips(config: Any, settings: Mapping[str, Any]) -> None:
    """UserError for a flag of the clips that `settings`, flags and protocol and file together, leave without effect."""
    if "vectors" in settings:
        why = f"{config.backbone} takes motion vectors: of consecutive frames, of their centre, one file after another"
        refuse_given(config, OF_FRAMES, why)
    if settings.get("sampling") == "segments":
        refuse_given(config, ("stride",), "segments are as long as the video makes them")
        if settings.get("clips", 1) > 1:
            raise UserError(f"--clips: of segments there is one clip, got {settings['clips']}")
    elif settings.get("frames") == 1:
        refuse_given(config, ("stride",), "a clip is a single frame")


OF_FRAMES = (
    "stride", "crops", "short", "sampling", "workers", "precision", "batch_size", "cache", "still", "shuffle_frames",
)  # fmt: skip
OF_A_TRAINING = tuple(field.name for field in fields(TrainingFlags))
OF_FEATURES = ("cache", "device")
