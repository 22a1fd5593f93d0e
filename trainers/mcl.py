"""MCL, motion-focused contrastive learning (Li et al., ICCV 2021): python trainers/mcl.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, existing_file, lacking, run

if lacking("trainers/mcl.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.errors import UserError
from motionops.evaluation.pictures import activation_overlay, motion_panels, scaled_activation
from motionops.learning import FeatureQueue, MomentumEncoder, motion_alignment
from motionops.learning.clip_flow import clip_flow
from motionops.learning.config import TrainConfig
from motionops.learning.data import TrainingVideos, random_windows
from motionops.learning.module import SelfSupervisedModule
from motionops.learning.momentum import Shuffle, draw_shuffle, forward_each, forward_in_groups
from motionops.learning.motion_alignment import aligned_map
from motionops.learning.prepared_motion import find_or_prepare
from motionops.learning.recording import recorded
from motionops.learning.seco import OrderLoss, intra_loss
from motionops.learning.training import check_numbers, flag, map_shape, train
from motionops.learning.tubelet_motion import tubelet_motion
from motionops.models import ProjectionHead, build_backbone, load_image_weights
from motionops.video import MotionFile, VideoDataset
from motionops.views import motion_starts

QUERY = 0  # the view that is aligned with motion; the others are keys


@dataclass
class MCLConfig(TrainConfig):
    """Learn video features from unlabelled videos with MCL (views where motion is, gradients aligned with motion)."""

    output: Path = Path("runs/mcl")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    init: Path | None = None
    """Weights to start from: of a network over images (MoCo's ResNet-50, GoogLeNet) or of the backbone itself."""

    motion: bool = True
    """--no-motion looks at motion nowhere: no temporal sampling, no spatial crop, no alignment. The baseline."""
    motion_source: Literal["prepared", "on-the-fly"] = "prepared"
    """Motion maps of whole videos, computed once (TV-L1), or of each clip's frames in every step. Temporal sampling
    needs whole videos; on the fly, clips start anywhere."""
    motion_file: Path | None = None
    """File of "python -m motionops.video.prepare motion". Without it one is made in the cache folder, once."""

    temporal_sampling: bool = True
    """Clips with more motion than the video's median (Section 3.2)."""
    temporal_probability: float = 1.0
    """With which a video's clips are sampled so; else they start anywhere."""
    spatial_crop: bool = True
    """Crops that cover what moves (Section 3.2)."""
    crop_form: Literal["paper", "released"] = "paper"
    """How such a crop is found: as the paper has it, or its released code."""
    crop_probability: float = 1.0
    """With which a view is cropped so; else anywhere."""
    crop_threshold: float = 0.9
    """Quantile of the clip's S-motion above which a place moves."""
    crop_coverage: float = 0.8
    """Share of what moves that a crop covers."""

    weight_nce: float = 1.0
    """Weight of instance discrimination (Eq. 3)."""
    weight_alignment: float = 1.0
    """Weight of the motion alignment loss (Eq. 7); 0: none."""
    alignment: tuple[Literal["st", "s", "t"], ...] = ("st", "s", "t")
    """Its parts: in space and time, in space, in time."""
    alignment_variant: Literal["v1", "v2", "v3"] = "v3"
    """What is aligned: feature map (Eq. 4), weighted feature map (Eq. 5), weighted gradient map (Eq. 6)."""
    alignment_form: Literal["paper", "released"] = "paper"
    """Form of the alignment loss."""
    alignment_boost: float = 1.0
    """Factor of weight_alignment in the first epochs."""
    alignment_boost_epochs: int = 0
    """How many epochs that are."""
    seco: tuple[Literal["intra", "order"], ...] = ()
    """Losses of SeCo that the released code adds: the clip against others of its video, and their order, whose weight
    rises from 0 to 1. With them a query has three positive keys: its own clip and two others."""

    temperature: float = 0.1
    """Temperature of instance discrimination."""
    momentum: float = 0.99
    """Momentum of the key encoder."""
    dim: int = 128
    """Size of the embeddings."""
    hidden: int = 256
    """Hidden channels of the projection head."""
    queue: int = 512
    """Negatives in the queue."""
    group: int = 0
    """Samples that share BatchNorm statistics; 0: all of a process."""

    grayscale: float = 0.2
    """Probability of a grey clip."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    blur: float = 0.5
    """Probability of a blurred clip."""

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


UCF101 = MCLConfig(
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
    evaluation_crop=0.875,
    workers=8,
    momentum=0.999,
    hidden=2048,
    queue=131072,
    group=8,
)
PRESETS = {
    "demo": MCLConfig(epochs=20, weight_nce=0.2, alignment_variant="v1"),
    "ucf101": UCF101,
    "ucf101-released": replace(
        UCF101,
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
    "kinetics400": replace(UCF101, preset="kinetics400", epochs=400),
}


class MCL(SelfSupervisedModule):
    """The networks, the queue and the losses of MCL."""

    def __init__(self, config: MCLConfig) -> None:
        super().__init__(config)
        self.clips_per_step = len(config.views()) * config.batch_size
        self.backbone = build_backbone(config.backbone)
        if config.init is not None:
            load_image_weights(self.backbone, config.init)
        # SeCo's losses have heads of their own.
        heads = {name: ProjectionHead(self.backbone.channels, config.hidden, config.dim) for name in config.seco}
        self.heads = nn.ModuleDict(
            {"inter": ProjectionHead(self.backbone.channels, config.hidden, config.dim), **heads}
        )
        self.key_backbone = MomentumEncoder(self.backbone, config.momentum)
        self.key_heads = nn.ModuleDict(
            {name: MomentumEncoder(head, config.momentum) for name, head in self.heads.items()}
        )
        self.order = OrderLoss(config.dim) if "order" in config.seco else None
        self.queue = FeatureQueue(config.queue, config.dim)
        self.grid = map_shape(config) if config.aligns() else None

    def one_graph(self) -> bool:
        """What is aligned is taken out of the network by a hook, and differentiated inside the step."""
        return not self.config.aligns()

    def not_compiled(self) -> set[str]:
        """The aligned gradient is differentiated again, which torch.compile cannot."""
        return {"backbone"} if self.config.aligns() and self.config.alignment_variant != "v1" else set()

    def training_step(self, batch: dict, batch_idx: int) -> dict[str, Tensor]:
        c = self.config
        if self.starts_step:
            self.key_backbone.update(self.backbone)
            for name, head in self.heads.items():
                self.key_heads[name].update(head)

        with torch.autocast(self.device.type, enabled=False):  # pixels stay float32 under --precision bf16-mixed
            extents, motion = self.tubelets(batch)
            query_clip, *key_clips = self.clips(batch, extents)
        shuffles = [
            draw_shuffle(len(clip), self.shared_generator(number), c.group, clip.device)
            for number, clip in enumerate(key_clips)
        ]
        before = batch["starts"][:, 0] <= batch["starts"][:, 1] if "order" in c.seco else None
        losses, accuracy = self.losses(query_clip, key_clips, shuffles, motion, before)

        boost = c.alignment_boost if self.epoch < c.alignment_boost_epochs else 1.0
        weights = {"nce": c.weight_nce, "intra": 1.0, "order": (self.epoch + 1) / c.epochs}
        weights |= dict.fromkeys(c.alignment, boost * c.weight_alignment)
        total = sum(weights[name] * loss for name, loss in losses.items())
        return {"loss": total, **{f"loss_{name}": loss.detach() for name, loss in losses.items()}, "accuracy": accuracy}

    def losses(
        self,
        query_clip: Tensor,
        key_clips: list[Tensor],
        shuffles: list[Shuffle | None],
        motion: Tensor | None,
        before: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """From the clips to the losses by their names, and the accuracy.

        Args:
            motion: of the query's cells, `[B, T', H', W']`, for the alignment.
            before: `[B]` bool, whether the query comes before the other clips of its video, for SeCo's order.
        """
        c = self.config
        with recorded(self.backbone) if c.aligns() else nullcontext() as outputs:
            query = pooled(forward_in_groups(self.backbone, query_clip, c.group))
        # The key heads have no BatchNorm: one call for the keys of all clips, [K B, C].
        keys = torch.cat([pooled(m) for m in forward_each(self.key_backbone, key_clips, shuffles, c.group)])
        q, k = self.heads["inter"](query), self.key_heads["inter"](keys)

        loss, rank = motionops.queue_infonce(  # Eq. 3, for each positive key
            q.repeat(len(key_clips), 1), k, self.queue.features, temperature=c.temperature
        )
        self.enqueue_after_step(self.queue, k)
        losses = {"nce": loss}
        if c.aligns():
            losses |= self.alignment(q, k[: len(q)], outputs, motion)
        losses |= self.seco_losses(query, keys, before)
        return losses, (rank == 0).float().mean()

    def tubelets(self, batch: dict) -> tuple[Tensor, Tensor | None]:
        """Where the views are cut, `[B, V, 3, 2]`, and the motion of the query's cells, `[B, T', H', W']`.

        With prepared motion the reader has seen to both.
        """
        c = self.config
        if not c.on_the_fly():
            return batch["extents"], batch.get("motion")
        extents, cells = [], []
        clips = c.views()
        for motion, starts, seed in zip(self.clip_motion(batch["frames"]), batch["starts"], batch["seed"], strict=True):
            generator = torch.Generator().manual_seed(int(seed))
            own = place_views(c, starts.cpu(), tuple(motion.shape[-2:]), motion.mean(dim=1).cpu(), generator)
            extents.append(own)
            if c.aligns():
                cells.append(tubelet_motion(motion[clips[QUERY], None], own[QUERY, None].to(motion.device), self.grid))
        return torch.stack(extents).to(self.device), torch.cat(cells) if cells else None

    @torch.no_grad()
    def clip_motion(self, frames: Tensor | list[Tensor]) -> list[Tensor]:
        """Motion maps (Eq. 1) of the clips' frames, each frame with the one that follows it: B of `[N, T, H, W]`."""
        if isinstance(frames, list) and len({video.shape for video in frames}) > 1:
            return [self.clip_motion([video])[0] for video in frames]
        windows = frames if isinstance(frames, Tensor) else torch.stack(frames)  # [B, N, frames * stride, H, W, 3]
        stride = self.config.stride
        if stride == 1:
            flow = clip_flow(windows.flatten(0, 1))
        else:
            pairs = torch.stack([windows[:, :, ::stride], windows[:, :, 1::stride]], dim=3)
            flow = clip_flow(pairs.flatten(0, 2))[:, 0].unflatten(0, (-1, self.config.frames))
        return list(motionops.motion_map(flow).unflatten(0, windows.shape[:2]))

    def clips(self, batch: dict, extents: Tensor) -> list[Tensor]:
        """Cut the views out of the batch's frames, and change how they look."""
        c, clips = self.config, []
        for view, frames in enumerate(self.view_frames(batch["frames"])):
            appearance = motionops.Appearance(*(field[:, view] for field in batch["appearance"]))
            clips.append(motionops.augment_clips(frames, extents[:, view], c.size, appearance, mean=c.mean, std=c.std))
        return clips

    def view_frames(self, frames: Tensor | list[Tensor]) -> list[Tensor | list[Tensor]]:
        """The frames of each view: uint8 `[B, T, H, W, 3]`, or a list where videos differ in size."""
        step = self.config.stride if self.config.on_the_fly() else 1
        if isinstance(frames, Tensor):
            return [frames[:, clip, ::step] for clip in self.config.views()]
        return [[video[clip, ::step] for video in frames] for clip in self.config.views()]

    def alignment(self, query: Tensor, key: Tensor, outputs: list[Tensor], motion: Tensor) -> dict[str, Tensor]:
        """The parts of the motion alignment loss (Eqs. 4 to 7), of h and of its gradient under q . k+."""
        c, gradient = self.config, None
        if c.alignment_variant != "v1":
            gradient = torch.cat(torch.autograd.grad((query * key).sum(), outputs, create_graph=True))
        parts = motion_alignment(
            gradient, motion, features=torch.cat(outputs), variant=c.alignment_variant, form=c.alignment_form
        )
        return {part: getattr(parts, part) for part in c.alignment}

    def seco_losses(self, query: Tensor, keys: Tensor, before: Tensor | None) -> dict[str, Tensor]:
        """What the released code adds of SeCo, from features of the query `[B, C]` and of its keys, `[3 B, C]`."""
        c, losses = self.config, {}
        if "intra" in c.seco:
            same, *others = self.key_heads["intra"](keys).chunk(3)
            own = self.heads["intra"](query)
            losses["intra"] = intra_loss(own, same, torch.stack(others, dim=1), temperature=c.temperature)
        if "order" in c.seco:
            others = self.key_heads["order"](keys[len(query) :]).chunk(2)
            losses["order"] = self.order(self.heads["order"](query), torch.stack(others, dim=1), before)
        return losses

    def report(self, folder: Path, batch: dict) -> None:
        """motion.png: what moves, and the query's box; aligned.png: the query's motion, and what is aligned with it."""
        c = self.config
        extents, motion = self.tubelets(batch)
        query, key = self.view_frames(batch["frames"])[:2]
        middle = (c.frames - 1) // 2
        pairs = [video[middle : middle + 2].cpu() for video in query]  # with the clip's next frame
        flow = [clip_flow(pair[None])[0] for pair in pairs]
        maps = [motionops.motion_map(field[None])[0, 0] for field in flow]
        boxes = extents[:, QUERY, 1:].cpu()
        motion_panels([pair[0] for pair in pairs], [field[0] for field in flow], maps, boxes, folder / "motion.png")
        if not c.aligns():
            return
        clips = [
            motionops.augment_clips(frames, extents[:, view], c.size, mean=0.0, std=1.0)
            for view, frames in enumerate((query, key))
        ]
        mean, std = (clips[0].new_tensor(values).view(3, 1, 1, 1) for values in (c.mean, c.std))
        with torch.enable_grad(), recorded(self.backbone) as outputs:
            q, k = (self.heads["inter"](pooled(self.backbone((clip - mean) / std))) for clip in clips)
            (gradient,) = torch.autograd.grad((q * k.detach()).sum(), outputs[:1])
        aligned = aligned_map(gradient, outputs[0].detach(), c.alignment_variant, c.alignment_form)
        # The clip's frames twice: under the motion of their cells, and under what is aligned with it.
        shown = torch.linspace(0, c.frames - 1, min(c.frames, 4)).long()
        pictures = (255 * clips[0][:, :, shown]).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
        both = torch.stack([motion.float(), aligned.float()], dim=1).flatten(0, 1)
        titles = ["motion", "aligned map"] * len(pictures)
        pictures = pictures.repeat_interleave(2, dim=0)
        activation_overlay(pictures, scaled_activation(both[:, None]), folder / "aligned.png", titles)


def pooled(features: Tensor) -> Tensor:
    """Mean over time and space, `[B, C, T, H, W] -> [B, C]`."""
    return features.float().mean(dim=(2, 3, 4))


def place_views(
    config: MCLConfig, starts: Tensor, picture: tuple[int, int], motion: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Where a video's views are cut: extents `[V, 3, 2]`; `starts [N]` and S-motion `[N, h, w]` are of its clips."""
    of_view = config.views()
    options = {"frames": config.frames, "stride": config.stride, "height": picture[0], "width": picture[1]}
    options |= {"area": config.crop_area, "generator": generator}
    if motion is None or not config.crops():
        count = int(starts.max()) + config.window()
        return motionops.sample_extents(len(of_view), frame_count=count, starts=starts[of_view], **options)
    return motionops.motion_extents(
        motion[of_view],
        starts=starts[of_view],
        threshold=config.crop_threshold,
        coverage=config.crop_coverage,
        form=config.crop_form,
        probability=config.crop_probability,
        **options,
    )


class MCLVideos(VideoDataset):
    """Clips of videos where they move (Section 3.2), with what the step needs to know of them.

    Beside frames: `appearance`; `extents [V, 3, 2]` and, for the alignment, `motion [T', H', W']` of the query's cells;
    or, where motion is computed in the step, the `seed` with which it places the views.
    """

    def __init__(self, config: MCLConfig, videos: TrainingVideos, motion: MotionFile | None) -> None:
        super().__init__(videos.usable, None, config.seed, cache_bytes=int(config.cache_gib * 2**30))
        self.config, self.motion = config, motion
        self.grid = map_shape(config) if config.aligns() else None

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        c, count = self.config, max(self.config.views()) + 1
        sampled = float(torch.rand((), generator=generator)) < c.temporal_probability
        if self.motion is not None and c.temporal_sampling and sampled:
            frame_motion = self.frame_motion(index, torch.arange(frame_count)).mean(dim=(1, 2))
            starts = motion_starts(frame_motion, span=c.window(), count=count, generator=generator)
        else:
            starts = random_windows(count, c.window())(frame_count, generator)[:, 0]
        if c.seco:  # the query comes before the two others, or after them
            starts = starts.sort().values
            starts = starts.roll(int(torch.randint(2, (), generator=generator)))
        step = 1 if c.on_the_fly() else c.stride
        return starts[:, None] + torch.arange(0, c.window(), step)

    def describe(self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict:
        c = self.config
        item = {
            "appearance": motionops.Appearance.sample(
                len(c.views()),
                jitter_probability=c.jitter,
                grayscale_probability=c.grayscale,
                blur_probability=c.blur,
                generator=generator,
            )
        }
        if c.on_the_fly():
            return {**item, "seed": int(torch.randint(2**62, (), generator=generator))}
        motion = None if self.motion is None else self.frame_motion(index, numbers)  # [N, T, h, w]
        s_motion = None if motion is None else motion.mean(dim=1)
        item["extents"] = place_views(c, numbers[:, 0], picture, s_motion, generator)
        if c.aligns():
            item["motion"] = tubelet_motion(motion[c.views()[QUERY], None], item["extents"][QUERY, None], self.grid)[0]
        return item

    def frame_motion(self, index: int, frames: Tensor) -> Tensor:
        """Prepared motion maps of frames, `[*frames, h, w]`."""
        motion = self.motion.read(self.path(index))
        return motion[frames.clamp(max=len(motion) - 1)]


def make_dataset(config: MCLConfig, videos: TrainingVideos) -> VideoDataset:
    """The videos with their motion, which is computed first where it is not there yet."""
    motion = find_or_prepare(config.motion_file, videos.usable) if config.prepared() else None
    return MCLVideos(config, videos, motion)


def check(config: MCLConfig) -> None:
    """UserError for flags that contradict each other or are out of range."""
    if config.init is not None:
        existing_file(config.init, "--init")
    keys = (len(config.views()) - 1) * config.batch_size
    if config.queue < keys:
        raise UserError(f"--queue: {config.queue} negatives are fewer than the {keys} keys of a step")
    if not 0 < config.temperature < float("inf"):
        raise UserError(f"--temperature: must be positive, got {config.temperature}")
    for name in (
        "momentum",
        "temporal_probability",
        "crop_probability",
        "crop_coverage",
        "grayscale",
        "jitter",
        "blur",
    ):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{flag(name)}: must be in [0, 1], got {getattr(config, name)}")
    if not 0 <= config.crop_threshold < 1:
        raise UserError(f"--crop-threshold: must be in [0, 1), got {config.crop_threshold}")
    for name in ("weight_nce", "weight_alignment", "alignment_boost"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{flag(name)}: must not be negative, got {getattr(config, name)}")
    for name, least in {"dim": 1, "hidden": 1, "group": 0, "alignment_boost_epochs": 0}.items():
        if getattr(config, name) < least:
            raise UserError(f"{flag(name)}: must be at least {least}, got {getattr(config, name)}")
    if config.group == 1:
        raise UserError("--group: one sample has no BatchNorm statistics; 0 or at least 2")
    for name in ("alignment", "seco"):
        if len(set(getattr(config, name))) < len(getattr(config, name)):
            raise UserError(f"{flag(name)}: each part once, got {' '.join(getattr(config, name))}")
    if config.aligns() and not config.alignment:
        raise UserError("--alignment: name at least one of st, s, t; --weight-alignment 0 switches the loss off")
    if not config.weight_nce and not config.aligns():
        raise UserError("--weight-nce 0: without the motion alignment loss nothing is left to learn")
    if config.motion_file is not None and config.motion and config.motion_source == "on-the-fly":
        raise UserError("--motion-file: --motion-source on-the-fly reads none")
    if config.on_the_fly() and config.window() < 2:
        raise UserError(
            "--motion-source on-the-fly: a clip of one frame shows no motion; --stride 2 takes the next one"
        )
    map_shape(config)


def main(config: MCLConfig) -> int:
    check_numbers(config)
    check(config)
    return train(config, MCL, make_dataset)


if __name__ == "__main__":
    sys.exit(run(main, MCLConfig, PRESETS))
