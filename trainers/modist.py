"""MoDist, motion distillation (Xiao, Tighe, Modolo, 2021): python trainers/modist.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

import motionops
from motionops.arrays import to_device
from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/modist.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.errors import UserError
from motionops.evaluation.pictures import activation_overlay
from motionops.learning import FeatureQueue, MomentumEncoder
from motionops.learning.config import TrainConfig
from motionops.learning.data import TrainingVideos
from motionops.learning.distributed import sum_over_ranks, world
from motionops.learning.module import SelfSupervisedModule
from motionops.learning.momentum import Shuffle, draw_shuffle, forward_in_groups, forward_shuffled
from motionops.learning.motion_input import (
    EDGE_MAX,
    RAFTPairs,
    centre_squares,
    check_raft_size,
    motion_of_pairs,
    network_input,
    raft_file,
    strength,
    tvl1_pairs,
)
from motionops.learning.prepared_motion import find_or_prepare_edges
from motionops.learning.training import check_numbers, flag, map_shape, train
from motionops.models import ProjectionHead, build_backbone
from motionops.video import VideoDataset

QUERY, KEY = 0, 1
JITTER = (0.4, 0.4, 0.4, 0.0)  # brightness, contrast, saturation; no hue (Section 4.1)
STEPS_WITHOUT_MOTION = 100  # a set in which so many steps found no clip above gamma has none


@dataclass
class MoDistConfig(TrainConfig):
    """Learn video features from unlabelled videos with MoDist (motion distilled into a visual network)."""

    output: Path = Path("runs/modist")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    epochs: int = 20
    """Passes over the training videos; the learning rate's schedule spans them."""
    learning_rate: float = 1e-3
    """Base learning rate."""

    backbone: Literal["r3d_small", "r3d_18", "slow_r50"] = "r3d_small"
    """Network of the visual pathway, which is what is kept."""
    motion_backbone: Literal["r3d_small", "r2d_50_eighth"] = "r3d_small"
    """Network of the motion pathway, used while training alone."""

    losses: tuple[Literal["v", "m", "mv"], ...] = ("v", "m", "mv")
    """v: clip and clip (Eq. 1); m: motion and motion; mv: clip and motion, both ways (Eq. 2)."""
    weight_v: float = 0.2
    """Weight of v."""
    weight_m: float = 0.2
    """Weight of m."""
    weight_mv: float = 1.0
    """Weight of mv."""
    mv_negatives: Literal["query", "key"] = "key"
    """Queue of mv's negatives: that of the query's pathway, as Eq. 2 has it, or that of the key's. A query of one
    pathway tells keys of the other from negatives of its own without looking at the video."""
    temperature: float = 0.1
    """Temperature of all losses."""
    momentum: float = 0.99
    """Momentum of both key encoders."""
    dim: int = 128
    """Size of the embeddings."""
    hidden: int = 256
    """Hidden channels of the projection heads."""
    queue: int = 512
    """Negatives in each of the two queues."""
    group: int = 0
    """Samples that share BatchNorm statistics; 0: all of a process."""

    motion: Literal["flow-edges", "flow", "frame-difference"] = "flow-edges"
    """Input of the motion pathway (Table 3b)."""
    flow: Literal["tvl1", "raft", "prepared"] = "prepared"
    """Where flow comes from: computed in each step, or flow edges that were prepared once. TV-L1 of a pair takes about
    2 ms of a core at 32 x 32 pixels and 90 ms at 224 x 224: without a GPU, prepared edges are meant."""
    raft_weights: Path | None = None
    """Weights of RAFT; by default looked for in torch's hub cache."""
    prepared: Path | None = None
    """Folder of "python -m motionops.video.prepare flow-edges". Without it one is made in the cache folder, once."""
    motion_frames: int = 8
    """Frames of a motion clip."""
    motion_stride: int = 2
    """Source frames from one frame of a motion clip to the next."""
    flow_interval: int = 5
    """Flow is that from frame t to frame t - interval; frame differences are always between neighbours."""
    gamma: float = 0.02
    """Motion clips whose mean (edges: 0 to 10; flow: pixels; differences: 0 to 1) is not above it are not used; 0: all
    are."""
    candidates: int = 4
    """Motion clips that are drawn of a video, in the order in which they are tried against gamma. Prepared edges need
    none: there all possible clips are known."""
    temporal_jitter: bool = True
    """Whether visual and motion clips start at times of their own; else the pairs of mv show the same moment."""

    grayscale: float = 0.2
    """Probability of a grey visual clip."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    blur: float = 0.5
    """Probability of a blurred clip."""

    def interval(self) -> int:
        """Source frames between the two frames of a pair."""
        return 1 if self.motion == "frame-difference" else self.flow_interval

    def window(self) -> int:
        """Source frames that a video must have."""
        visual = (self.frames - 1) * self.stride + 1
        if not self.uses_motion():
            return visual
        return self.interval() + max(visual, (self.motion_frames - 1) * self.motion_stride + 1)

    def uses_prepared(self) -> bool:
        """Whether motion is read instead of computed."""
        return self.uses_motion() and self.motion != "frame-difference" and self.flow == "prepared"

    def uses_motion(self) -> bool:
        """Whether there is a motion pathway at all."""
        return bool({"m", "mv"} & set(self.losses))


KINETICS = MoDistConfig(
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
    mv_negatives="query",
    group=8,
)
PRESETS = {
    "demo": MoDistConfig(),
    "kinetics400": KINETICS,
    "kinetics400-mini": replace(KINETICS, preset="kinetics400-mini", epochs=100),
}


class Clips(NamedTuple):
    """The clips of a step: visual and motion, query and key each `[B, 3, T, S, S]`.

    `moving [B]`: above gamma; on the CPU, where it decides how many rows go into the losses.
    """

    visual: list[Tensor]
    motion: list[Tensor]
    moving: Tensor


class MoDist(SelfSupervisedModule):
    """The two pathways, their momentum copies, queues and losses. `v` is visual, `m` is motion."""

    def __init__(self, config: MoDistConfig) -> None:
        super().__init__(config)
        self.backbone, self.head, self.key_backbone, self.key_head = self.pathway(config.backbone)
        self.queue = FeatureQueue(config.queue, config.dim)
        if config.uses_motion():
            self.motion_backbone, self.motion_head, self.motion_key_backbone, self.motion_key_head = self.pathway(
                config.motion_backbone
            )
            self.motion_queue = FeatureQueue(config.queue, config.dim)
        self.pair_flow = RAFTPairs(config.raft_weights) if needs_raft(config) else tvl1_pairs
        # Videos drawn so far, of all ranks, and those of them without a clip above gamma; saved with the rest.
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("still", torch.zeros((), dtype=torch.int64))

    def pathway(self, name: str) -> tuple:
        """A network, its head, and momentum copies of both."""
        c = self.config
        backbone = build_backbone(name)
        head = ProjectionHead(backbone.channels, c.hidden, c.dim)
        return backbone, head, MomentumEncoder(backbone, c.momentum), MomentumEncoder(head, c.momentum)

    def update_keys(self) -> None:
        """Move the momentum encoders of the pathways towards what they copy."""
        self.key_backbone.update(self.backbone)
        self.key_head.update(self.head)
        if self.config.uses_motion():
            self.motion_key_backbone.update(self.motion_backbone)
            self.motion_key_head.update(self.motion_head)

    def on_before_batch_transfer(self, batch: dict, dataloader_idx: int) -> dict:
        if "moving" in batch:
            batch["moving"] = torch.as_tensor(batch["moving"]).tolist()  # no tensor: it stays where the host reads it
        return batch

    def training_step(self, batch: dict, batch_idx: int) -> dict[str, Tensor]:
        c, ids = self.config, batch["index"]
        if self.starts_step:
            self.update_keys()
        with torch.autocast(self.device.type, enabled=False):  # pixels and flow stay float32 under bf16-mixed
            clips = self.clips(batch)
        # The visual pathway's shuffle, then the motion pathway's.
        shuffles = [draw_shuffle(len(ids), self.shared_generator(kind), c.group, ids.device) for kind in (0, 2)]
        rows = to_device(clips.moving.nonzero()[:, 0], ids.device)
        if c.compile:
            torch._dynamo.maybe_mark_dynamic(rows, 0)  # one graph for any number of them from 2 on
        losses, accuracy = self.losses(clips.visual, clips.motion, shuffles, ids, rows)
        shown = {"low_motion": self.count_still(clips.moving)} if c.uses_motion() else {}
        shown |= {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        total = sum(getattr(c, f"weight_{name}") * loss for name, loss in losses.items())
        return {"loss": total, **shown, "accuracy": accuracy}

    def losses(
        self, visual: list[Tensor], motion: list[Tensor], shuffles: list[Shuffle | None], ids: Tensor, rows: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """From the clips to the losses by their names, and the accuracy.

        Args:
            visual, motion: query and key.
            ids: int64 `[B]`, of the videos.
            rows: int64, the places of the videos that move.
        """
        c = self.config
        losses, ranks = {}, []
        v_query, v_key = self.embed(visual, "", shuffles[0])
        if "v" in c.losses:
            losses["v"], rank = motionops.queue_infonce(
                v_query,
                v_key,
                self.queue.features,
                temperature=c.temperature,
                query_ids=ids,
                queue_ids=self.queue.ids,
            )
            ranks.append(rank)
        if c.uses_motion():
            # Videos without motion go through the motion pathway too (BatchNorm needs its batch), but into no loss.
            m_query, m_key = self.embed(motion, "motion_", shuffles[1])
            if "m" in c.losses:
                losses["m"], rank = self.moving_loss(m_query, m_key, self.motion_queue, ids, rows)
                ranks.append(rank)
            if "mv" in c.losses:
                queues = (self.queue, self.motion_queue)
                to_motion_queue, to_visual_queue = queues if c.mv_negatives == "query" else queues[::-1]
                to_motion, rank = self.moving_loss(v_query, m_key, to_motion_queue, ids, rows)
                to_visual, _ = self.moving_loss(m_query, v_key, to_visual_queue, ids, rows)
                losses["mv"] = to_motion + to_visual
                ranks.append(rank)
            self.enqueue_after_step(self.motion_queue, m_key[rows], ids[rows])
        self.enqueue_after_step(self.queue, v_key, ids)
        rank = torch.cat(ranks)
        return losses, (rank == 0).float().sum() / max(len(rank), 1)

    def embed(self, clips: list[Tensor], pathway: str, shuffle: Shuffle | None) -> tuple[Tensor, Tensor]:
        """Query of the online networks and key of their momentum copies, with shuffled BatchNorm; `[B, D]` each."""
        group = self.config.group
        backbone, head = getattr(self, f"{pathway}backbone"), getattr(self, f"{pathway}head")
        key_backbone, key_head = getattr(self, f"{pathway}key_backbone"), getattr(self, f"{pathway}key_head")
        query = head(pooled(forward_in_groups(backbone, clips[QUERY], group)))
        return query, key_head(pooled(forward_shuffled(key_backbone, clips[KEY], shuffle, group)))

    def moving_loss(
        self, query: Tensor, key: Tensor, queue: FeatureQueue, ids: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """IN(query, key, negatives) of the videos `rows`; the mean over ranks is the mean over all their videos."""
        loss, rank = motionops.queue_infonce(
            query[rows],
            key[rows],
            queue.features,
            temperature=self.config.temperature,
            query_ids=ids[rows],
            queue_ids=queue.ids,
        )
        _, size = world()
        if size > 1:
            count = loss.new_full((), len(rows))
            loss = loss * (size * count / sum_over_ranks(count).clamp(min=1))
        return loss, rank

    def count_still(self, moving: Tensor) -> Tensor:
        """Videos drawn so far of which no clip was above gamma. UserError where that is all of many."""
        counts = sum_over_ranks(to_device(torch.stack([torch.tensor(len(moving)), (~moving).sum()]), self.drawn.device))
        self.drawn += counts[0]
        self.still += counts[1]
        decided = self.step + 1 == min(self.steps_per_epoch, self.total_steps, STEPS_WITHOUT_MOTION)
        if decided and bool(self.drawn == self.still):
            raise UserError(
                f"--gamma {self.config.gamma}: of the {int(self.drawn)} videos drawn so far none has a clip of "
                f"{self.config.motion} above it; a lower --gamma, or 0, uses clips with less motion"
            )
        return self.still.float()

    def clips(self, batch: dict) -> Clips:
        """Cut the visual clips out of the batch's frames and change how they look; make the motion clips."""
        c, frames = self.config, batch["frames"]
        motion, moving = [], torch.ones(len(frames), dtype=torch.bool)
        chosen = torch.tensor([[0, 1]]).expand(len(frames), 2)
        if "edges" in batch:
            edges = batch["edges"].float() * (EDGE_MAX / 255)
            motion = [network_input(edges[:, None, i], c.motion) for i in (QUERY, KEY)]
            moving = torch.as_tensor(batch["moving"]).bool()
        elif c.uses_motion():
            motion, moving, chosen = self.choose_motion(frames)
        visual = []
        for i in (QUERY, KEY):
            # Without temporal jitter, [v^q, m^k] and [m^q, v^k] show the same moment; there is a clip a candidate.
            window = torch.full_like(chosen[:, 0], i) if c.temporal_jitter else chosen[:, 1 - i]
            parts = [
                video[0, w * c.frames : (w + 1) * c.frames] for video, w in zip(frames, window.tolist(), strict=True)
            ]
            look = motionops.Appearance(*(field[:, i] for field in batch["appearance"]))
            visual.append(motionops.augment_clips(parts, batch["extents"][:, i], c.size, look, mean=c.mean, std=c.std))
        return Clips(visual, motion, moving)

    def choose_motion(self, frames: Tensor | list[Tensor]) -> tuple[list[Tensor], Tensor, Tensor]:
        """The first two candidates of each video that are above gamma, as query and key.

        A video with one takes it for both; one with none keeps its first two and is not `moving`. Further candidates
        are computed for the videos alone that still need them.
        """
        c = self.config
        batch = len(frames)
        first = visual_windows(c) * c.frames
        length = 2 * c.motion_frames
        clips: list[list[Tensor]] = [[] for _ in range(batch)]
        chosen: list[list[int]] = [[] for _ in range(batch)]
        spare: list[list[Tensor]] = [[] for _ in range(batch)]
        for candidate in range(candidates(c)):
            rows = [b for b in range(batch) if len(clips[b]) < 2]
            if not rows:
                break
            begin = first + candidate * length
            squares = centre_squares([frames[b][0, begin : begin + length] for b in rows], c.size)
            motion = motion_of_pairs(squares.unflatten(1, (c.motion_frames, 2)), c.motion, self.pair_flow)
            passes = (strength(motion, c.motion) > c.gamma).tolist() if c.gamma else [True] * len(rows)
            for clip, b, above in zip(network_input(motion, c.motion), rows, passes, strict=True):
                if above:
                    clips[b].append(clip)
                    chosen[b].append(candidate)
                elif len(spare[b]) < 2:
                    spare[b].append(clip)
        moving = [bool(found) for found in clips]
        for b in range(batch):
            clips[b] = (clips[b] or spare[b]) * 2
            chosen[b] = (chosen[b] or [0, 1]) * 2
        pair = [torch.stack([found[i] for found in clips]) for i in (QUERY, KEY)]
        return pair, torch.tensor(moving), torch.tensor([found[:2] for found in chosen])

    def report(self, folder: Path, batch: dict) -> None:
        """motion.png: what the motion pathway sees of the first videos, over the later frames of its pairs.

        Prepared edges are shown over black, as their frames are not read.
        """
        c = self.config
        if not c.uses_motion():
            return
        if "edges" in batch:
            motion = batch["edges"][:, QUERY].float()
            pictures = torch.zeros((*motion.shape, 3), dtype=torch.uint8)
        else:
            first = visual_windows(c) * c.frames
            frames = [video[0, first : first + 2 * c.motion_frames] for video in batch["frames"]]
            pairs = centre_squares(frames, c.size).unflatten(1, (c.motion_frames, 2))
            motion = motion_of_pairs(pairs, c.motion, self.pair_flow).abs().mean(dim=1)
            pictures = pairs[:, :, 1]
        motion = motion / motion.flatten(1).amax(dim=1).clamp(min=1e-6).view(-1, 1, 1, 1)
        shown = torch.linspace(0, c.motion_frames - 1, min(c.motion_frames, 4)).long()
        activation_overlay(pictures[:, shown].cpu(), motion[:, shown].cpu(), folder / "motion.png")


