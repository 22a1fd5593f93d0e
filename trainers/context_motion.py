"""Context-Motion Decoupling (Huang et al., CVPR 2021): python trainers/context_motion.py [--data DIR] ..."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor, nn
from torch.nn import functional

import motionops
from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/context_motion.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.contrast import InfoNCE
from motionops.errors import UserError
from motionops.evaluation.classification import classified, format_classification
from motionops.evaluation.labelled_features import labelled_features
from motionops.evaluation.metrics_file import notes, write_metrics
from motionops.evaluation.motion_features import motion_features
from motionops.evaluation.pictures import motion_panels
from motionops.evaluation.protocols import format_retrieval, retrieval_metrics
from motionops.evaluation.report_files import write_classification
from motionops.learning import ConvGRUPredictor, TransformerPredictor
from motionops.learning.clip_flow import clip_flow
from motionops.learning.coded_videos import CodedVideos
from motionops.learning.config import TrainConfig
from motionops.learning.data import TrainingVideos, find_training_videos
from motionops.learning.distributed import gather_own_first
from motionops.learning.module import SelfSupervisedModule
from motionops.learning.training import check_numbers, finish, flag, map_shape, train
from motionops.learning.vector_clips import fill_key_frames, vector_clips
from motionops.models import ProjectionHead, build_backbone, load_weights, save_backbone
from motionops.models.backbones import read_weights
from motionops.video import Video, VideoDataset, VideoError, class_names
from motionops.video.vector_decoder import VectorDecoder

CLIP, KEY_FRAME = 0, 1  # places of their extents and appearances
VECTOR_CHANNELS = 2  # u, v
LOOKED_AT = 16  # videos whose codec is looked at before training


@dataclass
class ContextMotionConfig(TrainConfig):
    """Learn video features from unlabelled videos: clips are matched with key frames and predict motion vectors."""

    classes: ClassVar[tuple[str, ...]] = ()  # of the labels, found with the videos

    output: Path = Path("runs/context-motion")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    init: Path | None = None
    """Weights of the backbone to start from."""
    epochs: int = 20
    """Passes over the training videos; the learning rate's schedule spans them."""

    backbone: Literal["r3d_small", "c3d", "r2plus1d_26", "r3d_26", "r3d_18", "r2plus1d_18"] = "r3d_small"
    """V-network, over clips: what is kept."""
    image_backbone: Literal["r2d_small", "r2d_10"] = "r2d_small"
    """I-network, over key frames."""
    motion_backbone: Literal["r3d_10_eighth", "r3d_small", "r3d_10"] = "r3d_10_eighth"
    """M-network, over motion vectors. The finer its map, the longer the place in it is all that is predicted."""

    alpha: float = 0.5
    """Share of the motion loss: J = (1 - alpha) J_I + alpha J_M (Eq. 3). 0 is context alone, 1 motion alone."""
    temperature: float = 0.1
    """Temperature of both losses."""
    period: Literal["future", "current"] = "future"
    """Motion that is predicted: of the frames behind the clip, or of the clip's own middle (Table 1)."""
    motion_frames: int = 8
    """Frames of a motion clip, one after the other."""
    hard_negatives: int = 3
    """Further motion clips of the same video whose features are negatives; 0: none."""
    motion_loss: Literal["infonce", "mse", "cross-entropy"] = "infonce"
    """What is predicted (Table 1): features of the motion (Eq. 2), its values, or ranges of its values."""
    levels: int = 9
    """Ranges of each component's values for --motion-loss cross-entropy."""
    level_limit: float = 2.0
    """Vector length in pixels of the clip at which the outermost ranges begin."""
    negatives: Literal["ranks", "local"] = "ranks"
    """Whether the batch, whose other samples are negatives, is that of all processes or of each by itself."""

    motion: Literal["vectors", "tvl1"] = "vectors"
    """Motion vectors out of the compressed stream, or TV-L1 optical flow computed in each step (Table 4)."""
    cell: int = 8
    """Side of the cells, in pixels of the file, in which motion vectors are averaged."""
    fill_key_frames: bool = True
    """Whether key frames, which are coded without vectors, get those of their neighbour. Without it the place of the
    zeros among a motion clip's frames tells where in its group of pictures it lies."""

    predictor: Literal["transformer", "convgru"] = "transformer"
    """Encoder-decoder from the clip's features to the motion's (Table 1)."""
    width: int = 128
    """Size of its tokens (transformer) or state (convgru)."""
    encoder_layers: int = 1
    """Encoding layers of the transformer."""
    decoder_layers: int = 2
    """Decoding layers of the transformer."""
    heads: int = 4
    """Attention heads of the transformer."""
    feedforward: int = 256
    """Hidden size of the transformer's feed-forward parts."""
    dropout: float = 0.1
    """Dropout of the transformer."""
    hidden: int = 256
    """Hidden channels of the projection heads."""
    dim: int = 128
    """Size of the embeddings."""

    retrieval: Literal["visual", "motion"] = "visual"
    """Network whose features the run ends by measuring (Table 5): the backbone, or the M-network of motion clips."""

    supervised: bool = False
    """Train a classifier of the labels instead, with the motion loss as regulariser (Table 6); measures top-1."""
    regularise: float = 0.2
    """Weight of the motion loss beside the classifier's; 0: none."""
    classifier_dropout: float = 0.3
    """Dropout before the classifier."""

    grayscale: float = 0.0
    """Probability of a grey clip or key frame."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    blur: float = 0.5
    """Probability of a blurred clip or key frame."""

    def uses_context(self) -> bool:
        """Whether there is a context loss."""
        return not self.supervised and self.alpha < 1

    def uses_motion(self) -> bool:
        """Whether there is a motion loss."""
        return self.regularise > 0 if self.supervised else self.alpha > 0

    def motion_clips(self) -> int:
        """Motion clips of a video: none, the positive one, or it and the hard negatives."""
        if not self.uses_motion():
            return 0
        return 1 + (self.hard_negatives if self.motion_loss == "infonce" else 0)

    def span(self) -> int:
        """Source frames from the clip's first to its last."""
        return (self.frames - 1) * self.stride + 1

    def window(self) -> int:
        """Source frames that a video must have."""
        if not self.uses_motion():
            return self.span()
        if self.period == "current" or self.motion == "tvl1":  # of flow, the frame before a motion clip is read too
            return self.span() + 1 + (self.motion_frames if self.period == "future" else 0)
        return self.span() + self.motion_frames


