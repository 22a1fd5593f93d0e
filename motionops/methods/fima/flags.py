"""The flags of FIMA and the presets: what the paper and its release set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from motionops.errors import UserError
from motionops.flags import FREE, LOCAL, NOT_NEGATIVE, POSITIVE, AtLeast, Below, Only, Within
from motionops.training.shared_flags import Contrast, Look, Momentum

Loss = Literal["vv", "pix", "fra", "vd"]


def in_losses(*names: str) -> Only:
    """Of one of these losses."""
    return Only(f"--losses {' or '.join(names)}", lambda c: bool(set(names) & set(c.losses)))


DECODER = Only("a motion decoder", lambda c: bool({"pix", "fra"} & set(c.losses)) and c.motion_decoder != "none")
MASK = Only("--losses pix and a --mask-position", lambda c: "pix" in c.losses and c.mask_position != "none")


@dataclass(frozen=True)
class FIMAConfig(Contrast, Momentum, Look):
    """Learn video features from unlabelled videos with FIMA (motion from frame differences, aligned pixel by pixel)."""

    output: Annotated[Path, FREE, LOCAL] = Path("runs/fima")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""

    losses: tuple[Loss, ...] = ("vv", "pix", "fra")
    """vv: clip and clip (Eq. 1); pix: motion of pixels (Eq. 8); fra: motion of frames (Eq. 10); vd: clip and motion."""
    weight_vv: Annotated[float, NOT_NEGATIVE, in_losses("vv")] = 0.2
    """Weight of vv."""
    weight_pix: Annotated[float, NOT_NEGATIVE, in_losses("pix")] = 1.0
    """Weight of pix."""
    weight_fra: Annotated[float, NOT_NEGATIVE, in_losses("fra")] = 1.0
    """Weight of fra."""
    weight_vd: Annotated[float, NOT_NEGATIVE, in_losses("vd")] = 1.0
    """Weight of vd."""

    queue: Annotated[int, in_losses("vv", "vd", "fra")] = 512
    """Negatives in a queue."""
    enqueue: Annotated[Literal["after", "between"], in_losses("vv", "vd")] = "after"
    """When keys of vv enter the queue: after both directions, or between them (as released)."""

    radius: Annotated[float, POSITIVE, in_losses("pix")] = 0.7
    """Positives of pix lie nearer than this, in diagonals of a cell."""
    pixel_negatives: Annotated[Literal["video", "batch"], in_losses("pix")] = "batch"
    """Whether pixels of the other videos of the batch are negatives of pix."""
    pixel_queue: Annotated[int, AtLeast(0), in_losses("pix")] = 0
    """Motion pixels of earlier batches that are negatives of pix as well; 0: none."""
    columns: Annotated[Literal["local", "ranks", "group"], in_losses("pix", "fra")] = "local"
    """Whose samples are negatives of pix and fra: the process's, those of all, or a --group's, as of a paper's GPU."""
    frame_loss: Annotated[Literal["infonce", "triplet", "mse"], in_losses("fra")] = "infonce"
    """Form of fra."""

    motion_decoder: Annotated[Literal["shared", "different", "none"], in_losses("pix", "fra")] = "shared"
    """One motion decoder for pix and fra, one for each, or none (pix then compares the RGB pixels themselves)."""
    decoder_depth: Annotated[int, AtLeast(1), DECODER] = 2
    """Layers of the decoder."""
    decoder_width: Annotated[int, DECODER] = 128
    """Size of its tokens."""
    decoder_heads: Annotated[int, DECODER] = 4
    """Its attention heads."""
    decoder_feedforward: Annotated[int, AtLeast(1), DECODER] = 128
    """Hidden size of its feed-forward parts."""
    decoder_dropout: Annotated[float, Below(0, 1), DECODER] = 0.1
    """Its dropout."""

    foreground_ratio: Annotated[float, Within(0, 1), MASK] = 0.5
    """Share beta of a view's cells that are foreground: those with the highest activation."""
    mask_source: Annotated[Literal["rgb", "difference", "both"], MASK] = "both"
    """Activation maps that say what is foreground."""
    mask_position: Annotated[Literal["none", "prediction", "target", "both"], in_losses("pix")] = "both"
    """Sides of pix on which the background is left out."""

    jitter: Annotated[float, Within(0, 1)] = 0.2
    """Probability of colour jitter."""
    blur: Annotated[float, Within(0, 1)] = 0.2
    """Probability of a blurred clip."""

    def check(self) -> None:
        super().check()
        if not self.losses:
            raise UserError(f"--losses: name at least one of {', '.join(get_args(Loss))}")
        if len(set(self.losses)) < len(self.losses):
            raise UserError(f"--losses: each loss once, got {' '.join(self.losses)}")
        if {"vv", "vd", "fra"} & set(self.losses):
            self.require_negatives(self.batch_size, f"the --batch-size of {self.batch_size}")
        if "pix" in self.losses and 0 < self.pixel_queue < self.batch_size:
            raise UserError(f"--pixel-queue: {self.pixel_queue} is less than the --batch-size {self.batch_size}")
        if self.columns == "ranks" and self.pixel_negatives == "video" and "pix" in self.losses:
            raise UserError("--columns ranks: --pixel-negatives video takes no other video's pixels")
        if self.columns == "group" and not self.group:
            raise UserError("--columns group: --group says how many samples there are on a paper's GPU")
        width, heads = self.decoder_width, self.decoder_heads
        if heads < 1 or width < 2 or width % 2 or width % heads:
            raise UserError(f"--decoder-width: must be even and a multiple of --decoder-heads {heads}, got {width}")
        if "fra" in self.losses and self.motion_decoder == "none":
            raise UserError(
                "--losses fra: the frame-level loss is made of the decoder's [cls]; --motion-decoder none has none"
            )

    def check_backbone(self) -> None:
        super().check_backbone()
        self.require_frames(self.map_shape()[0])

    def require_frames(self, frames: int) -> None:
        """UserError where a feature map of so many frames does not fit the parts of a window."""
        if "fra" in self.losses and frames != self.stride:
            raise UserError(
                f"--losses fra: the feature map has {frames} frames for the {self.stride} parts of a window; "
                f"--frames {self.frames * self.stride // frames or 1} or --stride {frames} makes them equal"
            )


_UCF101 = FIMAConfig(
    preset="ucf101",
    weight_vv=1.0,
    backbone="i3d",
    frames=16,
    size=224,
    epochs=200,
    batch_size=24,
    optimizer="sgd",
    learning_rate=0.00375,
    warmup_epochs=0.0,
    schedule="epoch",
    crop_area=(0.2, 1.0),
    evaluation_crop=0.875,
    workers=8,
    momentum=0.999,
    hidden=1024,
    queue=2048,
    group=8,
    columns="group",
    decoder_width=512,
    decoder_feedforward=512,
)
PRESETS = {
    "demo": FIMAConfig(),
    "ucf101": _UCF101,
    "ucf101-released": replace(_UCF101, preset="ucf101-released", jitter=0.8, blur=0.5, queue=2240, enqueue="between"),
    "kinetics400": replace(
        _UCF101, preset="kinetics400", epochs=100, batch_size=64, learning_rate=0.01, queue=65536, pixel_queue=31360
    ),
}
