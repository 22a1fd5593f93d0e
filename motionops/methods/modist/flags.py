"""The flags of MoDist and the presets: what the paper sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from motionops.errors import UserError
from motionops.flags import FREE, LOCAL, NOT_NEGATIVE, POSITIVE, AtLeast, Only, Within
from motionops.motion.pair_motion import check_raft_size, raft_file
from motionops.training.shared_flags import Contrast, Look, Momentum


def in_losses(*names: str) -> Only:
    """Of one of these losses."""
    return Only(f"--losses {' or '.join(names)}", lambda c: bool(set(names) & set(c.losses)))


MOTION = Only("--losses m or mv", lambda c: c.uses_motion())


@dataclass(frozen=True)
class MoDistConfig(Contrast, Momentum, Look):
    """Learn video features from unlabelled videos with MoDist (motion distilled into a visual network)."""

    output: Annotated[Path, FREE, LOCAL] = Path("runs/modist")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    epochs: Annotated[int, AtLeast(1)] = 20
    """Passes over the training videos; the learning rate's schedule spans them."""
    learning_rate: Annotated[float, POSITIVE] = 1e-3
    """Base learning rate."""

    backbone: Literal["r3d_small", "r3d_18", "slow_r50"] = "r3d_small"
    """Network of the visual pathway, which is what is kept."""
    motion_backbone: Annotated[Literal["r3d_small", "r2d_50_eighth"], MOTION] = "r3d_small"
    """Network of the motion pathway, used while training alone."""

    losses: tuple[Literal["v", "m", "mv"], ...] = ("v", "m", "mv")
    """v: clip and clip (Eq. 1); m: motion and motion; mv: clip and motion, both ways (Eq. 2)."""
    weight_v: Annotated[float, NOT_NEGATIVE, in_losses("v")] = 0.2
    """Weight of v."""
    weight_m: Annotated[float, NOT_NEGATIVE, in_losses("m")] = 0.2
    """Weight of m."""
    weight_mv: Annotated[float, NOT_NEGATIVE, in_losses("mv")] = 1.0
    """Weight of mv."""
    mv_negatives: Annotated[Literal["query", "key"], in_losses("mv")] = "key"
    """Queue of mv's negatives: that of the query's pathway, as Eq. 2 has it, or that of the key's. A query of one
    pathway tells keys of the other from negatives of its own without looking at the video."""
    momentum: Annotated[float, Within(0, 1)] = 0.99
    """Momentum of both key encoders."""
    queue: int = 512
    """Negatives in each of the two queues."""

    motion: Annotated[Literal["flow-edges", "flow", "frame-difference"], MOTION] = "flow-edges"
    """Input of the motion pathway (Table 3b)."""
    flow: Annotated[
        Literal["tvl1", "raft", "prepared"], Only("motion that is made of flow", lambda c: c.uses_flow())
    ] = "prepared"
    """Where flow comes from: computed in each step, or flow edges that were prepared once. TV-L1 of a pair takes about
    2 ms of a core at 32 x 32 pixels and 90 ms at 224 x 224: without a GPU, prepared edges are meant."""
    raft_weights: Annotated[Path | None, FREE, LOCAL, Only("--flow raft", lambda c: c.uses_raft())] = None
    """Weights of RAFT; by default looked for in torch's hub cache."""
    prepared: Annotated[Path | None, FREE, LOCAL, Only("--flow prepared", lambda c: c.uses_prepared())] = None
    """Folder of "motionops prepare flow-edges". Without it one is made in the cache folder, once."""
    motion_frames: Annotated[int, AtLeast(1), MOTION] = 8
    """Frames of a motion clip."""
    motion_stride: Annotated[int, AtLeast(1), MOTION] = 2
    """Source frames from one frame of a motion clip to the next."""
    flow_interval: Annotated[int, AtLeast(1), Only("motion that is made of flow", lambda c: c.uses_flow())] = 5
    """Flow is that from frame t to frame t - interval; frame differences are always between neighbours."""
    gamma: Annotated[float, NOT_NEGATIVE, MOTION] = 0.002
    """Motion clips whose mean is not above this share of the input's range (edges: 10; flow: 10 pixels; differences:
    1) are not used; 0: all are."""
    candidates: Annotated[
        int,
        AtLeast(2),
        Only(
            "motion computed in each step and a gamma",
            lambda c: c.uses_motion() and not c.uses_prepared() and c.gamma > 0,
        ),
    ] = 4
    """Motion clips that are drawn of a video, in the order in which they are tried against gamma. Prepared edges need
    none: there all possible clips are known."""
    grey_motion: Annotated[bool, Only("--flow tvl1", lambda c: c.uses_tvl1())] = False
    """Whether workers send the frames of motion clips grey, rounded to 8 bits as TV-L1 is usually given them: a third
    of the memory. Where nothing moves or nothing is to be seen, flow then differs visibly."""
    temporal_jitter: Annotated[bool, MOTION] = True
    """Whether visual and motion clips start at times of their own; else the pairs of mv show the same moment."""

    grayscale: Annotated[float, Within(0, 1)] = 0.2
    """Probability of a grey visual clip."""

    def interval(self) -> int:
        """Source frames between the two frames of a pair."""
        return 1 if self.motion == "frame-difference" else self.flow_interval

    def window(self) -> int:
        """Source frames that a video must have."""
        visual = (self.frames - 1) * self.stride + 1
        if not self.uses_motion():
            return visual
        return self.interval() + max(visual, (self.motion_frames - 1) * self.motion_stride + 1)

    def uses_motion(self) -> bool:
        """Whether there is a motion pathway at all."""
        return bool({"m", "mv"} & set(self.losses))

    def uses_flow(self) -> bool:
        """Whether that pathway sees optical flow, or what is made of it."""
        return self.uses_motion() and self.motion != "frame-difference"

    def uses_tvl1(self) -> bool:
        """Whether flow is that of TV-L1, which looks at nothing but brightness."""
        return self.uses_flow() and self.flow == "tvl1"

    def uses_prepared(self) -> bool:
        """Whether motion is read instead of computed."""
        return self.uses_flow() and self.flow == "prepared"

    def uses_raft(self) -> bool:
        """Whether flow is RAFT's."""
        return self.uses_flow() and self.flow == "raft"

    def motion_windows(self) -> int:
        """Motion clips that are read of a video; two are enough where all are good."""
        return self.candidates if self.gamma else 2

    def visual_windows(self) -> int:
        """Visual clips that are read of a video: two, or without temporal jitter one for each motion clip."""
        if self.temporal_jitter or not self.uses_motion() or self.uses_prepared():
            return 2
        return self.motion_windows()

    def check(self) -> None:
        super().check()
        if not self.losses:
            raise UserError("--losses: name at least one of v, m, mv")
        if len(set(self.losses)) < len(self.losses):
            raise UserError(f"--losses: each loss once, got {' '.join(self.losses)}")
        if not {"v", "mv"} & set(self.losses):
            raise UserError(
                "--losses m: trains the motion pathway alone, and the visual one is what is kept; add v or mv"
            )
        self.require_negatives(self.batch_size, f"the --batch-size of {self.batch_size}")
        if self.uses_prepared() and self.motion != "flow-edges":
            raise UserError(f"--flow prepared: holds flow edges; --motion {self.motion} needs --flow tvl1 or raft")
        if self.uses_raft():
            check_raft_size(self.size)
            raft_file(self.raft_weights)


_KINETICS = MoDistConfig(
    preset="kinetics400",
    backbone="slow_r50",
    motion_backbone="r2d_50_eighth",
    flow="tvl1",
    frames=8,
    stride=8,
    size=224,
    motion_frames=16,
    motion_stride=4,
    epochs=600,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.05,
    warmup_epochs=10.0,
    crop_area=(0.2, 1.0),
    evaluation_crop=0.875,
    workers=8,
    momentum=0.999,
    hidden=2048,
    queue=65536,
    weight_v=1.0,
    weight_m=1.0,
    gamma=0.02,
    grey_motion=True,
    mv_negatives="query",
    group=8,
)
PRESETS = {
    "demo": MoDistConfig(),
    "kinetics400": _KINETICS,
    "kinetics400-mini": replace(_KINETICS, preset="kinetics400-mini", epochs=100),
}
