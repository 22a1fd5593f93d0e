"""The backbone of a run as a file, with what its clips were and what trained it."""

from __future__ import annotations

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.models import save_backbone
from motionops.training.config import TrainConfig
from motionops.training.method import Method


def keep_backbone(config: TrainConfig, module: Method, name: str = "backbone.safetensors") -> None:
    """Write the backbone into the run's folder, in a form that every command of ``evaluate`` takes."""
    header = ClipRecipe.of_run(config).header()
    save_backbone(module.backbone, config.output / name, **header, **module.made_by())
