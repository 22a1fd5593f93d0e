"""FIMA, fine-grained motion alignment (Zhu et al., ACM MM 2023): python trainers/fima.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

# Before torch loads OpenMP. Its threads otherwise spin while they wait, which on cores that are shared, be it only with
# the processes that decode, made a step of the demo five to ten times slower (2 cores, load 7).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/fima.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.errors import UserError
from motionops.evaluation.pictures import activation_overlay, foreground_overlay
from motionops.learning import FeatureQueue, MomentumEncoder, MotionDecoder, foreground_mask
from motionops.learning.config import TrainConfig
from motionops.learning.data import TrainingVideos, random_windows
from motionops.learning.distributed import gather_others
from motionops.learning.foreground import above_quantile, activation_map
from motionops.learning.losses import margin_loss, pixel_contrast_per_video, rank_weight, squared_distance
from motionops.learning.module import SelfSupervisedModule
from motionops.learning.momentum import Shuffle, draw_shuffle, forward_each, forward_together
from motionops.learning.training import check_numbers, flag, map_shape, train
from motionops.models import ProjectionHead, build_backbone
from motionops.video import VideoDataset

VIEWS = 2


@dataclass
class FIMAConfig(TrainConfig):
    """Learn video features from unlabelled videos with FIMA (motion from frame differences, aligned pixel by pixel)."""

    output: Path = Path("runs/fima")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""

    losses: tuple[Literal["vv", "pix", "fra", "vd"], ...] = ("vv", "pix", "fra")
    """vv: clip and clip (Eq. 1); pix: motion of pixels (Eq. 8); fra: motion of frames (Eq. 10); vd: clip and motion."""
    weight_vv: float = 0.2
    """Weight of vv."""
    weight_pix: float = 1.0
    """Weight of pix."""
    weight_fra: float = 1.0
    """Weight of fra."""
    weight_vd: float = 1.0
    """Weight of vd."""
    temperature: float = 0.1
    """Temperature of all losses."""

    momentum: float = 0.99
    """Momentum of the key encoder."""
    dim: int = 128
    """Size of the embeddings."""
    hidden: int = 256
    """Hidden channels of the projection head."""
    queue: int = 512
    """Negatives in each queue of vv, fra and vd."""
    enqueue: Literal["after", "between"] = "after"
    """When keys of vv enter the queue: after both directions, or between them (as released)."""
    group: int = 0
    """Samples that share BatchNorm statistics (clips a GPU in the paper: 8); 0: all of a process."""

    radius: float = 0.7
    """Positives of pix lie nearer than this, in diagonals of a cell."""
    pixel_negatives: Literal["video", "batch"] = "batch"
    """Whether pixels of the other videos of the batch are negatives of pix."""
    pixel_queue: int = 0
    """Motion pixels of earlier batches that are negatives of pix as well; 0: none."""
    columns: Literal["local", "ranks"] = "local"
    """Whether the batch, as negatives of pix and fra, is that of one process or that of all."""
    frame_loss: Literal["infonce", "triplet", "mse"] = "infonce"
    """Form of fra."""

    motion_decoder: Literal["shared", "different", "none"] = "shared"
    """One motion decoder for pix and fra, one for each, or none (pix then compares the RGB pixels themselves)."""
    decoder_depth: int = 2
    """Layers of the decoder."""
    decoder_width: int = 128
    """Size of its tokens."""
    decoder_heads: int = 4
    """Its attention heads."""
    decoder_feedforward: int = 128
    """Hidden size of its feed-forward parts."""
    decoder_dropout: float = 0.1
    """Its dropout."""

    foreground_ratio: float = 0.5
    """Quantile beta that a foreground cell's activation must exceed."""
    mask_source: Literal["rgb", "difference", "both"] = "both"
    """Activation maps that say what is foreground."""
    mask_position: Literal["none", "prediction", "target", "both"] = "both"
    """Sides of pix on which the background is left out."""

    grayscale: float = 0.2
    """Probability of a grey clip."""
    jitter: float = 0.2
    """Probability of colour jitter."""
    blur: float = 0.2
    """Probability of a blurred clip."""


UCF101 = FIMAConfig(
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
    decoder_width=512,
    decoder_feedforward=512,
)
PRESETS = {
    "demo": FIMAConfig(),
    "ucf101": UCF101,
    "ucf101-released": replace(UCF101, preset="ucf101-released", jitter=0.8, blur=0.5, queue=2240, enqueue="between"),
    "kinetics400": replace(
        UCF101, preset="kinetics400", epochs=100, batch_size=64, learning_rate=0.01, queue=65536, pixel_queue=31360
    ),
}


