"""What --monitor sees of a run that goes on: scores of its backbone, which is kept."""

from __future__ import annotations

import torch

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.kept_backbone import keep_backbone
from motionops.evaluation.protocols.knn import knn_scores
from motionops.evaluation.protocols.measure_retrieval import retrieval_metrics
from motionops.training.config import TrainConfig
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method

NEIGHBOURS = 20  # that vote


def measure_epoch(config: TrainConfig, videos: TrainingVideos, module: Method, epoch: int) -> dict[str, float]:
    """What --monitor notes of an epoch: R@1, and the accuracy of the nearest neighbours' vote; the backbone is kept."""
    keep_backbone(config, module, f"backbone-epoch-{epoch}.safetensors")
    settings = {**ClipRecipe.of_run(config).settings(), "workers": config.workers, "device": module.device}
    gallery, test = (labelled_features(module.backbone, part, **settings) for part in (videos.usable, videos.test))
    metrics, _ = retrieval_metrics(gallery, test, (1,))
    names = sorted(set(gallery.labels))
    classes = torch.tensor([names.index(label) for label in gallery.labels])
    # Not knn_accuracy: this is the first process alone, and the others do not gather.
    votes = knn_scores(test.features, gallery.features, classes, len(names), k=NEIGHBOURS).argmax(dim=1).tolist()
    right = sum(names[vote] == label for vote, label in zip(votes, test.labels, strict=True))
    return {"R@1": metrics["R@1"], "kNN": 100.0 * right / len(votes)}
