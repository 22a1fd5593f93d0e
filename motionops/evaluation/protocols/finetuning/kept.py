"""What a supervised training leaves in its folder: backbone, layer and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from motionops.commandline import say
from motionops.errors import UserError
from motionops.evaluation.kept_backbone import keep_backbone
from motionops.evaluation.protocols.classification import Classification
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.written.metrics_file import write_metrics
from motionops.evaluation.written.report_files import write_classification


def keep(config: FinetuneConfig, module: SupervisedClassifier, result: Classification, metrics: dict[str, Any]) -> None:
    """Write the network, and the files of the scores beside it."""
    save_network(config, module)
    write_metrics(metrics, config.output)
    write_classification(result, config.output)


def save_network(config: FinetuneConfig, module: SupervisedClassifier) -> None:
    """Write the trained parts where others find them: the backbone as a method's run does, the layer beside it."""
    if hasattr(module.backbone, "name"):
        keep_backbone(config, module)
    layer = {name: value.detach().cpu() for name, value in module.classifier.state_dict().items()}
    if module.pool is not None:
        layer |= {f"pool.{name}": value.detach().cpu() for name, value in module.pool.state_dict().items()}
    torch.save({**layer, "classes": list(config.classes)}, config.output / "classifier.pt")
    say(f"written: {config.output}/ (last.ckpt, classifier.pt, metrics.json, metrics.csv, confusion.png, ...)")


def guard_backbone(config: FinetuneConfig) -> None:
    """UserError where the run would overwrite the file that it starts from."""
    file = Path(config.backbone.rpartition(":")[2])
    if file.is_file() and file.resolve().parent == Path(config.output).resolve():
        raise UserError(f"--output: {config.output} is the folder of --backbone {file}, which the run would overwrite")
