"""The flags of MCL and the presets: what the paper and its release set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from motionops.commandline import flag
from motionops.errors import UserError
from motionops.flags import FREE, LOCAL, NOT_NEGATIVE, AtLeast, Below, Only, Within
from motionops.training.shared_flags import Contrast, Look, Momentum
from motionops.views.colour import IMAGENET_MEAN, IMAGENET_STD

WHOLE_VIDEOS = Only("--motion-source prepared", lambda c: c.motion and c.motion_source == "prepared")
CROPS = Only("crops by motion", lambda c: c.crops())
ALIGNS = Only("the motion alignment loss", lambda c: c.aligns())


@dataclass(frozen=True)
class MCLConfig(Contrast, Momentum, Look):
    """Learn video features from unlabelled videos with MCL (views where motion is, gradients aligned with motion)."""

    output: Annotated[Path, FREE, LOCAL] = Path("runs/mcl")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    own_negatives: bool = True
    """Whether former keys of the query's own video are negatives, as in the released code; the paper speaks of other
    instances."""

    motion: bool = True
    """--no-motion looks at motion nowhere: no temporal sampling, no spatial crop, no alignment. The baseline."""
    motion_source: Annotated[
        Literal["prepared", "on-the-fly"], Only("a crop or an alignment by motion", lambda c: c.aligns() or c.crops())
    ] = "prepared"
    """Motion maps of whole videos, computed once (TV-L1), or of each clip's frames in every step. Temporal sampling
    needs whole videos; on the fly, clips start anywhere."""
    motion_file: Annotated[
        Path | None, FREE, LOCAL, Only("motion that is read from a file", lambda c: c.prepared())
    ] = None
    """File of "motionops prepare motion". Without it one is made in the cache folder, once."""
    motion_side: Annotated[
        int, AtLeast(0), Only("motion that is made here", lambda c: c.prepared() and c.motion_file is None)
    ] = 96
    """Frames with a longer side are shrunk to it before that motion is computed; 0: none is."""

    temporal_sampling: Annotated[bool, WHOLE_VIDEOS] = True
    """Clips with more motion than the video's median (Section 3.2)."""
    temporal_probability: Annotated[
        float, Within(0, 1), Only("temporal sampling", lambda c: c.prepared() and c.temporal_sampling)
    ] = 1.0
    """With which a video's clips are sampled so; else they start anywhere."""
    spatial_crop: Annotated[bool, Only("--motion", lambda c: c.motion)] = True
    """Crops that cover what moves (Section 3.2)."""
    crop_form: Annotated[Literal["paper", "released"], CROPS] = "paper"
    """How such a crop is found: as the paper has it, or its released code."""
    crop_probability: Annotated[float, Within(0, 1), CROPS] = 1.0
    """With which a view is cropped so; else anywhere."""
    crop_quantile: Annotated[float, Below(0, 1), CROPS] = 0.9
    """Quantile of the clip's S-motion above which a place moves."""
    crop_coverage: Annotated[float, Within(0, 1), CROPS] = 0.8
    """Share of what moves that a crop covers."""

    weight_nce: Annotated[float, NOT_NEGATIVE] = 1.0
    """Weight of instance discrimination (Eq. 3)."""
    weight_alignment: Annotated[float, NOT_NEGATIVE, Only("--motion", lambda c: c.motion)] = 1.0
    """Weight of the motion alignment loss (Eq. 7); 0: none."""
    alignment: Annotated[tuple[Literal["st", "s", "t"], ...], ALIGNS] = ("st", "s", "t")
    """Its parts: in space and time, in space, in time."""
    alignment_variant: Annotated[Literal["v1", "v2", "v3"], ALIGNS] = "v3"
    """What is aligned: feature map (Eq. 4), weighted feature map (Eq. 5), weighted gradient map (Eq. 6)."""
    alignment_form: Annotated[Literal["paper", "released"], ALIGNS] = "paper"
    """Form of the alignment loss."""
    alignment_boost: Annotated[
        float, NOT_NEGATIVE, Only("--alignment-boost-epochs", lambda c: c.aligns() and c.alignment_boost_epochs > 0)
    ] = 1.0
    """Factor of weight_alignment in the first epochs."""
    alignment_boost_epochs: Annotated[
        int, AtLeast(0), Only("an --alignment-boost other than 1", lambda c: c.aligns() and c.alignment_boost != 1)
    ] = 0
    """How many epochs that are."""
    seco: tuple[Literal["intra", "order"], ...] = ()
    """Losses of SeCo that the released code adds: the clip against others of its video, and their order, whose weight
    rises from 0 to 1. With them a query has three positive keys: its own clip and two others."""

    def aligns(self) -> bool:
        """Whether there is a motion alignment loss."""
        return self.motion and self.weight_alignment > 0

    def crops(self) -> bool:
        """Whether crops look at motion."""
        return self.motion and self.spatial_crop

    def prepared(self) -> bool:
        """Whether motion is read from a file."""
        used = self.aligns() or self.crops() or self.temporal_sampling
        return self.motion and used and self.motion_source == "prepared"

    def on_the_fly(self) -> bool:
        """Whether motion is computed in every step."""
        return (self.aligns() or self.crops()) and self.motion_source == "on-the-fly"

    def views(self) -> list[int]:
        """The clip of each view, by number: a query and its keys."""
        return [0, 0, 1, 2] if self.seco else [0, 1]

    def check(self) -> None:
        super().check()
        keys = (len(self.views()) - 1) * self.batch_size
        self.require_negatives(keys, f"the {keys} keys of a step")
        for name in ("alignment", "seco"):
            parts = getattr(self, name)
            if len(set(parts)) < len(parts):
                raise UserError(f"{flag(name)}: each part once, got {' '.join(parts)}")
        if self.aligns() and not self.alignment:
            raise UserError("--alignment: name at least one of st, s, t; --weight-alignment 0 switches the loss off")
        if not self.weight_nce and not self.aligns():
            raise UserError("--weight-nce 0: without the motion alignment loss nothing is left to learn")
        if self.motion_source == "on-the-fly" and self.motion and not self.on_the_fly():
            raise UserError(
                "--motion-source on-the-fly: neither crops nor an alignment look at motion, and temporal sampling "
                "needs whole videos; --motion-source prepared knows them, --no-motion is the baseline"
            )
        if self.motion_file is not None and self.motion and self.motion_source == "on-the-fly":
            raise UserError("--motion-file: --motion-source on-the-fly reads none")
        if self.on_the_fly() and self.window() < 2:
            raise UserError(
                "--motion-source on-the-fly: a clip of one frame shows no motion; --stride 2 takes the next one"
            )


_UCF101 = MCLConfig(
    preset="ucf101",
    backbone="r2plus1d_50",
    frames=16,
    size=224,
    epochs=200,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.01,
    warmup_epochs=0.0,
    crop_area=(0.2, 1.0),
    mean=IMAGENET_MEAN,  # of the weights that --init takes
    std=IMAGENET_STD,
    evaluation_crop=0.875,
    workers=8,
    momentum=0.999,
    hidden=2048,
    queue=131072,
    group=8,
    motion_side=0,
)
PRESETS = {
    "demo": MCLConfig(epochs=20, weight_nce=0.2, alignment_variant="v1"),
    "ucf101": _UCF101,
    "ucf101-released": replace(
        _UCF101,
        preset="ucf101-released",
        batch_size=32,
        warmup_epochs=5.0,
        temporal_probability=0.7,
        crop_form="released",
        alignment_form="released",
        alignment_boost=2.0,
        alignment_boost_epochs=5,
        seco=("intra", "order"),
    ),
    "kinetics400": replace(_UCF101, preset="kinetics400", epochs=400),
}