UCF101 = ContextMotionConfig(
    preset="ucf101",
    backbone="c3d",
    image_backbone="r2d_10",
    motion_backbone="r3d_10",
    frames=16,
    stride=4,
    size=112,
    epochs=120,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.032,
    weight_decay=0.005,
    warmup_epochs=0.0,
    crop_area=(0.2, 1.0),
    evaluation_crop=0.875,
    workers=8,
    encoder_layers=2,
    decoder_layers=4,
    width=512,
    heads=8,
    feedforward=2048,
    hidden=2048,
    dim=512,
)
PRESETS = {
    # MovingShapes' classes differ in motion alone: what the context loss teaches there is in the way.
    "demo": ContextMotionConfig(alpha=0.99),
    "ucf101": UCF101,
    "kinetics400": replace(UCF101, preset="kinetics400", batch_size=512, learning_rate=0.256),
}


class ContextMotion(SelfSupervisedModule):
    """The networks V, I and M, the predictor, the heads and the losses."""

    def __init__(self, config: ContextMotionConfig) -> None:
        super().__init__(config)
        c = config
        self.clips_per_step = c.batch_size
        self.backbone = build_backbone(c.backbone)
        if c.init is not None:
            load_weights(self.backbone, read_weights(c.init)[0], str(c.init))
        if c.uses_context():
            self.image_backbone = build_backbone(c.image_backbone)
            self.clip_head = ProjectionHead(self.backbone.channels, c.hidden, c.dim)
            self.image_head = ProjectionHead(self.image_backbone.channels, c.hidden, c.dim)
        if c.uses_motion():
            self.build_motion()
        self.classifier = None
        if c.supervised:
            self.classifier = nn.Sequential(
                nn.Dropout(c.classifier_dropout), nn.Linear(self.backbone.channels, len(c.classes))
            )

    def build_motion(self) -> None:
        """M-network and predictor, and the heads behind them; values are predicted without an M-network."""
        c = self.config
        motion_backbone = build_backbone(c.motion_backbone, inputs=VECTOR_CHANNELS)
        self.motion_shape = motion_map_shape(c)
        shapes = self.backbone.channels, motion_backbone.channels, map_shape(c), self.motion_shape
        if c.predictor == "convgru":
            self.predictor = ConvGRUPredictor(*shapes, width=c.width)
        else:
            self.predictor = TransformerPredictor(
                *shapes,
                width=c.width,
                encoder_layers=c.encoder_layers,
                decoder_layers=c.decoder_layers,
                heads=c.heads,
                feedforward=c.feedforward,
                dropout=c.dropout,
            )
        channels = motion_backbone.channels
        if c.motion_loss == "infonce":
            self.motion_backbone = motion_backbone
            self.motion_head = ProjectionHead(channels, c.hidden, c.dim)
            self.prediction_head = ProjectionHead(channels, c.hidden, c.dim)
        else:
            outputs = VECTOR_CHANNELS * (c.levels if c.motion_loss == "cross-entropy" else 1)
            self.prediction_head = nn.Sequential(
                nn.Linear(channels, c.hidden), nn.ReLU(inplace=True), nn.Linear(c.hidden, outputs)
            )

    def training_step(self, batch: dict, batch_idx: int) -> dict[str, Tensor]:
        c = self.config
        with torch.autocast(self.device.type, enabled=False):  # pixels and vectors stay float32 under bf16-mixed
            clip = self.cut(batch["frames"], batch, CLIP)
            image = self.cut(batch["key_frame"], batch, KEY_FRAME) if c.uses_context() else None
            motion = self.motion_clips(batch) if c.uses_motion() else None
        losses, shown = self.losses(clip, image, motion, batch["label"] if c.supervised else None)
        weights = {"context": 1 - c.alpha, "motion": c.regularise if c.supervised else c.alpha, "class": 1.0}
        total = sum(weights[name] * loss for name, loss in losses.items())
        return {"loss": total, **{f"loss_{name}": loss.detach() for name, loss in losses.items()}, **shown}

    def losses(
        self, clip: Tensor, image: Tensor | None, motion: Tensor | None, labels: Tensor | None
    ) -> tuple[dict, dict]:
        """From clips, key frames and motion clips to the losses by their names, and accuracies."""
        c = self.config
        features = self.backbone(clip)
        losses, shown = {}, {}
        if c.uses_context():
            losses["context"], shown["accuracy_context"] = self.context_loss(features, image)
        if c.uses_motion():
            losses["motion"], shown["accuracy_motion"] = self.motion_loss(features, motion)
        if c.supervised:
            logits = self.classifier(pooled(features))
            losses["class"] = functional.cross_entropy(logits.float(), labels)
            shown["accuracy"] = (logits.argmax(dim=1) == labels).float().mean()
        else:
            shown["accuracy"] = torch.stack(list(shown.values())).mean()
        return losses, shown

    def context_loss(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """J_I (Eq. 1): a clip against the key frames of the batch; loss and the share of clips that find theirs."""
        query = self.clip_head(pooled(features))
        key = self.image_head(pooled(self.image_backbone(image)))
        loss, rank = self.pairwise(query, key)
        return loss, (rank == 0).float().mean()

    def motion_loss(self, features: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """J_M (Eq. 2), or the loss of values or ranges of values; loss and the share of cells that are found.

        Args:
            features: `[B, C1, T1, H1, W1]` map of the clips.
            motion: `[B, K, 2, T, S, S]`, the positive motion clip first.
        """
        c = self.config
        predicted = self.prediction_head(self.predictor(features).permute(0, 2, 3, 4, 1))  # [B, T3, H3, W3, D]
        if c.motion_loss != "infonce":
            values = functional.adaptive_avg_pool3d(motion[:, 0], self.motion_shape).permute(0, 2, 3, 4, 1)
            return value_loss(predicted.float(), values, c.levels, c.level_limit)
        batch, clips = motion.shape[:2]
        maps = self.motion_backbone(motion.flatten(0, 1))
        key = self.motion_head(maps.permute(0, 2, 3, 4, 1)).unflatten(0, (batch, clips))
        further = key[:, 1:].flatten(0, 4) if clips > 1 else None
        loss, rank = self.pairwise(predicted.flatten(0, 3), key[:, 0].flatten(0, 3), further)
        return loss, (rank == 0).float().mean()

    def pairwise(self, query: Tensor, key: Tensor, further: Tensor | None = None) -> InfoNCE:
        """`pairwise_infonce` over the batch that --negatives names, `further` keys being negatives of every row."""
        if self.config.negatives == "ranks":
            key = gather_own_first(key)
            further = None if further is None else gather_own_first(further)
        if further is not None:
            key = torch.cat([key, further])
        return motionops.pairwise_infonce(query, key, temperature=self.config.temperature)

    def cut(self, frames: Tensor | list[Tensor], batch: dict, part: int) -> Tensor:
        """Clips or key frames as their network takes them: `[B, 3, T, S, S]`, T = 1 for key frames."""
        c = self.config
        count = c.frames if part == CLIP else 1
        if part == CLIP:
            frames = frames[:, 0, :count] if isinstance(frames, Tensor) else [video[0, :count] for video in frames]
        look = motionops.Appearance(*(field[:, part] for field in batch["appearance"]))
        return motionops.augment_clips(frames, batch["extents"][:, part], c.size, look, mean=c.mean, std=c.std)

    def motion_clips(self, batch: dict) -> Tensor:
        """The motion clips `[B, K, 2, T, S, S]`, cut out where the clip is, in pixels of the clip a frame."""
        c = self.config
        clips, extents = c.motion_clips(), batch["extents"][:, CLIP]
        if c.motion == "tvl1":
            frames = batch["frames"]
            chosen = frames[:, 0, c.frames :] if isinstance(frames, Tensor) else [v[0, c.frames :] for v in frames]
            cut = motionops.augment_clips(chosen, extents, c.size, mean=0.0, std=1.0)
            cut = (255 * cut).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)
            pairs = cut.unflatten(1, (clips, c.motion_frames + 1)).flatten(0, 1)
            flow = clip_flow(pairs.contiguous())[:, :-1]  # the last frame has no following one
            return flow.unflatten(0, (-1, clips)).transpose(2, 3)
        motion = batch["motion"]
        if c.fill_key_frames:
            motion = fill_key_frames(motion) if isinstance(motion, Tensor) else [fill_key_frames(m) for m in motion]
        motion = motion.flatten(1, 2) if isinstance(motion, Tensor) else [maps.flatten(0, 1) for maps in motion]
        cut = vector_clips(motion, extents, c.size, batch["picture"], cell=c.cell)
        return cut.unflatten(2, (clips, c.motion_frames)).transpose(1, 2)

    def report(self, folder: Path, batch: dict) -> None:
        """motion.png: the last frames of the first clips, where they are cut out, and the motion that is predicted."""
        c = self.config
        if not c.uses_motion() or c.motion != "vectors":
            return
        frames = [video[0, -1].cpu() for video in batch["frames"]]
        flow = [(fill_key_frames(maps) if c.fill_key_frames else maps)[0].mean(dim=0).cpu() for maps in batch["motion"]]
        boxes = batch["extents"][:, CLIP, 1:].cpu()
        motion_panels(frames, flow, [field.norm(dim=0) for field in flow], boxes, folder / "motion.png")


class ContextMotionVideos(CodedVideos):
    """A clip, a key frame near it and motion clips: one that is predicted, and others of the video as hard negatives.

    The clip starts anywhere where the motion that it predicts is still in the video. Hard negatives start anywhere
    where they share no frame with that motion, as far as there are such places, else anywhere but at its start. TV-L1
    motion is that of frames: each motion clip has one frame more, before its first.
    """

    def __init__(self, config: ContextMotionConfig, videos: TrainingVideos) -> None:
        self.config = config
        super().__init__(
            videos.usable,
            cell=config.cell,
            key_frame=config.uses_context(),
            seed=config.seed,
            cache_bytes=int(config.cache_gib * 2**30),
        )

    @property
    def reads_motion(self) -> bool:
        return self.config.uses_motion() and self.config.motion == "vectors"

    def split(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        if not self.reads_motion:
            return numbers, numbers.new_empty((0, c.motion_frames))
        return numbers[:, : c.frames], numbers[0, c.frames :].unflatten(0, (c.motion_clips(), c.motion_frames))

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Numbers `[1, N]`: the clip's frames, then those of each motion clip, the predicted one first."""
        c = self.config
        first = 1 if c.motion == "tvl1" and c.uses_motion() else 0  # frames before a motion clip
        # From the clip's first frame to that of the motion which it predicts.
        ahead = c.span() if c.period == "future" else (c.span() - c.motion_frames) // 2
        ends = [c.span(), ahead + c.motion_frames] if c.uses_motion() else [c.span()]
        begin = max(0, first - ahead) if c.uses_motion() else 0
        start = begin + int(torch.randint(frame_count - max(ends) - begin + 1, (), generator=generator))
        numbers = [start + c.stride * torch.arange(c.frames)]
        if c.uses_motion():
            starts = torch.tensor([start + ahead])
            if c.motion_clips() > 1:
                starts = torch.cat([starts, self.other_starts(start + ahead, first, frame_count, generator)])
            numbers.append((starts[:, None] + torch.arange(-first, c.motion_frames)).flatten())
        return torch.cat(numbers)[None]

    def other_starts(self, own: int, first: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Starts of the hard negatives, different where there are enough places."""
        c = self.config
        possible = torch.arange(first, frame_count - c.motion_frames + 1)
        possible = possible[torch.randperm(len(possible), generator=generator)]
        distance = (possible - own).abs()
        apart, near = possible[distance >= c.motion_frames], possible[(distance > 0) & (distance < c.motion_frames)]
        order = torch.cat([apart, near])[: c.hard_negatives]
        return order.repeat(-(-c.hard_negatives // len(order)))[: c.hard_negatives]

    def describe(self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict:
        """Where clip and key frame are cut out, and how they look; the size of the picture."""
        c, (height, width) = self.config, picture
        extents = motionops.sample_extents(
            2,
            frames=1,  # the frames are chosen already; the extents' t rows are not looked at
            frame_count=1,
            height=height,
            width=width,
            area=c.crop_area,
            generator=generator,
        )
        appearance = motionops.Appearance.sample(
            2,
            jitter_probability=c.jitter,
            grayscale_probability=c.grayscale,
            blur_probability=c.blur,
            generator=generator,
        )
        return {"extents": extents, "appearance": appearance, "picture": torch.tensor(picture)}


def pooled(features: Tensor) -> Tensor:
    """Mean over time and space, `[B, C, T, H, W] -> [B, C]`."""
    return features.float().mean(dim=(2, 3, 4))


def value_loss(predicted: Tensor, values: Tensor, levels: int, limit: float) -> tuple[Tensor, Tensor]:
    """Loss of predicted motion values, and the share of components whose range of values is predicted (Table 1).

    Args:
        predicted: `[..., 2]`, the values: their mean square error. Or `[..., 2 * levels]`, scores of the ranges of u,
            then of v: their cross-entropy.
        values: `[..., 2]`.
        levels, limit: the ranges are `levels` equal parts of -limit..limit, the outer ones without end.
    """
    ranges = ((values / limit + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()
    if predicted.shape[-1] == values.shape[-1]:
        guessed = ((predicted / limit + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()
        return (predicted - values).square().mean(), (guessed == ranges).float().mean()
    scores = predicted.unflatten(-1, (values.shape[-1], levels))
    loss = functional.cross_entropy(scores.flatten(0, -2), ranges.flatten())
    return loss, (scores.argmax(dim=-1) == ranges).float().mean()


def motion_map_shape(config: ContextMotionConfig) -> tuple[int, int, int]:
    """(T3, H3, W3) of the M-network's map. UserError where it cannot take the motion clips."""
    with torch.device("meta"):
        network = build_backbone(config.motion_backbone, inputs=VECTOR_CHANNELS).eval()
        clip = torch.empty(1, VECTOR_CHANNELS, config.motion_frames, config.size, config.size)
        try:
            return tuple(network(clip).shape[2:])
        except RuntimeError as error:
            text = f"{config.motion_backbone} cannot take clips of --motion-frames {config.motion_frames}"
            raise UserError(f"{text} at --size {config.size}") from error


class ClipProbabilities(nn.Module):
    """A trained classifier as a backbone whose features are the classes' probabilities: their mean is a video's."""

    def __init__(self, module: ContextMotion) -> None:
        super().__init__()
        self.backbone, self.classifier = module.backbone, module.classifier
        self.channels = module.classifier[-1].out_features

    def forward(self, clips: Tensor) -> Tensor:
        return self.classifier(pooled(self.backbone(clips))).float().softmax(dim=1)


def find_videos(config: ContextMotionConfig, progress: bool) -> TrainingVideos:
    """The videos of the run; a classifier's are labelled, and its classes are noted. Codecs are looked at."""
    videos = find_training_videos(config, progress)
    if config.uses_context() or (config.uses_motion() and config.motion == "vectors"):
        require_vectors(videos.usable)
    if config.supervised:
        unlabelled = [video for video in videos.usable if video.label is None]
        if unlabelled:
            raise UserError(f"--supervised: {unlabelled[0].path} has no label")
        config.classes = tuple(class_names(videos.usable))
        if len(config.classes) < 2:
            raise UserError(f"--supervised: a classifier needs two classes, got {len(config.classes)}")
    return videos


def require_vectors(videos: list[Video]) -> None:
    """UserError where all of some videos, spread over the list, are of codecs without motion vectors."""
    errors = []
    for video in videos[:: -(-len(videos) // LOOKED_AT) or 1]:
        try:
            with VectorDecoder(video.path):
                return
        except VideoError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def conclude(config: ContextMotionConfig, module: ContextMotion, videos: TrainingVideos, dataset: VideoDataset) -> None:
    """As every method's run ends; the I- and M-network are kept too, and a classifier is measured."""
    for name in ("image_backbone", "motion_backbone"):
        if hasattr(module, name):
            frames = 1 if name == "image_backbone" else config.motion_frames
            clip = {"frames": frames, "stride": 1, "size": config.size, "crop": config.evaluation_crop}
            clip |= {"mean": list(config.mean), "std": list(config.std)}
            header = {key: json.dumps(value) for key, value in clip.items()}
            save_backbone(getattr(module, name), config.output / f"{name}.safetensors", **header)
    own = config.supervised or (config.retrieval == "motion" and bool(videos.test))
    finish(config, module, replace(videos, test=[]) if own else videos, dataset)
    if not own or not videos.test:
        return
    module.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    metrics, skipped, settings = (classify if config.supervised else retrieve_motion)(config, module, videos)
    trained = {"steps": module.step, "videos": len(videos.usable), **module.metrics}
    skipped = dict.fromkeys([*videos.skipped, *module.failed, *skipped])
    metrics |= {"training": trained, **notes(skipped, [], settings)}
    write_metrics(metrics, config.output)
    print(format_classification(metrics) if config.supervised else format_retrieval(metrics))


def classify(config: ContextMotionConfig, module: ContextMotion, videos: TrainingVideos) -> tuple[dict, list, dict]:
    """Accuracies on the test videos, each by the mean of its clips' probabilities; skipped videos; settings."""
    settings = {name: getattr(config, name) for name in ("frames", "stride", "size", "mean", "std", "workers")}
    settings |= {"clips": config.evaluation_clips, "crop": config.evaluation_crop}
    scores = ClipProbabilities(module)
    test = labelled_features(scores, videos.test, strict=config.strict, **settings, device=module.device, progress=True)
    result = classified(test.features, test.videos, videos.usable)
    write_classification(result, config.output)
    return {"protocol": "finetune", **result.metrics}, test.skipped, settings


def retrieve_motion(
    config: ContextMotionConfig, module: ContextMotion, videos: TrainingVideos
) -> tuple[dict, list, dict]:
    """Retrieval of the test videos among the training videos by the M-network's features; skipped videos; settings."""
    settings = {"clips": config.evaluation_clips, "frames": config.motion_frames, "size": config.size}
    settings |= {"crop": config.evaluation_crop, "cell": config.cell, "fill": config.fill_key_frames}
    gallery, test = (
        motion_features(module.motion_backbone, part, **settings, progress=True)
        for part in (videos.usable, videos.test)
    )
    metrics, _ = retrieval_metrics(gallery, test)
    return {**metrics, "network": "motion"}, [*gallery.skipped, *test.skipped], settings


def check(config: ContextMotionConfig) -> None:
    """UserError for flags that contradict each other or are out of range."""
    if not 0 <= config.alpha <= 1:
        raise UserError(f"--alpha: must be in [0, 1], got {config.alpha}")
    for name in ("temperature", "level_limit"):
        if not 0 < getattr(config, name) < float("inf"):
            raise UserError(f"{flag(name)}: must be positive, got {getattr(config, name)}")
    if not 0 <= config.regularise < float("inf"):
        raise UserError(f"--regularise: must not be negative, got {config.regularise}")
    for name in ("grayscale", "jitter", "blur"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{flag(name)}: must be in [0, 1], got {getattr(config, name)}")
    for name in ("dropout", "classifier_dropout"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{flag(name)}: must be in [0, 1), got {getattr(config, name)}")
    least = {"motion_frames": 1, "hard_negatives": 0, "levels": 2, "cell": 1, "dim": 1, "hidden": 1, "width": 1}
    least |= {"encoder_layers": 0, "decoder_layers": 1, "heads": 1, "feedforward": 1}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise UserError(f"{flag(name)}: must be at least {lowest}, got {getattr(config, name)}")
    if config.predictor == "transformer" and (config.width % 2 or config.width % config.heads):
        raise UserError(f"--width: must be even and a multiple of --heads {config.heads}, got {config.width}")
    if config.period == "current" and config.uses_motion() and config.motion_frames > config.span():
        raise UserError(
            f"--period current: the clip spans {config.span()} frames, fewer than --motion-frames "
            f"{config.motion_frames}"
        )
    if config.retrieval == "motion" and (config.supervised or config.alpha == 0 or config.motion_loss != "infonce"):
        raise UserError("--retrieval motion: there is no M-network without the motion loss of features")
    if config.retrieval == "motion" and config.motion != "vectors":
        raise UserError("--retrieval motion: measures clips of motion vectors; --motion tvl1 has none")
    map_shape(config)
    if config.uses_motion():
        motion_map_shape(config)


def main(config: ContextMotionConfig) -> int:
    check_numbers(config)
    check(config)
    return train(config, ContextMotion, ContextMotionVideos, find_videos, conclude)


if __name__ == "__main__":
    sys.exit(run(main, ContextMotionConfig, PRESETS))
