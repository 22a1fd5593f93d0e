"""Controllable Augmentations (Qian et al., ECCV 2022 workshop): python trainers/controllable.py [--data DIR] ..."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor, nn
from torch.nn import functional

import motionops
from motionops.arrays import to_device
from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/controllable.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.errors import UserError
from motionops.evaluation.pictures import activation_overlay
from motionops.learning import GradientReversal, MutualInformation
from motionops.learning.config import TrainConfig
from motionops.learning.data import TrainingVideos
from motionops.learning.distributed import gather_with_gradient, world
from motionops.learning.level_pairs import level_pairs, other_videos
from motionops.learning.module import SelfSupervisedModule
from motionops.learning.mutual_information import information_bound
from motionops.learning.training import check_numbers, flag, map_shape, train
from motionops.models import ProjectionHead, build_backbone, finer_in_time
from motionops.models.order_heads import GRUMLPOrder, GRUOrder, MLPOrder, OrderClassifier, order_table
from motionops.models.temporal_detail import temporal_halvings
from motionops.video import VideoDataset
from motionops.views import IntensityLevels, local_extents, local_starts

GLOBAL = 0  # the place of the global view in a batch; the local clips follow


@dataclass
class ControllableConfig(TrainConfig):
    """Learn video features from unlabelled videos with Controllable Augmentations (local clips in a global view)."""

    output: Path = Path("runs/controllable")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    epochs: int = 24
    """Passes over the training videos; the learning rate's schedule spans them."""
    backbone: Literal["r3d_small", "r3d_18_pool", "r3d_34_pool", "r3d_18", "r2plus1d_18"] = "r3d_small"
    """Network that is trained."""

    losses: tuple[Literal["rc", "mi", "td", "nce"], ...] = ("rc", "mi", "td")
    """rc: region contrast (Eq. 3); mi: low-level information, removed (Eq. 6); td: temporal order (Eq. 7); nce: plain
    contrast of whole clips (Table 7)."""
    weight_rc: float = 1.0
    """Weight of rc."""
    weight_mi: float = 0.1
    """Weight of mi; the estimator itself learns as fast with any."""
    weight_td: float = 0.1
    """Weight of td."""
    weight_nce: float = 1.0
    """Weight of nce."""
    temperature: float = 0.1
    """Temperature of rc and nce."""
    head: Literal["mlp", "none"] = "mlp"
    """What rc and nce compare: a projection of every cell, or the cells themselves."""
    dim: int = 128
    """Size of the projection."""
    hidden: int = 256
    """Hidden units of the projection head, the mutual information's network and the order head's MLP."""

    clips: int = 2
    """Local clips of a video (K)."""
    global_cells: int = 4
    """Temporal cells of the global feature map (T_v): strides over time are left out until there are so many."""
    global_crop_area: tuple[float, float] = (0.8, 1.0)
    """Smallest and largest share of the frame that the global view covers; --crop-area is of the local ones in it."""
    mirror: float = 0.5
    """Probability of a mirrored view, of each by itself."""
    nce_pairs: Literal["clips", "global"] = "clips"
    """Positives of nce: a local clip and the next one of its video, or a local clip and the global view."""

    colour_levels: int = 4
    """Intensity levels of brightness, of contrast and of saturation (#B/C/S)."""
    hue_levels: int = 2
    """Intensity levels of the hue (#H)."""
    blur_levels: int = 4
    """Intensity levels of the blur (#G)."""
    drawn_levels: int = 32
    """Intensity levels that are drawn of all in a step, for its clips to share."""
    jitter: tuple[float, float, float, float] = (0.9, 0.9, 0.9, 0.5)
    """Strengths of brightness, contrast, saturation and hue: the ranges that are cut into levels."""
    blur_sigma: tuple[float, float] = (0.1, 0.6)
    """Range of the blur's deviation in pixels of a clip."""

    estimator: Literal["mine", "infonce", "nwj"] = "mine"
    """Bound of the mutual information in mi."""
    decay: float = 0.99
    """Of the moving average of MINE's partition; 0: none."""
    marginals: int = 8
    """Values that each clip's feature is paired with for the marginal of mi."""

    order_head: Literal["gru", "mlp", "gru-mlp", "vcop"] = "gru"
    """Head of td (Table 6); vcop classifies the order without the global view."""
    order_input: Literal["mean", "map"] = "mean"
    """What the head reads of each local clip: the mean of its feature map, or a linear layer over the whole map."""
    order_estimator: Literal["mine", "infonce", "nwj"] = "mine"
    """Bound of the mutual information in td. Its partition is that of the step."""
    order_temperature: float = 0.1
    """What the cosine of --order-head gru is divided by."""
    shuffles: int = 1
    """Wrong orders of each video's clips."""

    def window(self) -> int:
        """Source frames that a video must have: those that a local clip covers."""
        return self.frames * self.stride

    def levels(self) -> IntensityLevels:
        return IntensityLevels(self.colour_levels, self.hue_levels, self.blur_levels, self.jitter, self.blur_sigma)

    def uses_global(self) -> bool:
        """Whether the global view takes part in any loss."""
        alone = {"nce"} if self.nce_pairs == "clips" and self.clips > 1 else set()
        alone |= {"td"} if self.order_head == "vcop" else set()
        return bool(set(self.losses) - alone)


