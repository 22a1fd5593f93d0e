"""What the pictures of a backbone are made of; what several of them need is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import warn
from motionops.errors import UserError
from motionops.evaluation.features.labelled_features import LabelledFeatures, labelled_features
from motionops.evaluation.pictures.book.shown_clips import ShownClips, shown_clips
from motionops.evaluation.pictures.page import Section
from motionops.evaluation.protocols.classification import Classification, classification_metrics
from motionops.evaluation.protocols.linear import LinearClassifier, fit_linear
from motionops.evaluation.protocols.splits import recording
from motionops.video import Video, class_names
from motionops.views.colour import KINETICS_MEAN, KINETICS_STD
from motionops.views.even_clips import CENTRE_CROP

_FRAMES = 4  # of a clip that are drawn


class RunParts(NamedTuple):
    """What a method adds to the pictures of its run's backbone.

    Attributes:
        key_backbone: momentum copy of the backbone, in eval mode.
        chapters: of the method's own, `(subject, folder) -> Section | None`.
    """

    key_backbone: nn.Module
    chapters: Sequence[Callable[[PictureSubject, Path], Section | None]]


class PictureSubject:
    """A backbone with its videos: features, classifier, a few clips and their maps.

    Args:
        backbone: on its device.
        train, test: labelled videos.
        settings: of ``extract_features``.
        name: of the backbone, as it was typed.
        run: folder of a training's run; None without one.
        parts: what the run's method adds.
        shown: test videos whose frames are drawn, spread over the list.
        seed: of t-SNE and of the classifier's folds.
        strict: stop at a video that cannot be used.
        beside: another backbone with the same videos, whose maps are drawn beside this one's.
    """

    def __init__(
        self,
        backbone: nn.Module,
        train: Sequence[Video],
        test: Sequence[Video],
        settings: dict[str, Any],
        *,
        name: str,
        run: Path | None = None,
        parts: RunParts | None = None,
        shown: int = 6,
        seed: int = 0,
        strict: bool = False,
        beside: PictureSubject | None = None,
    ) -> None:
        self.backbone, self.settings = backbone.eval(), settings
        self.train_list, self.test_list = list(train), list(test)
        self.name, self.run, self.shown, self.seed, self.strict = name, run, shown, seed, strict
        self.parts, self.beside = parts, beside
        self.clip_settings = {"crop": CENTRE_CROP, "mean": KINETICS_MEAN, "std": KINETICS_STD, **settings}

    @property
    def title(self) -> str:
        """The name, short enough to stand above a picture: a file with its folder; whole where both were the same."""
        whole = [self.name, self.beside.name] if self.beside is not None else [self.name]
        short = ["/".join(Path(name).parts[-2:]) for name in whole]
        return short[0] if len(set(short)) == len(short) else self.name

    @cached_property
    def train(self) -> LabelledFeatures:
        return labelled_features(self.backbone, self.train_list, strict=self.strict, **self.settings)

    @cached_property
    def test(self) -> LabelledFeatures:
        return labelled_features(self.backbone, self.test_list, strict=self.strict, **self.settings)

    @cached_property
    def classifier(self) -> LinearClassifier | None:
        groups = [recording(video.path) for video in self.train.videos]
        try:
            return fit_linear(
                self.train.features, self.train.labels, class_names(self.train.videos), groups=groups, seed=self.seed
            )
        except UserError as error:  # a single class
            warn(f"no classifier: {error}")
            return None

    @cached_property
    def result(self) -> Classification | None:
        if self.classifier is None:
            return None
        return classification_metrics(self.classifier.scores(self.test.features), self.test.videos, self.train.videos)

    @cached_property
    def clips(self) -> ShownClips:
        count = min(self.shown, len(self.test.videos))
        places = torch.linspace(0, len(self.test.videos) - 1, count).long().tolist()
        return shown_clips([self.test.videos[place] for place in places], self.clip_settings)

    @cached_property
    def maps(self) -> Tensor | None:
        """Feature maps ``[N, C, T', H', W']`` of the shown clips; None for a backbone that gives none."""
        maps = self.run_network(self.backbone, self.clips.clips)
        return maps if maps.ndim == 5 else None

    @cached_property
    def drawn(self) -> Tensor:
        """Numbers of the frames that are drawn of each clip."""
        frames = self.clips.pictures.shape[1]
        return torch.linspace(0, frames - 1, min(frames, _FRAMES)).long()

    def run_network(self, network: nn.Module, clips: Tensor) -> Tensor:
        device = next(self.backbone.parameters(), torch.empty(0)).device
        with torch.no_grad():
            return torch.cat([network.to(device)(part.to(device)).float().cpu() for part in clips.split(8)])

    def modalities(self, clips: ShownClips | None = None) -> tuple[Tensor, Tensor]:
        """The clips as networks take them, and their frame differences likewise."""
        clips = clips or self.clips
        mean, std = (torch.as_tensor(self.clip_settings[key]).float().view(3, 1, 1, 1) for key in ("mean", "std"))
        return clips.clips, (motionops.frame_difference(clips.plain) - mean) / std

    def at_drawn(self, maps: Tensor) -> Tensor:
        """Of maps ``[N, T', h, w]`` those at the frames that are drawn."""
        frames = self.clips.pictures.shape[1]
        return maps[:, self.drawn * maps.shape[1] // frames]
