"""Context-Motion Decoupling (Huang et al., CVPR 2021): the networks and the losses, equation by equation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import motionops
from motionops.contrast import InfoNCE
from motionops.methods.context_motion.ablations import value_loss
from motionops.methods.context_motion.feature_prediction import ConvGRUPredictor, TransformerPredictor
from motionops.methods.context_motion.flags import VECTOR_CHANNELS, ContextMotionConfig
from motionops.methods.context_motion.pictures import report
from motionops.methods.context_motion.views import cut_clip, cut_key_frame, cut_motion
from motionops.models import ProjectionHead, build_backbone, load_weights
from motionops.models.backbones import read_weights
from motionops.models.pathway import pooled
from motionops.models.shapes import feature_shape
from motionops.ranks import gather_own_first
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method, Step
from motionops.video import class_names


class ContextMotion(Method):
    """The networks V, I and M, the predictor, the heads and the losses.

    Args:
        config: the flags.
        backbone: the V-network, `[B, 3, T, S, S] -> [B, C1, T1, H1, W1]`, any module; by default the one that the
            flags name.
        classes: how many --supervised tells apart.
    """

    def __init__(self, config: ContextMotionConfig, backbone: nn.Module | None = None, classes: int = 0) -> None:
        super().__init__(config)
        c = config
        self.clips_per_step = c.batch_size
        self.backbone = build_backbone(c.backbone) if backbone is None else backbone
        if c.init is not None:
            load_weights(self.backbone, read_weights(c.init)[0], str(c.init))
        channels, *grid = feature_shape(self.backbone, c.frames, c.size)
        if c.uses_context():
            self.image_backbone = build_backbone(c.image_backbone)
            self.clip_head = ProjectionHead(channels, c.hidden, c.dim)
            self.image_head = ProjectionHead(feature_shape(self.image_backbone, 1, c.size)[0], c.hidden, c.dim)
        if c.uses_motion():
            self.build_motion(channels, tuple(grid))
        if c.supervised:
            self.classifier = nn.Sequential(nn.Dropout(c.classifier_dropout), nn.Linear(channels, classes))

    report = report

    @classmethod
    def for_videos(cls, config: ContextMotionConfig, videos: TrainingVideos) -> ContextMotion:
        return cls(config, classes=len(class_names(videos.usable)))

    def build_motion(self, channels: int, grid: tuple[int, int, int]) -> None:
        """M-network and predictor, and the heads behind them; values are predicted without an M-network."""
        c = self.config
        motion_backbone = build_backbone(c.motion_backbone, inputs=VECTOR_CHANNELS)
        motion_channels, *motion_grid = feature_shape(motion_backbone, c.motion_frames, c.size, VECTOR_CHANNELS)
        self.motion_grid = tuple(motion_grid)
        shapes = channels, motion_channels, grid, self.motion_grid
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
        if c.motion_loss == "infonce":
            self.motion_backbone = motion_backbone
            self.motion_head = ProjectionHead(motion_channels, c.hidden, c.dim)
            self.prediction_head = ProjectionHead(motion_channels, c.hidden, c.dim)
        else:
            outputs = VECTOR_CHANNELS * (c.levels if c.motion_loss == "cross-entropy" else 1)
            self.prediction_head = nn.Sequential(
                nn.Linear(motion_channels, c.hidden), nn.ReLU(inplace=True), nn.Linear(c.hidden, outputs)
            )

    def prepare(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Clips, key frames, motion clips and labels; None where no loss needs them."""
        c, clip = self.config, cut_clip(self.config, batch)
        image = cut_key_frame(c, batch) if c.uses_context() else None
        motion = cut_motion(c, batch) if c.uses_motion() else None
        return clip, image, motion, batch["label"] if c.supervised else None

    def losses(self, clip: Tensor, image: Tensor | None, motion: Tensor | None, labels: Tensor | None) -> Step:
        """From clips, key frames and motion clips to the losses and accuracies."""
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
        return Step(losses, shown)

    def weight(self, name: str) -> float:
        """J = (1 - alpha) J_I + alpha J_M (Eq. 3), or the classifier's loss with its regulariser."""
        c = self.config
        return {"context": 1 - c.alpha, "motion": c.regularise if c.supervised else c.alpha, "class": 1.0}[name]

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
            values = functional.adaptive_avg_pool3d(motion[:, 0], self.motion_grid).permute(0, 2, 3, 4, 1)
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

    def forward(self, clips: Tensor) -> Tensor:
        """Logits `[B, classes]` of clips, for --supervised."""
        return self.classifier(pooled(self.backbone(clips)))