def pooled(features: Tensor) -> Tensor:
    """Mean over time and space, `[B, C, T, H, W] -> [B, C]`."""
    return features.float().mean(dim=(2, 3, 4))


def needs_raft(config: MoDistConfig) -> bool:
    return config.uses_motion() and config.motion != "frame-difference" and config.flow == "raft"


def candidates(config: MoDistConfig) -> int:
    """Motion clips that are drawn of a video; two are enough where all are good."""
    return config.candidates if config.gamma else 2


def visual_windows(config: MoDistConfig) -> int:
    """Visual clips that are read of a video: two, or without temporal jitter one for each candidate."""
    if config.temporal_jitter or not config.uses_motion() or config.uses_prepared():
        return 2
    return candidates(config)


def different_starts(possible: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the possible starts in a random order, different where there are enough."""
    order = possible[torch.randperm(len(possible), generator=generator)[:count]]
    return order.repeat(-(-count // len(order)))[:count]


class MoDistVideos(VideoDataset):
    """The frames of a video's visual clips and then those of its motion clips, as one row `frames [1, N, H, W, 3]`.

    A motion clip is its pairs of frames (t - interval, t), t = start + i * stride. With prepared edges an item has
    `edges` uint8 `[2, T, S, S]` and `moving` instead, and the clips are drawn from all those above gamma.
    """

    def __init__(self, config: MoDistConfig, videos: TrainingVideos) -> None:
        self.config = config
        self.folder = None
        if config.uses_prepared():
            self.folder = find_or_prepare_edges(config.prepared, videos.usable, config.size, config.flow_interval)
        self.prepared: dict = {}
        super().__init__(videos.usable, seed=config.seed, cache_bytes=int(config.cache_gib * 2**30))

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Frames `[1, N]` of a video of `frame_count` frames."""
        c = self.config
        visual_span = (c.frames - 1) * c.stride + 1
        starts = different_starts(torch.arange(frame_count - visual_span + 1), 2, generator)
        motion = torch.empty(0, dtype=torch.int64)
        if c.uses_motion():
            times = torch.arange(c.motion_frames) * c.motion_stride
            span = int(times[-1]) + 1
            # Without jitter a start serves both kinds of clips.
            last = frame_count - (span if c.temporal_jitter else max(span, visual_span))
            possible = torch.arange(c.interval(), last + 1)
            if self.folder is not None:
                motion_starts = self.read_edges(self.path(index), possible, times, generator)
            else:
                motion_starts = different_starts(possible, candidates(c), generator)
                later = motion_starts[:, None] + times
                motion = torch.stack([later - c.interval(), later], dim=2).flatten()
            if not c.temporal_jitter:
                starts = motion_starts.flip(0) if self.folder is not None else motion_starts
        visual = starts[:, None] + torch.arange(c.frames) * c.stride
        return torch.cat([visual.flatten(), motion])[None]

    def read_edges(self, path: str, possible: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        """Keep two prepared motion clips above gamma for `describe`; their starts."""
        means = self.folder.means(path)
        above = possible
        if self.config.gamma:
            above = possible[means[possible[:, None] + times].mean(dim=1) > self.config.gamma]
        starts = different_starts(above if len(above) else possible, 2, generator)
        edges = self.folder.read(path, starts[:, None] + times)
        self.prepared = {"edges": edges, "moving": int(len(above) > 0)}
        return starts

    def describe(self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict:
        """Where the two visual clips are cut out, and how they look; prepared motion clips."""
        c, (height, width) = self.config, picture
        extents = motionops.sample_extents(
            2,
            frames=1,
            frame_count=int(numbers.max()) + 1,
            height=height,
            width=width,
            area=c.crop_area,
            generator=generator,
        )
        appearance = motionops.Appearance.sample(
            2,
            jitter=JITTER,
            jitter_probability=c.jitter,
            grayscale_probability=c.grayscale,
            blur_probability=c.blur,
            generator=generator,
        )
        return {"extents": extents, "appearance": appearance, **self.prepared}


def check(config: MoDistConfig) -> None:
    """UserError for flags that contradict each other or are out of range."""
    if not config.losses:
        raise UserError("--losses: name at least one of v, m, mv")
    if len(set(config.losses)) < len(config.losses):
        raise UserError(f"--losses: each loss once, got {' '.join(config.losses)}")
    if not {"v", "mv"} & set(config.losses):
        raise UserError("--losses m: trains the motion pathway alone, and the visual one is what is kept; add v or mv")
    if config.queue < config.batch_size:
        raise UserError(f"--queue: {config.queue} negatives are fewer than the --batch-size of {config.batch_size}")
    if not 0 < config.temperature < float("inf"):
        raise UserError(f"--temperature: must be positive, got {config.temperature}")
    for name in ("weight_v", "weight_m", "weight_mv"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{flag(name)}: must not be negative, got {getattr(config, name)}")
    for name in ("momentum", "grayscale", "jitter", "blur"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{flag(name)}: must be in [0, 1], got {getattr(config, name)}")
    if not 0 <= config.gamma < float("inf"):
        raise UserError(f"--gamma: must not be negative, got {config.gamma}")
    least = {"dim": 1, "hidden": 1, "group": 0, "motion_frames": 1, "motion_stride": 1, "flow_interval": 1}
    for name, lowest in (least | {"candidates": 2}).items():
        if getattr(config, name) < lowest:
            raise UserError(f"{flag(name)}: must be at least {lowest}, got {getattr(config, name)}")
    if config.group == 1:
        raise UserError("--group: one sample has no BatchNorm statistics; 0 or at least 2")
    map_shape(config)
    if config.uses_prepared() and config.motion != "flow-edges":
        raise UserError(f"--flow prepared: holds flow edges; --motion {config.motion} needs --flow tvl1 or raft")


def main(config: MoDistConfig) -> int:
    check_numbers(config)
    check(config)
    if needs_raft(config):
        check_raft_size(config.size)
        raft_file(config.raft_weights)
    return train(config, MoDist, MoDistVideos)


if __name__ == "__main__":
    sys.exit(run(main, MoDistConfig, PRESETS))
