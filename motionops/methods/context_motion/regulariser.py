"""Motion prediction as a regulariser of a supervised training (Table 6): J_M beside the classifier's loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.methods.context_motion.conclusion import require_vectors
from motionops.methods.context_motion.flags import PRESETS, ContextMotionConfig
from motionops.methods.context_motion.motion_prediction import MotionPrediction
from motionops.methods.context_motion.views import CLIP, DrawClips, coded_reader, cut_motion
from motionops.models.shapes import feature_shape
from motionops.training.data.videos import TrainingVideos
from motionops.video import Batch, KnownVideo, Plan, VideoDataset

SHARED = ("frames", "stride", "size", "crop_area", "grayscale", "jitter", "blur", "seed", "cache_gib", "batch_size")


def method_config(config: FinetuneConfig) -> ContextMotionConfig:
    """The method as its paper trains it, of the classifier's clips, with the motion loss alone."""
    shared = {name: getattr(config, name) for name in SHARED}
    return ContextMotionConfig(**{**vars(PRESETS["ucf101"]), **shared, "preset": "", "alpha": 1.0, "group": 0})


class MotionRegulariser(MotionPrediction, nn.Module):
    """J_M of a backbone's feature maps."""

    def __init__(self, config: FinetuneConfig, backbone: nn.Module) -> None:
        super().__init__()
        self.config = method_config(config)
        channels, *grid = feature_shape(backbone, config.frames, config.size)
        self.build_motion(channels, tuple(grid))

    def prepare(self, batch: Batch) -> Tensor:
        """The motion clips of a batch."""
        return cut_motion(self.config, batch, batch.extents)

    def forward(self, maps: Tensor, motion: Tensor) -> Tensor:
        """The loss of maps `[B, C, T, H, W]` and motion clips."""
        return self.motion_loss(maps, motion)[0]

    @staticmethod
    def window(config: FinetuneConfig) -> int:
        """Source frames that a video must have, where a shorter one does not hold its last."""
        return method_config(config).window()

    @staticmethod
    def make_dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset:
        """Clips with the motion that they predict, cut out and coloured as a classifier's training has them."""
        require_vectors(videos.usable)
        own = method_config(config)
        return own.dataset(videos, DrawOne(own, config.mirror), classes=config.classes, reader=coded_reader(own))


class DrawOne(DrawClips):
    """A clip and the motion clips of the loss; one extent and one look, the clip's."""

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        plan = super().__call__(video, generator)
        return replace(plan, extents=plan.extents[CLIP], appearance=plan.appearance[CLIP], cuts=[[0]])
