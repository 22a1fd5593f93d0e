"""The flags of Controllable Augmentations and the presets: what the paper sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import nn

from motionops.errors import UserError
from motionops.flags import FREE, LOCAL, NOT_NEGATIVE, POSITIVE, AtLeast, Below, Only, Within
from motionops.models import build_backbone
from motionops.models.shapes import feature_shape
from motionops.models.temporal_detail import temporal_halvings
from motionops.training.shared_flags import Contrast, Groups
from motionops.views import IntensityLevels


def in_losses(*names: str) -> Only:
    """Of one of these losses."""
    return Only(f"--losses {' or '.join(names)}", lambda c: bool(set(names) & set(c.losses)))


@dataclass(frozen=True)
class ControllableConfig(Contrast, Groups):
    """Learn video features from unlabelled videos with Controllable Augmentations (local clips in a global view)."""

    output: Annotated[Path, FREE, LOCAL] = Path("runs/controllable")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    epochs: Annotated[int, AtLeast(1)] = 24
    """Passes over the training videos; the learning rate's schedule spans them."""
    backbone: Literal["r3d_small", "r3d_18_pool", "r3d_34_pool", "r3d_18", "r2plus1d_18"] = "r3d_small"
    """Network that is trained."""

    losses: tuple[Literal["rc", "mi", "td", "nce"], ...] = ("rc", "mi", "td")
    """rc: region contrast (Eq. 3); mi: low-level information, removed (Eq. 6); td: temporal order (Eq. 7); nce: plain
    contrast of whole clips (Table 7)."""
    weight_rc: Annotated[float, NOT_NEGATIVE, in_losses("rc")] = 1.0
    """Weight of rc."""
    weight_mi: Annotated[float, NOT_NEGATIVE, in_losses("mi")] = 0.1
    """Weight of mi; the estimator itself learns as it does with any."""
    weight_td: Annotated[float, NOT_NEGATIVE, in_losses("td")] = 0.1
    """Weight of td."""
    weight_nce: Annotated[float, NOT_NEGATIVE, in_losses("nce")] = 1.0
    """Weight of nce."""
    temperature: Annotated[float, POSITIVE, in_losses("rc", "nce")] = 0.1
    """Temperature of rc and nce."""
    head: Annotated[Literal["mlp", "none"], in_losses("rc", "nce")] = "mlp"
    """What rc and nce compare: a projection of every cell, or the cells themselves."""
    dim: Annotated[
        int, AtLeast(1), Only("--head mlp", lambda c: c.head == "mlp" and bool({"rc", "nce"} & set(c.losses)))
    ] = 128
    """Size of the projection."""
    hidden: Annotated[int, AtLeast(1), Only("a head or estimator with hidden units", lambda c: c.uses_hidden())] = 256
    """Hidden units of the projection head, the mutual information's network and the order head's MLP."""

    clips: Annotated[int, AtLeast(1)] = 2
    """Local clips of a video (K)."""
    global_cells: Annotated[int, AtLeast(1), Only("a loss of the global view", lambda c: c.uses_global())] = 4
    """Temporal cells of the global feature map (T_v): strides over time are left out until there are so many."""
    global_crop_area: tuple[float, float] = (0.8, 1.0)
    """Smallest and largest share of the frame that the global view covers; --crop-area is of the local ones in it."""
    mirror: Annotated[float, Within(0, 1)] = 0.5
    """Probability of a mirrored view, of each by itself."""
    nce_pairs: Annotated[Literal["clips", "global"], in_losses("nce")] = "clips"
    """Positives of nce: a local clip and the next one of its video, or a local clip and the global view."""

    colour_levels: Annotated[int, AtLeast(1)] = 4
    """Intensity levels of brightness, of contrast and of saturation (#B/C/S)."""
    hue_levels: Annotated[int, AtLeast(1)] = 2
    """Intensity levels of the hue (#H)."""
    blur_levels: Annotated[int, AtLeast(1)] = 4
    """Intensity levels of the blur (#G)."""
    drawn_levels: Annotated[int, AtLeast(1)] = 32
    """Intensity levels that are drawn of all in a step, for its clips to share."""
    jitter: tuple[float, float, float, float] = (0.9, 0.9, 0.9, 0.5)
    """Strengths of brightness, contrast, saturation and hue: the ranges that are cut into levels."""
    blur_sigma: tuple[float, float] = (0.1, 0.6)
    """Range of the blur's deviation in pixels of a clip."""

    estimator: Annotated[Literal["mine", "infonce", "nwj"], in_losses("mi")] = "mine"
    """Bound of the mutual information in mi."""
    decay: Annotated[
        float,
        Below(0, 1),
        Only("--losses mi and --estimator mine", lambda c: "mi" in c.losses and c.estimator == "mine"),
    ] = 0.99
    """Of the moving average of MINE's partition; 0: none."""
    marginals: Annotated[int, AtLeast(1), in_losses("mi")] = 8
    """Values that each clip's feature is paired with for the marginal of mi."""
    estimator_steps: Annotated[int, AtLeast(1), in_losses("mi")] = 10
    """Steps of the estimator of mi for one of the network."""
    estimator_rate: Annotated[float, POSITIVE, in_losses("mi")] = 1e-3
    """The estimator's own learning rate, constant."""
    estimator_memory: Annotated[int, AtLeast(1), in_losses("mi")] = 8
    """Steps whose features the estimator learns from."""

    order_head: Annotated[Literal["gru", "mlp", "gru-mlp", "vcop"], in_losses("td")] = "gru"
    """Head of td (Table 6); vcop classifies the order without the global view."""
    order_input: Annotated[Literal["mean", "map"], in_losses("td")] = "mean"
    """What the head reads of each local clip: the mean of its feature map, or a linear layer over the whole map."""
    order_estimator: Annotated[
        Literal["mine", "infonce", "nwj"],
        Only("--losses td and another --order-head than vcop", lambda c: "td" in c.losses and c.order_head != "vcop"),
    ] = "mine"
    """Bound of the mutual information in td. Its partition is that of the step."""
    order_temperature: Annotated[
        float, POSITIVE, Only("--losses td and --order-head gru", lambda c: "td" in c.losses and c.order_head == "gru")
    ] = 0.1
    """What the cosine of --order-head gru is divided by."""
    shuffles: Annotated[
        int,
        AtLeast(1),
        Only("--losses td and another --order-head than vcop", lambda c: "td" in c.losses and c.order_head != "vcop"),
    ] = 1
    """Wrong orders of each video's clips."""

    def levels(self) -> IntensityLevels:
        """The intensity levels that are told apart."""
        return IntensityLevels(self.colour_levels, self.hue_levels, self.blur_levels, self.jitter, self.blur_sigma)

    def uses_hidden(self) -> bool:
        """Whether anything has hidden units."""
        projects = self.head == "mlp" and bool({"rc", "nce"} & set(self.losses))
        return projects or "mi" in self.losses or ("td" in self.losses and self.order_head != "gru")

    def uses_global(self) -> bool:
        """Whether the global view takes part in any loss."""
        alone = {"nce"} if self.nce_pairs == "clips" and self.clips > 1 else set()
        alone |= {"td"} if self.order_head == "vcop" else set()
        return bool(set(self.losses) - alone)

    def check(self) -> None:
        super().check()
        if not {"rc", "nce"} & set(self.losses):
            raise UserError("--losses: name rc or nce; mi and td alone hold no video apart from another")
        if len(set(self.losses)) < len(self.losses):
            raise UserError(f"--losses: each loss once, got {' '.join(self.losses)}")
        small, large = self.global_crop_area
        if not 0 < small <= large <= 1:
            raise UserError(f"--global-crop-area: must be two rising shares in (0, 1], got {small} {large}")
        try:
            levels = self.levels()
        except ValueError as error:
            raise UserError(f"--jitter, --blur-sigma: {str(error).partition(': ')[2]}") from error
        if self.drawn_levels > levels.count:
            raise UserError(f"--drawn-levels: {self.drawn_levels} are more than the {levels.count} intensity levels")
        if self.clips > self.frames:
            raise UserError(
                f"--clips: the global clip has {self.frames} frames, too few for {self.clips} segments with a local "
                f"clip each; --frames {self.clips}"
            )
        if "td" in self.losses and self.clips == 1:
            raise UserError("--losses td: one local clip has no order; --clips 2 or more, or leave td out")
        if "td" in self.losses and self.order_head == "vcop" and self.clips > 5:
            raise UserError(f"--order-head vcop: has a class for each order of 2 to 5 clips, got --clips {self.clips}")

    def check_backbone(self) -> None:
        super().check_backbone()
        with torch.device("meta"):
            halvings = len(temporal_halvings(build_backbone(self.backbone)))
        self.require_cells(self.backbone, self.map_shape()[0], halvings)

    def shape_of(self, backbone: nn.Module) -> tuple[int, int, int, int]:
        """(C, t, h, w) of a backbone's map of a local clip; UserError where it cannot have --global-cells."""
        shape = feature_shape(backbone, self.frames, self.size)
        name = getattr(backbone, "name", type(backbone).__name__)
        self.require_cells(name, shape[1], len(temporal_halvings(backbone)))
        return shape

    def require_cells(self, name: str, cells: int, halvings: int) -> None:
        """UserError where a network whose maps have so many temporal cells, after so many halvings, cannot have those
        of the global view; `name` is the network's."""
        possible = [cells * 2**i for i in range(halvings + 1)]
        if self.uses_global() and self.global_cells not in possible:
            raise UserError(
                f"--global-cells: {name} makes {' or '.join(map(str, possible))} temporal cells of "
                f"--frames {self.frames}, not {self.global_cells}"
            )


_UCF101 = ControllableConfig(
    preset="ucf101",
    backbone="r3d_18_pool",
    frames=16,
    stride=2,
    size=112,
    epochs=200,
    batch_size=128,
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=1e-5,
    warmup_epochs=0.0,
    milestones=(150,),
    crop_area=(0.2, 1.0),
    evaluation_crop=0.875,
    workers=8,
    hidden=512,
    weight_mi=1.0,
    weight_td=1.0,
    clips=4,
    global_cells=8,
    jitter=(0.4, 0.4, 0.4, 0.1),
    blur_sigma=(0.1, 2.0),
    order_temperature=1.0,
)
PRESETS = {
    "demo": ControllableConfig(),
    "ucf101": _UCF101,
    "kinetics400": replace(_UCF101, preset="kinetics400", epochs=100, milestones=(70,)),
}
