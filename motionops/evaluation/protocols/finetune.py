"""Supervised training on top of a backbone, with the machinery of the five methods: resumable, on any devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import say, warn
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.protocols.classification import (
    Classification,
    ClipProbabilities,
    classification_warnings,
    classified,
)
from motionops.evaluation.protocols.finetune_config import FinetuneConfig
from motionops.evaluation.protocols.splits import class_warnings, split_warnings
from motionops.evaluation.written.metrics_file import notes, write_metrics
from motionops.evaluation.written.report_files import write_classification
from motionops.models import save_backbone
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method, Step
from motionops.training.run import train
from motionops.video import Video, VideoDataset, check_videos, require_usable
from motionops.video.known_counts import default_file
from motionops.video.lists import check_lists
from motionops.views.even_clips import hold_last
from motionops.views.frames import of_each


class SupervisedClassifier(Method):
    """Backbone, mean over time and space, dropout, a linear layer; cross-entropy."""

    def __init__(self, config: FinetuneConfig) -> None:
        super().__init__(config)
        self.backbone, _ = named_backbone(config.backbone, config.seed)
        self.backbone.requires_grad_(not config.freeze)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.backbone.channels, len(config.classes))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
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

    def prepare(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The batch's frames as augmented clips ``[B, 3, T, S, S]``, and their labels."""
        c = self.config
        look = {"mean": c.mean, "std": c.std}
        clips = motionops.augment_clips(
            of_each(batch["frames"], 0), batch["extents"], c.size, batch["appearance"], **look
        )
        return clips, batch["label"]

    def losses(self, clips: Tensor, labels: Tensor) -> Step:
        logits = self(clips)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        return Step({"class": loss}, {"accuracy": (logits.argmax(dim=1) == labels).float().mean()})

    def forward(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, S, S]`` -> logits ``[B, K]``."""
        maps = self.backbone(clips)
        return self.classifier(self.dropout(maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps))


class DrawClip:
    """Where a training clip is cut out of its frames, and how it looks."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.config = config

    def __call__(self, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict[str, Any]:
        c, (height, width) = self.config, picture
        extents = motionops.sample_extents(
            1,
            frames=1,  # the frames are chosen already; the extent's t row is not looked at
            frame_count=1,
            height=height,
            width=width,
            scale=c.crop_area,
            mirror=c.mirror,
            generator=generator,
        )
        return {"extents": extents[0], "appearance": c.look(1, generator)[0]}


def make_dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset:
    """One clip of each video at a random place; the last frame is held where the video is too short."""

    def sample(length: int, generator: torch.Generator) -> Tensor:
        span = (config.frames - 1) * config.stride + 1
        start = int(torch.randint(max(length - span, 0) + 1, (), generator=generator))
        return hold_last(start + config.stride * torch.arange(config.frames), length)[None]

    return VideoDataset(
        videos.usable,
        sample,
        seed=config.seed,
        draw=DrawClip(config),
        cache_bytes=int(config.cache_gib * 2**30),
        classes=config.classes,
    )


def finetune(
    config: FinetuneConfig,
    train_list: Sequence[Video],
    test_list: Sequence[Video],
    *,
    protocol: str = "finetune",
    more: dict[str, Any] | None = None,
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

    def find(_: FinetuneConfig, progress: bool) -> TrainingVideos:
        usable, skipped = check_videos(train_list, config.window(), progress=progress, known=default_file())
        if progress:
            for line in split:
                warn(line)
            for video in skipped:
                warn(f"skipped {video.path}: {video.reason}")
        require_usable(usable, skipped, strict=config.strict)
        return TrainingVideos(usable, skipped, list(test_list))

    def conclude(config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos, _: VideoDataset) -> None:
        result, test, settings = classify(config, module, videos)
        warnings = class_warnings(videos.usable, test.videos, train_list, test_list)
        warnings += classification_warnings(len({video.label for video in videos.usable}))
        skipped = dict.fromkeys([*videos.skipped, *module.failed, *test.skipped])
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

    status = train(config, SupervisedClassifier.for_videos, make_dataset, conclude, find)
    return status, found[0] if found else None


def classify(
    config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos
) -> tuple[Classification, Any, dict[str, Any]]:
    """The test videos' scores, judged; the videos that they are of; the settings of their clips."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = ClipRecipe.of_run(config, crops=config.crops, short=config.short).settings()
    settings["workers"] = config.workers
    test = labelled_features(
        ClipProbabilities(module.to(device)),
        videos.test,
        strict=config.strict,
        **settings,
        precision="bf16" if config.precision == "bf16-mixed" else "32",
        device=device,
        progress=True,
    )
    # The classifier has a column for each class of the list; those whose videos were all skipped are no candidates.
    present = {video.label for video in videos.usable}
    kept = [place for place, name in enumerate(config.classes) if name in present]
    trained = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "warmup_epochs", "dropout")
    trained += ("crop_area", "grayscale", "jitter", "blur", "mirror", "freeze", "seed")
    settings |= {name: getattr(config, name) for name in trained} | {"milestones": list(config.milestones)}
    return classified(test.features[:, kept], test.videos, videos.usable), test, settings


def save_network(config: FinetuneConfig, module: SupervisedClassifier) -> None:
    """Write the trained parts where others find them: the backbone as a method's run does, the layer beside it."""
    if hasattr(module.backbone, "name"):
        header = ClipRecipe.of_run(config).header()
        save_backbone(module.backbone, config.output / "backbone.safetensors", **header)
    layer = {name: value.detach().cpu() for name, value in module.classifier.state_dict().items()}
    torch.save({**layer, "classes": list(config.classes)}, config.output / "classifier.pt")
    say(f"written: {config.output}/ (last.ckpt, classifier.pt, metrics.json, metrics.csv, confusion.png, ...)")


def guard_backbone(config: FinetuneConfig) -> None:
    """UserError where the run would overwrite the file that it starts from."""
    file = Path(config.backbone.rpartition(":")[2])
    if file.is_file() and file.resolve().parent == Path(config.output).resolve():
        raise UserError(f"--output: {config.output} is the folder of --backbone {file}, which the run would overwrite")
