"""Context-Motion Decoupling (Huang et al., CVPR 2021): the networks and the losses, equation by equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motionops.methods.context_motion.flags import ContextMotionConfig
from motionops.methods.context_motion.motion_prediction import MotionPrediction
from motionops.methods.context_motion.pictures import report
from motionops.methods.context_motion.views import CLIP, cut_clip, cut_key_frame, cut_motion
from motionops.models import ProjectionHead, build_backbone, starting_backbone
from motionops.models.pathway import pooled
from motionops.models.shapes import feature_shape
from motionops.models.shuffled_batch_norm import forward_in_groups
from motionops.training.method import Batch, Method, Step


class ContextMotion(MotionPrediction, Method):
    """The networks V, I and M, the predictor, the heads and the losses.

    Args:
        config: the flags.
        backbone: the V-network, `[B, 3, T, S, S] -> [B, C1, T1, H1, W1]`, any module; by default the one that the
            flags name.
    """

    def __init__(self, config: ContextMotionConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        c = config
        self.clips_per_step = c.batch_size
        self.backbone = starting_backbone(c.backbone, c.init, backbone)
        channels, *grid = feature_shape(self.backbone, c.frames, c.size)
        if c.uses_context():
            self.image_backbone = build_backbone(c.image_backbone)
            self.clip_head = ProjectionHead(channels, c.hidden, c.dim)
            self.image_head = ProjectionHead(feature_shape(self.image_backbone, 1, c.size)[0], c.hidden, c.dim)
        if c.uses_motion():
            self.build_motion(channels, tuple(grid))

    report = report

    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Clips, key frames and motion clips; None where no loss needs them."""
        c, clip = self.config, cut_clip(self.config, batch)
        image = cut_key_frame(c, batch) if c.uses_context() else None
        motion = cut_motion(c, batch, batch.extents[:, CLIP]) if c.uses_motion() else None
        return clip, image, motion

    def losses(self, clip: Tensor, image: Tensor | None, motion: Tensor | None) -> Step:
        """From clips, key frames and motion clips to the losses and accuracies."""
        c = self.config
        features = forward_in_groups(self.backbone, clip, c.group)
        losses, shown = {}, {}
        if c.uses_context():
            losses["context"], shown["accuracy_context"] = self.context_loss(features, image)
        if c.uses_motion():
            losses["motion"], shown["accuracy_motion"] = self.motion_loss(features, motion)
        shown["accuracy"] = torch.stack(list(shown.values())).mean()
        return Step(losses, shown)

    def weight(self, name: str) -> float:
        """J = (1 - alpha) J_I + alpha J_M (Eq. 3)."""
        return {"context": 1 - self.config.alpha, "motion": self.config.alpha}[name]

    def context_loss(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """J_I (Eq. 1): a clip against the key frames of the batch; loss and the share of clips that find theirs."""
        query = self.clip_head(pooled(features))
        key = self.image_head(pooled(forward_in_groups(self.image_backbone, image, self.config.group)))
        loss, rank = self.pairwise(len(query), query, key)
        return loss, (rank == 0).float().mean()