class Clips(NamedTuple):
    """The clips of a step: for each view the RGB clip, its frame difference, and the differences of its parts."""

    rgb: list[Tensor]
    difference: list[Tensor]
    parts: list[list[Tensor]]

    def kinds(self) -> list[list[Tensor]]:
        """All of them, in the order in which the momentum encoder sees them."""
        return [self.rgb, self.difference, *self.parts]


class FIMA(SelfSupervisedModule):
    """The networks, queues and losses of FIMA. `v` is a view of a video, `o` the other one."""

    def __init__(self, config: FIMAConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        self.head = ProjectionHead(self.backbone.channels, config.hidden, config.dim)
        self.key_backbone = MomentumEncoder(self.backbone, config.momentum)
        self.key_head = MomentumEncoder(self.head, config.momentum)
        self.decoder = self.frame_decoder = None
        decoded = {"pix", "fra"} & set(config.losses) if config.motion_decoder != "none" else set()
        if config.motion_decoder == "different" and len(decoded) == 2:
            self.decoder, self.frame_decoder = self.make_decoder(False), self.make_decoder(True)
        elif decoded:
            self.decoder = self.make_decoder("fra" in decoded)
        self.queues = nn.ModuleDict(
            {name: FeatureQueue(config.queue, config.dim) for name in ("vv", "vd", "fra") if name in config.losses}
        )
        if config.pixel_queue and "pix" in config.losses:
            self.queues["pix"] = FeatureQueue(config.pixel_queue, config.dim)

    def make_decoder(self, class_token: bool) -> MotionDecoder:
        c = self.config
        _, height, width = map_shape(c)
        return MotionDecoder(
            self.backbone.channels,
            c.decoder_width,
            c.decoder_depth,
            c.decoder_heads,
            c.decoder_feedforward,
            c.decoder_dropout,
            positions=height * width,
            class_token=class_token,
        )

    def clips(self, batch: dict) -> Clips:
        """Cut the views out of the batch's frames, and change how they look; differences are taken in between."""
        c, frames = self.config, batch["frames"]
        clips = Clips([], [], [])

        def cut(view: int, part: slice, extent: int, look: int, difference: bool) -> Tensor:
            chosen = frames[:, view, part] if isinstance(frames, Tensor) else [video[view, part] for video in frames]
            appearance = motionops.Appearance(*(field[:, look] for field in batch["appearance"]))
            where = batch["extents"][:, extent]
            return motionops.augment_clips(
                chosen, where, c.size, appearance, mean=c.mean, std=c.std, difference=difference
            )

        for v in range(VIEWS):
            strided = slice(None, None, c.stride)
            clips.rgb.append(cut(v, strided, v, v, difference=False))
            if {"pix", "vd"} & set(c.losses):
                clips.difference.append(cut(v, strided, v, VIEWS + v, difference=True))
            if "fra" in c.losses:
                first = VIEWS + v * c.stride
                clips.parts.append(
                    [
                        cut(v, slice(i * c.frames, (i + 1) * c.frames), first + i, VIEWS + first + i, difference=True)
                        for i in range(c.stride)
                    ]
                )
        return clips

    def training_step(self, batch: dict, batch_idx: int) -> dict[str, Tensor]:
        c = self.config
        if self.starts_step:
            self.key_backbone.update(self.backbone)
            self.key_head.update(self.head)

        with torch.autocast(self.device.type, enabled=False):  # pixels stay float32 under --precision bf16-mixed
            clips = self.clips(batch)
        losses, shown = self.losses(clips, self.shuffles(clips), batch["extents"][:, :VIEWS])
        total = sum(getattr(c, f"weight_{name}") * loss for name, loss in losses.items())
        return {"loss": total, **{f"loss_{name}": loss.detach() for name, loss in losses.items()}, **shown}

    def shuffles(self, clips: Clips) -> list[Shuffle | None]:
        """Draw the shuffled BatchNorm of the momentum encoder; each clip is shuffled on its own."""
        return [
            draw_shuffle(len(clip), self.shared_generator(kind, i), self.config.group, clip.device)
            for kind, same in enumerate(clips.kinds())
            for i, clip in enumerate(same)
        ]

    def losses(self, clips: Clips, shuffles: list[Shuffle | None], extents: Tensor) -> tuple[dict, dict]:
        """From the clips, cut out at `extents [B, views, 3, 2]`, to the losses by their names, and the accuracy."""
        c = self.config
        maps = forward_together(self.backbone, clips.rgb, c.group)  # F^q, both views
        every_clip = [clip for same in clips.kinds() for clip in same]
        every_map = iter(forward_each(self.key_backbone, every_clip, shuffles, c.group))
        key_maps, motion_maps, *part_maps = [[next(every_map) for _ in same] for same in clips.kinds()]  # M^k

        losses, ranks = {}, {}
        if {"vv", "vd"} & set(c.losses):
            queries = embedded(self.head, maps)
        if "vv" in c.losses:
            losses["vv"], ranks["vv"] = self.clip_loss("vv", queries, embedded(self.key_head, key_maps))
        if "vd" in c.losses:
            losses["vd"], ranks["vd"] = self.clip_loss("vd", queries, embedded(self.key_head, motion_maps))
        if {"pix", "fra"} & set(c.losses):
            pixels, frames = self.predict(maps)
        if "pix" in c.losses:
            motion = list(self.key_head(torch.cat(motion_maps).permute(0, 2, 3, 4, 1)).chunk(VIEWS))
            masks = [self.foreground(*both) for both in zip(key_maps, motion_maps, strict=True)]
            losses["pix"] = self.pixel_loss(pixels, motion, extents, masks)
        if "fra" in c.losses:
            parts = embedded(self.key_head, [m for view in part_maps for m in view])
            losses["fra"], ranks["fra"] = self.frame_loss(frames, [parts[: c.stride], parts[c.stride :]])
        return losses, {"accuracy": (next(iter(ranks.values())) == 0).float().mean()} if ranks else {}

    def clip_loss(self, name: str, queries: list[Tensor], keys: list[Tensor]) -> tuple[Tensor, Tensor]:
        """L_VV or L_VD, both directions: view v against the other view's key (Eqs. 1 and 2)."""
        queue = self.queues[name]
        tau = self.config.temperature
        if self.config.enqueue == "between":
            both = []
            for query, key in zip(queries, reversed(keys), strict=True):
                both.append(motionops.queue_infonce(query, key, queue.features.clone(), temperature=tau))
                queue.enqueue(key)
            return (both[0].loss + both[1].loss) / 2, torch.cat([both[0].rank, both[1].rank])
        # Both directions as the rows of one call: the queue is read once.
        key = torch.cat(keys[::-1])
        loss, rank = motionops.queue_infonce(torch.cat(queries), key, queue.features, temperature=tau)
        self.enqueue_after_step(queue, key)
        return loss, rank

    def predict(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        """The motion of the other view, from each view: pixels [B, T, H, W, D], frames [B, T, D] (Eqs. 7 and 9)."""
        sources, targets = torch.cat(maps), torch.cat(maps[::-1])
        pixels, frames = sources, None
        if self.decoder is not None:
            pixels, frames = self.decoder(sources, targets)
        if self.frame_decoder is not None:
            _, frames = self.frame_decoder(sources, targets)
        pixels = list(self.head(pixels.permute(0, 2, 3, 4, 1)).chunk(VIEWS)) if "pix" in self.config.losses else []
        return pixels, None if frames is None else list(self.head(frames.transpose(1, 2)).chunk(VIEWS))

    def foreground(self, key_map: Tensor, motion_map: Tensor) -> Tensor:
        """Cells [B, H, W] of a view that are foreground (Eq. 6), from the maps that --mask-source names."""
        if self.config.mask_source == "both":
            return foreground_mask(key_map, motion_map, self.config.foreground_ratio)
        activation = activation_map(key_map if self.config.mask_source == "rgb" else motion_map)
        return above_quantile(activation, self.config.foreground_ratio)

    def pixel_loss(self, pixels: list[Tensor], motion: list[Tensor], extents: Tensor, masks: list[Tensor]) -> Tensor:
        """L_Pix (Eq. 8): the prediction at a foreground pixel of v against the motion near it in the other view o."""
        c = self.config
        queue = self.queues["pix"].features if "pix" in self.queues else None
        contrast = motionops.pixel_contrast if c.pixel_negatives == "batch" else pixel_contrast_per_video
        losses = []
        for v, o in ((0, 1), (1, 0)):
            where = extents[:, v], extents[:, o]
            sides = {
                "query_mask": masks[v] if c.mask_position in ("prediction", "both") else None,
                "key_mask": masks[o] if c.mask_position in ("target", "both") else None,
            }
            negatives, weight = queue, 1.0
            if c.columns == "ranks":
                others = gather_others(motion[o]).flatten(0, 3)
                negatives = others if queue is None else torch.cat([others, queue])
                weight = rank_weight(*where, *motion[o].shape[2:4], c.radius, **sides)
            loss = contrast(
                pixels[v],
                motion[o],
                *where,
                radius=c.radius,
                temperature=c.temperature,
                negatives=negatives,
                **sides,
            )
            losses.append(weight * loss)
        if "pix" in self.queues:
            self.enqueue_after_step(self.queues["pix"], torch.cat([m.flatten(0, 3) for m in motion[::-1]]))
        return torch.stack(losses).mean()

    def frame_loss(self, frames: list[Tensor], parts: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """L_Fra (Eq. 10): the prediction of frame i of the other view o against o's local motion i.

        Negatives: o's other parts and all parts of v, of all videos of the batch, and the queue.
        """
        c, queue = self.config, self.queues["fra"]
        losses, ranks = [], []
        for v, o in ((0, 1), (1, 0)):
            for i, key in enumerate(parts[o]):
                negatives = torch.cat([*(part for j, part in enumerate(parts[o]) if j != i), *parts[v]])
                if c.columns == "ranks":
                    negatives = torch.cat([negatives, gather_others(negatives)])
                loss, rank = motionops.queue_infonce(
                    frames[v][:, i],
                    key,
                    queue.features,
                    temperature=c.temperature,
                    extra_negatives=negatives,
                )
                if c.frame_loss == "triplet":
                    loss = margin_loss(frames[v][:, i], key, torch.cat([negatives, queue.features]))
                elif c.frame_loss == "mse":
                    loss = squared_distance(frames[v][:, i], key)
                losses.append(loss)
                ranks.append(rank)
        self.enqueue_after_step(queue, torch.cat([part for view in reversed(parts) for part in view]))
        return torch.stack(losses).mean(), torch.cat(ranks)

    def report(self, folder: Path, batch: dict) -> None:
        """foreground.png: the foreground of the first views (Fig. 8); attention.png: where the decoder looks."""
        c = self.config
        views = self.plain_views(batch)
        clips = [self.normalised(view) for view in views]
        motion = [self.normalised(motionops.frame_difference(view)) for view in views]
        maps = [self.backbone(clip) for clip in clips]
        mask = self.foreground(self.key_backbone(clips[0]), self.key_backbone(motion[0]))
        pictures = [(255 * view).round().to(torch.uint8).permute(0, 2, 3, 4, 1) for view in views]
        middle = c.frames // 2
        foreground_overlay(pictures[0][:, middle], mask, folder / "foreground.png")
        if self.decoder is None:
            return
        *_, attention = self.decoder(maps[0], maps[1], return_attention=True)  # [B, T, N, M]
        height, width = maps[0].shape[3:]
        # The cell of view 0 that is asked for: the one with the highest activation.
        cell = activation_map(maps[0]).flatten(1).argmax(dim=1) + (self.decoder.cls_token is not None)
        weights = attention[torch.arange(len(cell)), :, cell].unflatten(2, (height, width))
        weights = weights / weights.amax(dim=(2, 3), keepdim=True)
        shown = torch.linspace(0, c.frames - 1, min(c.frames, 4)).long()
        activation_overlay(pictures[1][:, shown], weights, folder / "attention.png")

    def plain_views(self, batch: dict) -> list[Tensor]:
        """The RGB clips of both views as they were cut, values in 0..1, `[B, 3, T, S, S]`."""
        frames, c = batch["frames"], self.config
        views = []
        for v in range(VIEWS):
            chosen = frames[:, v, :: c.stride] if isinstance(frames, Tensor) else [f[v, :: c.stride] for f in frames]
            views.append(motionops.augment_clips(chosen, batch["extents"][:, v], c.size, mean=0.0, std=1.0))
        return views

    def normalised(self, clip: Tensor) -> Tensor:
        """Values in 0..1 as the networks take them."""
        mean, std = (clip.new_tensor(values).view(3, 1, 1, 1) for values in (self.config.mean, self.config.std))
        return (clip - mean) / std


def pooled(features: Tensor) -> Tensor:
    """Mean over time and space, `[B, C, T, H, W] -> [B, C]`."""
    return features.float().mean(dim=(2, 3, 4))


def embedded(head: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    """Embeddings `[B, D]` of whole maps; a head has no BatchNorm, so that one call serves them all."""
    return list(head(torch.cat([pooled(features) for features in maps])).chunk(len(maps)))


class DrawViews:
    """What is drawn for a sample beside its windows: where its clips are cut out, and how they look.

    In this order: extents of the two RGB clips, then of the parts of view 0 and of view 1; appearances of the two RGB
    clips, of their two differences, then of the parts. A difference is cut where its RGB clip is.
    """

    def __init__(self, config: FIMAConfig) -> None:
        self.config = config

    def __call__(self, frames: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict:
        c, (height, width) = self.config, picture
        starts = frames[:, 0]
        parts = (starts[:, None] + c.frames * torch.arange(c.stride)).flatten()
        extents = [
            motionops.sample_extents(
                len(begin),
                frames=c.frames,
                stride=stride,
                frame_count=int(frames.max()) + 1,
                starts=begin,
                height=height,
                width=width,
                area=c.crop_area,
                generator=generator,
            )
            for begin, stride in ((starts, c.stride), (parts, 1))
        ]
        appearance = motionops.Appearance.sample(
            2 * VIEWS + len(parts),
            jitter_probability=c.jitter,
            grayscale_probability=c.grayscale,
            blur_probability=c.blur,
            generator=generator,
        )
        return {"extents": torch.cat(extents), "appearance": appearance}


def make_dataset(config: FIMAConfig, videos: TrainingVideos) -> VideoDataset:
    """Two windows of frames * stride source frames of each video, at random starts."""
    return VideoDataset(
        videos.usable,
        random_windows(VIEWS, config.window()),
        seed=config.seed,
        draw=DrawViews(config),
        cache_bytes=int(config.cache_gib * 2**30),
    )


def check(config: FIMAConfig) -> None:
    """UserError for flags that contradict each other or are out of range."""
    if not config.losses:
        raise UserError("--losses: name at least one of vv, pix, fra, vd")
    if len(set(config.losses)) < len(config.losses):
        raise UserError(f"--losses: each loss once, got {' '.join(config.losses)}")
    if {"vv", "vd", "fra"} & set(config.losses) and config.queue < config.batch_size:
        raise UserError(f"--queue: {config.queue} negatives are fewer than the --batch-size of {config.batch_size}")
    for name in ("temperature", "radius"):
        if not 0 < getattr(config, name) < float("inf"):
            raise UserError(f"--{name}: must be positive, got {getattr(config, name)}")
    for name in ("momentum", "foreground_ratio", "grayscale", "jitter", "blur"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{flag(name)}: must be in [0, 1], got {getattr(config, name)}")
    for name in ("weight_vv", "weight_pix", "weight_fra", "weight_vd"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{flag(name)}: must not be negative, got {getattr(config, name)}")
    for name, least in {"dim": 1, "hidden": 1, "group": 0, "pixel_queue": 0, "decoder_depth": 1}.items():
        if getattr(config, name) < least:
            raise UserError(f"{flag(name)}: must be at least {least}, got {getattr(config, name)}")
    if config.group == 1:
        raise UserError("--group: one sample has no BatchNorm statistics; 0 or at least 2")
    width, heads = config.decoder_width, config.decoder_heads
    if heads < 1 or width < 2 or width % 2 or width % heads:
        raise UserError(f"--decoder-width: must be even and a multiple of --decoder-heads {heads}, got {width}")
    if config.decoder_feedforward < 1 or not 0 <= config.decoder_dropout < 1:
        raise UserError("--decoder-feedforward must be at least 1, and --decoder-dropout in [0, 1)")
    if "fra" in config.losses:
        if config.motion_decoder == "none":
            raise UserError(
                "--losses fra: the frame-level loss is made of the decoder's [cls]; --motion-decoder none has none"
            )
        frames = map_shape(config)[0]
        if frames != config.stride:
            raise UserError(
                f"--losses fra: the feature map has {frames} frames for the {config.stride} parts of a window; "
                f"--stride {frames} makes them equal"
            )
    if "pix" in config.losses and 0 < config.pixel_queue < config.batch_size:
        raise UserError(f"--pixel-queue: {config.pixel_queue} is less than the --batch-size {config.batch_size}")


def main(config: FIMAConfig) -> int:
    check_numbers(config)
    check(config)
    return train(config, FIMA, make_dataset)


if __name__ == "__main__":
    sys.exit(run(main, FIMAConfig, PRESETS))
