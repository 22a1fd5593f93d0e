"""The network of a supervised training, and its losses."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

import motionops
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.protocols.finetuning.attentive import AttentivePool
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.protocols.finetuning.rand_augment import rand_augment
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method, Step
from motionops.video import Batch, VideoDataset


class Regulariser(Protocol):
    """A further loss of a supervised training, of the backbone's feature maps: a method's module hands it over.

    Made of the configuration and the backbone; ``prepare(batch)`` makes what ``forward(maps, prepared)`` needs of a
    batch. Its data set's items hold what :func:`make_dataset`'s do, and more; ``window`` are the frames it needs.
    """

    def __init__(self, config: FinetuneConfig, backbone: nn.Module) -> None: ...
    def prepare(self, batch: Batch) -> Any: ...
    def __call__(self, maps: Tensor, prepared: Any) -> Tensor: ...
    @staticmethod
    def window(config: FinetuneConfig) -> int: ...
    @staticmethod
    def make_dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset: ...


class SupervisedClassifier(Method):
    """Backbone, mean over time and space, dropout, a linear layer; cross-entropy."""

    def __init__(self, config: FinetuneConfig, regulariser: type[Regulariser] | None = None) -> None:
        super().__init__(config)
        self.backbone, _ = named_backbone(config.backbone, config.seed)
        self.backbone.requires_grad_(not config.freeze)
        self.pool = AttentivePool(self.backbone.channels) if config.pooling == "attentive" else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.backbone.channels, len(config.classes))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        self.regulariser = None if regulariser is None else regulariser(config, self.backbone)
        self.clips_per_step = config.batch_size
        self.train()  # which Lightning does not call: it keeps each part's mode as it finds it

    def train(self, mode: bool = True) -> SupervisedClassifier:
        super().train(mode)
        if self.config.freeze:
            self.backbone.eval()
        return self

    def learning_rate(self) -> float:
        c = self.config
        warmup = c.warmup_epochs * self.steps_per_epoch
        if c.warmup_start and self.step < warmup:
            return c.warmup_start + (c.learning_rate - c.warmup_start) * self.step / warmup
        return super().learning_rate()

    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor, Any]:
        """The batch's frames as augmented clips ``[B, 3, T, S, S]``, their labels, and what the regulariser needs."""
        c = self.config
        colours = {"mean": 0.0, "std": 1.0} if c.rand_augment[0] else c.colours()
        clips = motionops.augment_clips(batch.view(0), batch.extents, c.size, batch.appearance, **colours)
        if c.rand_augment[0]:
            mean, std = (clips.new_tensor(values).view(3, 1, 1, 1) for values in (c.mean, c.std))
            clips = (rand_augment(clips, *c.rand_augment) - mean) / std
        return clips, batch.label, None if self.regulariser is None else self.regulariser.prepare(batch)

    def losses(self, clips: Tensor, labels: Tensor, further: Any = None) -> Step:
        maps = self.backbone(clips)
        logits = self.logits(maps)
        losses = {"class": nn.functional.cross_entropy(logits.float(), labels)}
        if self.regulariser is not None:
            losses["regulariser"] = self.regulariser(maps, further)
        return Step(losses, {"accuracy": (logits.argmax(dim=1) == labels).float().mean()})

    def weight(self, name: str) -> float:
        return self.config.regularise_motion if name == "regulariser" else 1.0

    def forward(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, S, S]`` -> logits ``[B, K]``."""
        return self.logits(self.backbone(clips))

    def logits(self, maps: Tensor) -> Tensor:
        """The backbone's maps ``[B, C, T', H', W']`` (or features) -> logits."""
        if self.pool is not None:
            features = self.pool(maps)
        else:
            features = maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps
        if self.config.normalise:
            features = nn.functional.normalize(features, dim=1)
        return self.classifier(self.dropout(features))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = super().configure_optimizers()
        for group in optimizer.param_groups:
            group |= {"nesterov": True} if self.config.nesterov else {}
        return optimizer
