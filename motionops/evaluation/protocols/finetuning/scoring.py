"""What a trained classifier says of the test videos, by all processes of its run."""

from __future__ import annotations

from typing import Any

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.labelled_features import LabelledFeatures, labelled_features, only_helps
from motionops.evaluation.features.together import join_processes, own_device
from motionops.evaluation.protocols.classification import Classification, ClipProbabilities, classification_metrics
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.ranks import copy_from_first, gather_lists
from motionops.training.data.loading import require_alike
from motionops.training.data.manifest import TrainingVideos, fingerprint


def classify(
    config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos
) -> tuple[Classification, LabelledFeatures, dict[str, Any]] | None:
    """The test videos' scores, judged; what they are of; the settings of their clips.

    All processes of the run call, where they are a process group, and score a part each; None in all but the first.

    Raises:
        UserError: they have other test videos.
    """
    over_ranks = join_processes() > 1
    require_alike(gather_lists([{"test videos": fingerprint(videos.test)}]))
    copy_from_first(module)
    device = own_device()
    own = {"crops": config.crops, "short": config.short, "sampling": config.sampling}
    settings = ClipRecipe.of_run(config, size=config.test_size or config.size, **own).settings()
    settings["workers"] = config.workers
    test = labelled_features(
        ClipProbabilities(module.to(device)),
        videos.test,
        strict=config.strict,
        **settings,
        precision=config.precision,
        device=device,
        over_ranks=over_ranks,
        progress=True,
    )
    if only_helps({"over_ranks": over_ranks}):
        return None
    # The classifier has a column for each class of the list; those whose videos were all skipped are no candidates.
    present = {video.label for video in videos.usable}
    kept = [place for place, name in enumerate(config.classes) if name in present]
    trained = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "warmup_epochs", "dropout")
    trained += ("crop_area", "grayscale", "jitter", "blur", "mirror", "freeze", "pooling", "seed", "accumulate")
    trained += ("normalise", "nesterov", "clip_gradient", "rand_augment", "warmup_start", "regularise_motion")
    settings |= {name: getattr(config, name) for name in trained} | {"milestones": list(config.milestones)}
    settings["trained_size"] = config.size
    return classification_metrics(test.features[:, kept], test.videos, videos.usable), test, settings
