"""J_M: the M-network, the predictor and their losses, of the method and of the regulariser of a supervised training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import motionops
from motionops.contrast import InfoNCE
from motionops.methods.context_motion.ablations import value_loss
from motionops.methods.context_motion.feature_prediction import ConvGRUPredictor, TransformerPredictor
from motionops.methods.context_motion.flags import VECTOR_CHANNELS, ContextMotionConfig
from motionops.models import ProjectionHead, build_backbone
from motionops.models.shapes import feature_shape
from motionops.models.shuffled_batch_norm import forward_in_groups, group_sizes
from motionops.ranks import gather_own_first


class MotionPrediction:
    """What a module has that predicts motion; the module has a `config` and calls `build_motion`."""

    config: ContextMotionConfig

    def build_motion(self, channels: int, grid: tuple[int, int, int]) -> None:
        """M-network and predictor, and the heads behind them; values are predicted without an M-network."""
        c = self.config
        motion_backbone = build_backbone(c.motion_backbone, inputs=VECTOR_CHANNELS)
        motion_channels, *motion_grid = feature_shape(motion_backbone, c.steps(), c.size, VECTOR_CHANNELS)
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
        maps = forward_in_groups(self.motion_backbone, motion.flatten(0, 1), c.group * clips)
        key = self.motion_head(maps.permute(0, 2, 3, 4, 1)).unflatten(0, (batch, clips))
        further = key[:, 1:].flatten(0, 4) if clips > 1 else None
        loss, rank = self.pairwise(batch, predicted.flatten(0, 3), key[:, 0].flatten(0, 3), further)
        return loss, (rank == 0).float().mean()

    def pairwise(self, videos: int, query: Tensor, key: Tensor, further: Tensor | None = None) -> InfoNCE:
        """`pairwise_infonce` of so many videos' rows over the batch that --negatives names.

        `further` keys, as many of each video, are negatives of every row.
        """
        c = self.config
        if c.negatives == "group":
            return self.pairwise_in_groups(videos, query, key, further)
        if c.negatives == "ranks":
            key = gather_own_first(key)
            further = None if further is None else gather_own_first(further)
        if further is not None:
            key = torch.cat([key, further])
        return motionops.pairwise_infonce(query, key, temperature=c.temperature)

    def pairwise_in_groups(self, videos: int, query: Tensor, key: Tensor, further: Tensor | None) -> InfoNCE:
        """`pairwise_infonce` of each --group of videos by itself, as a GPU's, and the mean over them."""
        results, start = [], 0
        for size in group_sizes(videos, self.config.group):
            rows = slice(start * len(query) // videos, (start + size) * len(query) // videos)
            keys = key[rows]
            if further is not None:
                more = len(further) // videos
                keys = torch.cat([keys, further[start * more : (start + size) * more]])
            results.append(motionops.pairwise_infonce(query[rows], keys, temperature=self.config.temperature))
            start += size
        weights = [len(result.rank) / len(query) for result in results]
        loss = sum(weight * result.loss for weight, result in zip(weights, results, strict=True))
        return InfoNCE(loss, torch.cat([result.rank for result in results]))
