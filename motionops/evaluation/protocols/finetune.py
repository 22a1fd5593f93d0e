"""Supervised training on top of a backbone, with the machinery of the five methods: resumable, on any devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import say, warn
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.protocols.attentive import AttentivePool
from motionops.evaluation.protocols.classification import (
    Classification,
    ClipProbabilities,
    classification_metrics,
    classification_warnings,
)
from motionops.evaluation.protocols.finetune_config import FinetuneConfig
from motionops.evaluation.protocols.rand_augment import rand_augment
from motionops.evaluation.protocols.splits import class_warnings, split_warnings
from motionops.evaluation.written.metrics_file import notes, write_metrics
from motionops.evaluation.written.report_files import write_classification
from motionops.models import save_backbone
from motionops.training.data.videos import TrainingVideos, checked
from motionops.training.method import Method, Step
from motionops.training.run import train
from motionops.video import Batch, KnownVideo, Plan, Video, VideoDataset
from motionops.video.lists import check_lists
from motionops.views.even_clips import hold_last


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


class DrawClip:
    """What is drawn of a video: the frames of a clip, where it is cut out of them, and how it looks."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.config = config

    def frames(self, length: int, generator: torch.Generator) -> Tensor:
        """``[1, T]`` at a random place; the last frame is held where the video is too short."""
        c = self.config
        span = (c.frames - 1) * c.stride + 1
        start = int(torch.randint(max(length - span, 0) + 1, (), generator=generator))
        return hold_last(start + c.stride * torch.arange(c.frames), length)[None]

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        c, numbers = self.config, self.frames(video.frames, generator)
        extents = motionops.sample_extents(
            1,
            frames=1,  # the frames are chosen already; the extent's t row is not looked at
            frame_count=1,
            height=video.height,
            width=video.width,
            scale=c.crop_area,
            mirror=c.mirror,
            generator=generator,
        )
        return Plan(numbers, extents[0], c.look(1, generator)[0])


def make_dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset:
    """One clip of each video at a random place; the last frame is held where the video is too short."""
    return config.dataset(videos, DrawClip(config), classes=config.classes)


def finetune(
    config: FinetuneConfig,
    train_list: Sequence[Video],
    test_list: Sequence[Video],
    *,
    protocol: str = "finetune",
    more: dict[str, Any] | None = None,
    regulariser: type[Regulariser] | None = None,
) -> tuple[int, dict | None]:
    """Train a classifier on labelled videos and classify the test videos, each by the mean over its clips' softmax.

    Args:
        config: everything else; ``classes`` is filled in here. Its ``output`` gets what the methods' trainers write
            (last.ckpt, metrics.csv, ...) and ``backbone.safetensors`` (of this library's networks),
            ``classifier.pt`` (the layer and its classes), ``metrics.json``, ``predictions.csv``, ``classes.csv``,
            ``confusion.csv`` and ``confusion.png``.
        train_list, test_list: labelled videos. Those that cannot be used are skipped, up to a tenth of them.
        protocol: its name in metrics.json.
        more: goes into metrics.json, behind the protocol.
        regulariser: adds its loss, weighted by ``config.regularise_motion``.

    Returns:
        Exit status as of :func:`motionops.training.run.train`, and what metrics.json holds (None where the run was
        stopped, and in all processes but the first).

    Raises:
        UserError: what the user can mend.
    """
    config.check()
    check_lists(train_list, test_list)
    if len({video.label for video in train_list}) < 2:
        raise UserError("a classifier needs two classes with training videos, got 1")
    guard_backbone(config)
    split = split_warnings(train_list, test_list)
    found: list[dict] = []

    window = config.window() if regulariser is None else regulariser.window(config)
    least = 1 if config.short == "hold" else window

    def find(_: FinetuneConfig, progress: bool) -> TrainingVideos:
        usable, skipped = checked(config, train_list, None, progress, least)
        if progress:
            for line in split:
                warn(line)
        return TrainingVideos(usable, skipped, list(test_list))

    def conclude(config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos, _: VideoDataset) -> None:
        result, test, settings = classify(config, module, videos)
        warnings = class_warnings(videos.usable, test.videos, train_list, test_list)
        warnings += classification_warnings(len({video.label for video in videos.usable}))
        warnings += collapse_warnings(test.features, what="scores")
        skipped = [*videos.skipped, *module.failed, *test.skipped]
        metrics = {
            "protocol": protocol,
            **(more or {}),
            **result.metrics,
            "training": {"steps": module.step, "epochs": config.epochs, **module.metrics},
            **notes(skipped, [*split, *warnings], settings),
        }
        for line in warnings:
            warn(line)
        save_network(config, module)
        write_metrics(metrics, config.output)
        write_classification(result, config.output)
        found.append(metrics)

    def build(config: FinetuneConfig, _: TrainingVideos) -> SupervisedClassifier:
        return SupervisedClassifier(config, regulariser)

    def dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset:
        if regulariser is None:
            return make_dataset(config, videos)
        made = regulariser.make_dataset(config, videos)
        made.least_frames = window if config.short == "hold" else 0
        return made

    status = train(config, build, dataset, conclude, find)
    return status, found[0] if found else None


def classify(
    config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos
) -> tuple[Classification, Any, dict[str, Any]]:
    """The test videos' scores, judged; the videos that they are of; the settings of their clips."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
        progress=True,
    )
    # The classifier has a column for each class of the list; those whose videos were all skipped are no candidates.
    present = {video.label for video in videos.usable}
    kept = [place for place, name in enumerate(config.classes) if name in present]
    trained = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "warmup_epochs", "dropout")
    trained += ("crop_area", "grayscale", "jitter", "blur", "mirror", "freeze", "pooling", "seed", "accumulate")
    trained += ("normalise", "nesterov", "clip_gradient", "rand_augment", "warmup_start", "regularise_motion")
    settings |= {name: getattr(config, name) for name in trained} | {"milestones": list(config.milestones)}
    settings["trained_size"] = config.size
    return classification_metrics(test.features[:, kept], test.videos, videos.usable), test, settings


def save_network(config: FinetuneConfig, module: SupervisedClassifier) -> None:
    """Write the trained parts where others find them: the backbone as a method's run does, the layer beside it."""
    if hasattr(module.backbone, "name"):
        header = ClipRecipe.of_run(config).header()
        save_backbone(module.backbone, config.output / "backbone.safetensors", **header, **module.made_by())
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