UCF101 = ControllableConfig(
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
    "ucf101": UCF101,
    "kinetics400": replace(UCF101, preset="kinetics400", epochs=100, milestones=(70,)),
}


class Clips(NamedTuple):
    """The clips of a step: `view [B, 3, T, S, S]`, `local [B K, 3, T, S, S]`; their `levels [all videos, K]`."""

    view: Tensor | None
    local: Tensor
    levels: Tensor


class Drawn(NamedTuple):
    """What the host draws for the losses of a step, of the videos of all ranks; None where no loss needs it.

    `orders [videos * shuffles, K]` of the clips, wrong ones but for vcop, whose are of class `target [videos]`. Of all
    clips, flat: `first [P]` and `second [P]` share their level, `others [P, M]` go with first at random; `strangers
    [videos * K, M]` are videos other than each clip's own.
    """

    orders: Tensor | None = None
    target: Tensor | None = None
    first: Tensor | None = None
    second: Tensor | None = None
    others: Tensor | None = None
    strangers: Tensor | None = None


class Controllable(SelfSupervisedModule):
    """The network at its two temporal resolutions, the heads and the losses. K local clips, one global view."""

    def __init__(self, config: ControllableConfig) -> None:
        super().__init__(config)
        c = config
        self.clips_per_step = c.batch_size * (c.clips + c.uses_global())
        self.backbone = build_backbone(c.backbone)
        self.factor = c.global_cells // map_shape(c)[0] if c.uses_global() else 1
        channels = self.backbone.channels
        self.head = None
        if c.head == "mlp" and {"rc", "nce"} & set(c.losses):
            self.head = ProjectionHead(channels, c.hidden, c.dim)
        if "mi" in c.losses:
            self.information = MutualInformation(channels, channels, c.hidden, c.estimator, c.decay)
            self.reverse = GradientReversal()
        if "td" in c.losses:
            self.order = make_order_head(c, channels)
            if c.order_input == "map":
                self.order_layer = nn.Linear(math.prod(map_shape(c)) * channels, channels)

    def training_step(self, batch: dict, batch_idx: int) -> dict[str, Tensor]:
        c = self.config
        with torch.autocast(self.device.type, enabled=False):  # pixels stay float32 under --precision bf16-mixed
            clips = self.cut(batch)
        losses, shown = self.losses(clips.view, clips.local, batch["extents"], self.draw(clips.levels, self.device))
        shown = {f"loss_{name}": loss.detach() for name, loss in losses.items()} | shown
        total = sum(getattr(c, f"weight_{name}") * loss for name, loss in losses.items())
        return {"loss": total, **shown}

    def losses(self, view: Tensor | None, local: Tensor, extents: Tensor, drawn: Drawn) -> tuple[dict, dict]:
        """From the global view `[B, 3, T, S, S]` and the local clips `[B K, 3, T, S, S]`, cut out at `extents
        [B, 1 + K, 3, 2]`, to the losses by their names, and what else is shown."""
        c = self.config
        local_map = channels_last(self.backbone(local)).unflatten(0, (-1, c.clips))  # [B, K, t, h, w, C]
        view_map = None
        if view is not None:
            with finer_in_time(self.backbone, self.factor):
                view_map = channels_last(self.backbone(view))  # [B, t', h', w', C]

        losses, shown = {}, {}
        if "rc" in c.losses:
            losses["rc"] = self.region_loss(local_map, view_map, extents)
        # Features of whole clips, those of all ranks: a step's losses are of its whole batch.
        local = gather_with_gradient(local_map.float().mean(dim=(2, 3, 4)))  # [B, K, C]
        view = None if view_map is None else gather_with_gradient(view_map.float().mean(dim=(1, 2, 3)))  # [B, C]
        if "td" in c.losses:
            ordered = scaled(local)
            if c.order_input == "map":
                ordered = self.order_layer(scaled(gather_with_gradient(local_map.float())).flatten(2))
            losses["td"], shown["accuracy"] = self.order_loss(ordered, None if view is None else scaled(view), drawn)
        if "nce" in c.losses:
            losses["nce"], accuracy = self.clip_loss(local, view)
            shown.setdefault("accuracy", accuracy)
        if "mi" in c.losses:
            levels, pairs = self.information_terms(scaled(local), scaled(view), drawn)
            # One descent moves the estimator up, and the features, behind the reversal, down (Eq. 6).
            losses["mi"] = pairs - levels
            shown |= {"mi_levels": levels.detach(), "mi_views": pairs.detach()}
        return losses, shown

    def draw(self, levels: Tensor, device: torch.device) -> Drawn:
        """Draw the orders of td and the pairs of mi, for all ranks' clips, whose `levels [videos, K]` these are."""
        c, (videos, clips) = self.config, levels.shape
        orders = target = first = second = others = strangers = None
        if "td" in c.losses:
            generator = self.shared_generator(1)
            if c.order_head == "vcop":
                table = order_table(clips)
                target = torch.randint(len(table), (videos,), generator=generator)
                orders = table[target]
            else:
                orders = wrong_orders(videos * c.shuffles, clips, generator)
        if "mi" in c.losses:
            generator = self.shared_generator(2)
            of_clip = torch.arange(videos).repeat_interleave(clips)
            first, second, others = level_pairs(levels.flatten(), of_clip, c.marginals, generator)
            strangers = other_videos(of_clip, torch.arange(videos), c.marginals, generator)
        drawn = (orders, target, first, second, others, strangers)
        drawn = Drawn(*(None if rows is None else to_device(rows, device) for rows in drawn))
        if c.compile and first is not None:
            for rows in (drawn.first, drawn.second, drawn.others):
                torch._dynamo.maybe_mark_dynamic(rows, 0)  # one graph for any number of pairs from 2 on
        return drawn

    def cut(self, batch: dict) -> Clips:
        """Cut the views out of the batch's frames, in the colours of this step's intensity levels."""
        c, frames = self.config, batch["frames"]
        (rank, ranks), size, views = world(), len(frames), c.clips + 1
        generator, levels = self.shared_generator(0), c.levels()
        drawn = torch.randperm(levels.count, generator=generator)[: c.drawn_levels]
        chosen = drawn[torch.randint(len(drawn), (ranks * size * views,), generator=generator)]
        # Drawn for all ranks, so that how many there are changes nothing.
        look = levels.appearance(chosen, generator)
        own = motionops.Appearance(*(f.unflatten(0, (-1, views))[rank * size : (rank + 1) * size] for f in look))
        device = batch["extents"].device

        def clips(which: slice) -> Tensor:
            parts = (
                frames[:, which].flatten(0, 1) if isinstance(frames, Tensor) else [x for f in frames for x in f[which]]
            )
            appearance = motionops.Appearance(*(to_device(field[:, which].flatten(0, 1), device) for field in own))
            where = batch["extents"][:, which].flatten(0, 1)
            return motionops.augment_clips(parts, where, c.size, appearance, mean=c.mean, std=c.std)

        view = clips(slice(GLOBAL, GLOBAL + 1)) if c.uses_global() else None
        return Clips(view, clips(slice(GLOBAL + 1, None)), chosen.unflatten(0, (-1, views))[:, GLOBAL + 1 :])

    def project(self, features: Tensor) -> Tensor:
        """`[..., C]` -> what rc and nce compare, of unit length."""
        return functional.normalize(features.float(), dim=-1) if self.head is None else self.head(features)

    def region_loss(self, local_map: Tensor, view_map: Tensor, extents: Tensor) -> Tensor:
        """L_rc (Eq. 3): every cell of the local clips against all cells of the global maps of the whole batch."""
        query, key = gather_with_gradient(self.project(local_map)), gather_with_gradient(self.project(view_map))
        extents = gather_with_gradient(extents)
        return motionops.region_contrast(
            query, key, extents[:, GLOBAL + 1 :], extents[:, GLOBAL], temperature=self.config.temperature
        )

    def clip_loss(self, local: Tensor, view: Tensor | None) -> tuple[Tensor, Tensor]:
        """L_nce: a clip against another of its video, or against the global view; negatives are the other videos'."""
        c = self.config
        query = self.project(local)  # [B, K, D]
        if c.nce_pairs == "clips" and c.clips > 1:
            key = query.roll(-1, dims=1)
        else:
            key = self.project(view)[:, None].expand_as(query)
        terms = [
            motionops.pairwise_infonce(query[:, k].contiguous(), key[:, k].contiguous(), temperature=c.temperature)
            for k in range(c.clips)
        ]
        rank = torch.cat([term.rank for term in terms])
        return torch.stack([term.loss for term in terms]).mean(), (rank == 0).float().mean()

    def order_loss(self, local: Tensor, view: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """L_td (Eq. 7): minus the information between the clips in order and the video; and how often order wins."""
        c = self.config
        if c.order_head == "vcop":
            logits = self.order(reordered(local, drawn.orders))
            right = logits.argmax(dim=1) == drawn.target
            return functional.cross_entropy(logits, drawn.target), right.float().mean()
        joint = self.order(local, view)
        repeated = local.repeat_interleave(c.shuffles, dim=0), view.repeat_interleave(c.shuffles, dim=0)
        marginal = self.order(reordered(repeated[0], drawn.orders), repeated[1]).unflatten(0, (-1, c.shuffles))
        bound = information_bound(joint.float(), marginal.float(), c.order_estimator)
        return -bound, (joint[:, None] > marginal).all(dim=1).float().mean()

    def information_terms(self, local: Tensor, view: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """The two estimates of L_mi, in nats: of clips of one level, and of local clips and their global view.

        The first is to be maximised: that trains the estimator, and through the reversal lowers it for the network.
        The second is to be minimised and moves the network alone.
        """
        features, own = local.flatten(0, 1), view.repeat_interleave(local.shape[1], dim=0)
        unused = sum(parameter.sum() for parameter in self.information.parameters()) * 0
        same_level = unused  # where no two clips share a level
        if len(drawn.first):
            turned = self.reverse(features)
            same_level = self.information(*(turned[rows] for rows in (drawn.first, drawn.second, drawn.others)))
        same_video = self.information(features, own, view[drawn.strangers], frozen=True)
        return same_level, same_video

    def report(self, folder: Path, batch: dict) -> None:
        """regions.png: where in the global view the first local clip's strongest cell is found."""
        c = self.config
        if not c.uses_global():
            return
        clips = self.cut(batch)
        local = channels_last(self.backbone(clips.local)).unflatten(0, (-1, c.clips))[:, 0]
        with finer_in_time(self.backbone, self.factor):
            view = channels_last(self.backbone(clips.view))
        cell = local.float().square().mean(dim=-1).flatten(1).argmax(dim=1)
        query = self.project(local).flatten(1, 3)[torch.arange(len(cell)), cell]
        similarity = torch.einsum("bd,bthwd->bthw", query, self.project(view)) / c.temperature
        weights = similarity.flatten(1).softmax(dim=1).view_as(similarity)
        weights = weights / weights.amax(dim=(1, 2, 3), keepdim=True)
        frames = batch["frames"]
        chosen = frames[:, GLOBAL] if isinstance(frames, Tensor) else [video[GLOBAL] for video in frames]
        plain = motionops.augment_clips(chosen, batch["extents"][:, GLOBAL], c.size, mean=0.0, std=1.0)
        pictures = (255 * plain).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
        activation_overlay(pictures.cpu(), weights.cpu(), folder / "regions.png")


def make_order_head(config: ControllableConfig, channels: int) -> nn.Module:
    if config.order_head == "gru":
        return GRUOrder(channels, config.order_temperature)
    if config.order_head == "mlp":
        return MLPOrder(channels, config.clips, config.hidden)
    if config.order_head == "gru-mlp":
        return GRUMLPOrder(channels, config.hidden)
    return OrderClassifier(channels, config.clips, config.hidden)


def channels_last(features: Tensor) -> Tensor:
    """`[B, C, T, H, W] -> [B, T, H, W, C]`."""
    return features.permute(0, 2, 3, 4, 1)


def scaled(features: Tensor) -> Tensor:
    """`[..., C]`, scaled to a mean square of 1: no loss is lowered by making all features small or large."""
    return functional.normalize(features, dim=-1) * math.sqrt(features.shape[-1])


def reordered(clips: Tensor, orders: Tensor) -> Tensor:
    """`[B, K, C]` with row b's clips in the order `orders [B, K]`."""
    return clips.gather(1, orders[:, :, None].expand_as(clips))


def wrong_orders(count: int, clips: int, generator: torch.Generator) -> Tensor:
    """Random orders of K >= 2 clips that are not the right one, int64 `[count, K]`."""
    orders = torch.rand(count, clips, generator=generator).argsort(dim=1)
    right = (orders == torch.arange(clips)).all(dim=1)
    # The right order becomes one with two neighbours exchanged.
    place = torch.randint(clips - 1, (count,), generator=generator)
    rows = right.nonzero()[:, 0]
    orders[rows, place[rows]], orders[rows, place[rows] + 1] = place[rows] + 1, place[rows]
    return orders


class ControllableVideos(VideoDataset):
    """The frames of a video's global view, spread over it evenly, and of its K local clips: `[K + 1, T, H, W, 3]`."""

    def __init__(self, config: ControllableConfig, videos: TrainingVideos) -> None:
        self.config = config
        self.total = 0
        super().__init__(videos.usable, seed=config.seed, cache_bytes=int(config.cache_gib * 2**30))

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Frames `[K + 1, T]` of a video of `frame_count` frames."""
        c = self.config
        self.total = frame_count
        spread = ((torch.arange(c.frames) + 0.5) * frame_count / c.frames).long()
        starts = local_starts(frame_count, c.clips, c.frames * c.stride, generator=generator)
        return torch.cat([spread[None], starts[:, None] + torch.arange(c.frames) * c.stride])

    def describe(self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict:
        """Where the views are cut out: extents `[K + 1, 3, 2]`, the global one first."""
        c, (height, width) = self.config, picture
        shape = {"height": height, "width": width, "mirror": c.mirror, "generator": generator}
        view = motionops.sample_extents(1, frames=1, frame_count=1, area=c.global_crop_area, **shape)
        view[0, 0] = torch.tensor([0.0, self.total])
        local = local_extents(view[0], numbers[1:, 0], frames=c.frames, stride=c.stride, area=c.crop_area, **shape)
        return {"extents": torch.cat([view, local])}


def check(config: ControllableConfig) -> None:
    """UserError for flags that contradict each other or are out of range."""
    if not {"rc", "nce"} & set(config.losses):
        raise UserError("--losses: name rc or nce; mi and td alone hold no video apart from another")
    if len(set(config.losses)) < len(config.losses):
        raise UserError(f"--losses: each loss once, got {' '.join(config.losses)}")
    lowest = {"clips": 1, "dim": 1, "hidden": 1, "marginals": 1, "shuffles": 1, "drawn_levels": 1, "global_cells": 1}
    for name, least in {**lowest, "colour_levels": 1, "hue_levels": 1, "blur_levels": 1}.items():
        if getattr(config, name) < least:
            raise UserError(f"{flag(name)}: must be at least {least}, got {getattr(config, name)}")
    for name in ("temperature", "order_temperature"):
        if not 0 < getattr(config, name) < math.inf:
            raise UserError(f"{flag(name)}: must be positive, got {getattr(config, name)}")
    for name in ("weight_rc", "weight_mi", "weight_td", "weight_nce"):
        if not 0 <= getattr(config, name) < math.inf:
            raise UserError(f"{flag(name)}: must not be negative, got {getattr(config, name)}")
    if not 0 <= config.mirror <= 1:
        raise UserError(f"--mirror: must be in [0, 1], got {config.mirror}")
    if not 0 <= config.decay < 1:
        raise UserError(f"--decay: must be in [0, 1), got {config.decay}")
    small, large = config.global_crop_area
    if not 0 < small <= large <= 1:
        raise UserError(f"--global-crop-area: must be two rising shares in (0, 1], got {small} {large}")
    try:
        levels = config.levels()
    except ValueError as error:
        raise UserError(f"--jitter, --blur-sigma: {str(error).partition(': ')[2]}") from error
    if config.drawn_levels > levels.count:
        raise UserError(f"--drawn-levels: {config.drawn_levels} are more than the {levels.count} intensity levels")
    if config.clips > config.frames:
        raise UserError(
            f"--clips: the global clip has {config.frames} frames, too few for {config.clips} segments with a local "
            f"clip each; --frames {config.clips}"
        )
    if "td" in config.losses:
        if config.clips == 1:
            raise UserError("--losses td: one local clip has no order; --clips 2 or more, or leave td out")
        if config.order_head == "vcop" and config.clips > 5:
            raise UserError(
                f"--order-head vcop: has a class for each order of 2 to 5 clips, got --clips {config.clips}"
            )
    cells = map_shape(config)[0]
    with torch.device("meta"):
        halvings = len(temporal_halvings(build_backbone(config.backbone)))
    possible = [cells * 2**i for i in range(halvings + 1)]
    if config.uses_global() and config.global_cells not in possible:
        raise UserError(
            f"--global-cells: {config.backbone} makes {' or '.join(map(str, possible))} temporal cells of "
            f"--frames {config.frames}, not {config.global_cells}"
        )


def main(config: ControllableConfig) -> int:
    check_numbers(config)
    check(config)
    return train(config, Controllable, ControllableVideos)


if __name__ == "__main__":
    sys.exit(run(main, ControllableConfig, PRESETS))
