"""The flags that all trainings share. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from motionops.commandline import LARGEST_SEED
from motionops.errors import UserError
from motionops.flags import (
    FREE,
    LOCAL,
    NOT_NEGATIVE,
    POSITIVE,
    Above,
    AtLeast,
    AtMost,
    Only,
    Range,
    check_ranges,
    refuse_idle,
)
from motionops.models import BackboneName
from motionops.models.shapes import named_map_shape
from motionops.training.data.manifest import TrainingVideos
from motionops.video import VideoDataset
from motionops.video.dataset import Draw
from motionops.video.lists import ListColumn
from motionops.views.colour import KINETICS_MEAN, KINETICS_STD


@dataclass(frozen=True)
class TrainConfig:
    """What every method's training needs to know.

    What is marked FREE may differ between a run and its resumption: it changes where and how far the run goes, not what
    it learns from what. (Another precision rounds otherwise, and another number of devices normalises in other groups.)
    What is marked LOCAL may differ between its processes.
    """

    preset: Annotated[str, FREE, LOCAL] = "demo"
    """Named set of defaults."""
    row: Annotated[str, FREE] = ""
    """Row of a table of the paper whose preset and flags are the defaults: TABLE/ROW; TABLE alone lists its rows."""

    data: Annotated[Path | None, FREE, LOCAL] = None
    """Folder of videos: class folders, or anything with --list. Without it MovingShapes is generated, once."""
    list: Annotated[Path | None, FREE, LOCAL] = None
    """Training videos: one a line, "path label", "path,label" or "path", or a data set's own split file."""
    test_list: Annotated[Path | None, FREE, LOCAL] = None
    """Held-out labelled videos; with them the run ends with retrieval (gallery: the training videos)."""
    list_columns: Annotated[tuple[ListColumn, ...], FREE, LOCAL] = ()
    """What the columns of plain lists are, as path,frames,label or path,labels (several labels a video); by default
    a path and perhaps a label, or what a header line says."""
    output: Annotated[Path, FREE, LOCAL] = Path("runs/motionops")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures. One that holds anything is refused; of the
    default one the next that is free is taken (-2, -3, ...)."""
    short: Literal["skip", "hold"] = "skip"
    """What becomes of a video that is shorter than what a step sees of it: skipped, or its last frame held."""
    strict: Annotated[bool, FREE, LOCAL] = False
    """Stop where a video cannot be used, instead of skipping it."""

    backbone: BackboneName = "r3d_small"
    """Network that is trained."""
    frames: Annotated[int, AtLeast(1)] = 8
    """Frames of a clip."""
    stride: Annotated[int, AtLeast(1)] = 2
    """Source frames from one frame of a clip to the next."""
    size: Annotated[int, AtLeast(8)] = 32
    """Side of a clip in pixels."""

    epochs: Annotated[int, AtLeast(1)] = 30
    """Passes over the training videos; the learning rate's schedule spans them."""
    batch_size: Annotated[int, AtLeast(2)] = 32
    """Videos a step, over all devices."""
    accumulate: Annotated[int, AtLeast(1)] = 1
    """Parts in which a step's batch is computed, one after another, to save memory: gradients are averaged over them.
    BatchNorm and losses see a part at a time; queues move once a step, when all parts are done."""
    max_steps: Annotated[int, AtLeast(-1), FREE] = -1
    """Stop after so many steps, the schedule unchanged; -1: after --epochs."""
    optimizer: Literal["sgd", "adamw", "adam"] = "adamw"
    """SGD has momentum 0.9; AdamW decays the weights themselves, Adam by their gradient."""
    learning_rate: Annotated[float, POSITIVE] = 2e-3
    """Base learning rate."""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 1e-4
    """Weight decay."""
    clip_gradient: Annotated[float, NOT_NEGATIVE] = 0.0
    """Largest norm of a step's gradients, all together; longer ones are shortened to it. 0: none is."""
    warmup_epochs: Annotated[float, NOT_NEGATIVE] = 2.0
    """Epochs over which the learning rate rises linearly; a cosine to 0 follows."""
    schedule: Annotated[Literal["step", "epoch"], Only("no --milestones", lambda c: not c.milestones)] = "step"
    """Whether the cosine moves every step or every epoch."""
    milestones: Annotated[tuple[int, ...], Range("must be epochs from 1 on", low=1)] = ()
    """Epochs after which the learning rate is divided by 10; with any of them there is no cosine."""

    crop_area: tuple[float, float] = (0.4, 1.0)
    """Smallest and largest share of the frame that a random crop covers."""
    mean: tuple[float, float, float] = KINETICS_MEAN
    """Mean of the colour channels, in 0..1."""
    std: Annotated[tuple[float, float, float], POSITIVE] = KINETICS_STD
    """Standard deviation of the colour channels."""

    workers: Annotated[int, AtLeast(0), FREE, LOCAL] = 2
    """Processes that decode videos; 0: the training process does. The result does not depend on it."""
    read_minutes: Annotated[float, NOT_NEGATIVE, FREE, LOCAL, Only("--workers", lambda c: c.workers > 0)] = 10.0
    """Minutes in which the workers must finish a batch, or the run ends: a disk hangs; 0: it waits for ever."""
    decoder: Annotated[Literal["pyav", "dali", "auto"], FREE, LOCAL] = "pyav"
    """Reader of video files; dali decodes on the GPU (docs/videos.md), auto measures both and says which it takes."""
    cache_gib: Annotated[float, NOT_NEGATIVE, FREE, LOCAL, Only("--decoder pyav", lambda c: c.decoder != "dali")] = 1.0
    """Memory for decoded videos, over all workers (pyav); a set of small videos is then decoded once."""
    shrink: Annotated[bool, Only("--decoder pyav", lambda c: c.decoder == "pyav")] = False
    """Whether the workers make the frames of a clip smaller, until the crop has --size pixels a side, before they send
    them (bilinear, antialiased, rounded to 8 bits; crops that are smaller stay as they are). Less memory is sent, and
    the network sees large crops smoothed, where they are else cut as they are, without smoothing."""
    precision: Annotated[Literal["32", "bf16-mixed"], FREE] = "32"
    """Arithmetic of the networks; the losses accumulate in float32 either way."""
    compile: Annotated[bool, FREE] = False
    """Compile networks and losses with torch.compile: the first step then takes minutes, the others less."""
    profile: Annotated[int, AtLeast(0), FREE, LOCAL] = 0
    """Time the parts of so many steps, print them, and write report/profile.json and a trace; 0: do not."""
    devices: Annotated[int, AtLeast(1), FREE] = 1
    """Processes on this machine, each with its GPU if there are any; under torchrun or SLURM theirs counts."""
    seed: Annotated[int, AtLeast(0), AtMost(LARGEST_SEED)] = 0
    """Everything random follows from it: weights, order, views, dropout, shuffles."""
    resume: Annotated[bool, FREE] = False
    """Continue from last.ckpt in --output, or without --output that of the newest run; without one, start."""
    overwrite: Annotated[bool, FREE, LOCAL] = False
    """Replace the run that --output holds; what no run wrote stays."""
    logger: Annotated[tuple[Literal["csv", "tensorboard"], ...], FREE, LOCAL] = ("csv", "tensorboard")
    """Where metrics are logged: metrics.csv, events of TensorBoard."""
    log_every: Annotated[int, AtLeast(1), FREE] = 10
    """Steps from one line of metrics.csv to the next."""
    checkpoint_every: Annotated[int, AtLeast(0), FREE] = 0
    """Steps from one last.ckpt to the next; 0: once an epoch, and as --checkpoint-minutes says."""
    checkpoint_minutes: Annotated[
        float, NOT_NEGATIVE, FREE, Only("--checkpoint-every 0", lambda c: c.checkpoint_every == 0)
    ] = 10.0
    """Within an epoch, minutes after which another last.ckpt is written where --checkpoint-every is 0; 0: none is."""
    monitor: Annotated[int, AtLeast(0), FREE] = 0
    """Epochs from one measurement of the backbone on the test videos (R@1 and 20 nearest neighbours, in metrics.csv and
    TensorBoard) to the next; backbone-epoch-N.safetensors is kept of each. 0: it is measured at the end alone."""
    evaluation_crop: Annotated[float, Above(0, 1), FREE, LOCAL] = 1.0
    """Side of the centre crop for retrieval, as a part of the frame's short side."""
    evaluation_clips: Annotated[
        int, AtLeast(1), FREE, LOCAL, Only("--test-list or MovingShapes", lambda c: c.measures())
    ] = 10
    """Clips a video whose features are averaged for retrieval."""

    def in_short(self) -> str:
        """What a preset makes of a run, in half a line."""
        clips = f"clips of {self.frames} frames of {self.size} x {self.size} pixels"
        return f"{self.backbone}, {clips}, {self.epochs} epochs"

    def window(self) -> int:
        """Source frames that one view spans."""
        return self.frames * self.stride

    def measures(self) -> bool:
        """Whether the run ends with a measurement: of the videos of --test-list, or of MovingShapes' own."""
        return self.test_list is not None or (self.data is None and self.list is None)

    def least_frames(self) -> int:
        """Source frames that a video must have to be used."""
        return 1 if self.short == "hold" else self.window()

    def colours(self) -> dict[str, tuple[float, float, float]]:
        """How a clip is normalised, as arguments of `augment_clips`."""
        return {"mean": self.mean, "std": self.std}

    def dataset(self, videos: TrainingVideos, plan: Draw, **further) -> VideoDataset:
        """The data set of a run that draws `plan`; `further` are other arguments of `VideoDataset`."""
        dataset = VideoDataset(videos.usable, plan, self.seed, int(self.cache_gib * 2**30), **further)
        dataset.shrunk_to = self.size if self.shrink else None
        return dataset

    def map_shape(self) -> tuple[int, int, int]:
        """(T', H', W') of the feature map of the backbone that is named. UserError where it cannot take the clips."""
        return named_map_shape(self.backbone, self.frames, self.size)

    def check_backbone(self) -> None:
        """`check`, and UserError where the backbone that is named cannot take what the flags say."""
        self.check()
        self.map_shape()

    def refuse_idle(self, default: TrainConfig) -> None:
        """UserError for a flag that differs from the preset's, and that the other flags leave without effect."""
        refuse_idle(self, default)

    def check(self) -> None:
        """UserError for a number out of its range, and for flags that contradict each other."""
        check_ranges(self)
        small, large = self.crop_area
        if not 0 < small <= large <= 1:
            raise UserError(f"--crop-area: must be two rising shares in (0, 1], got {small} {large}")
        late = [milestone for milestone in self.milestones if milestone > self.epochs]
        if late:
            raise UserError(f"--milestones: {' '.join(map(str, late))} are not within the {self.epochs} --epochs")
