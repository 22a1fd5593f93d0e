"""All pictures of a backbone, chapter by chapter; what several chapters need is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import warn
from motionops.errors import UserError
from motionops.evaluation.classification import Classification, classified
from motionops.evaluation.features import CENTRE_CROP, MEAN, STD
from motionops.evaluation.fima_parts import FIMAParts, read_fima
from motionops.evaluation.gradcam import grad_cam
from motionops.evaluation.labelled_features import LabelledFeatures, labelled_features
from motionops.evaluation.linear import LinearClassifier, fit_linear
from motionops.evaluation.pictures import (
    activation_overlay,
    affinity_matrix,
    affinity_picture,
    confusion_picture,
    foreground_overlay,
    motion_panels,
    point_attention,
    scaled_activation,
    training_curves,
    tsne,
    tsne_picture,
)
from motionops.evaluation.pictures.page import Picture, Section
from motionops.evaluation.protocols import draw_strips
from motionops.evaluation.retrieval import bootstrap_interval, chance, first_hits
from motionops.evaluation.shown_clips import ShownClips, shown_clips
from motionops.evaluation.splits import class_warnings, recording, split_warnings
from motionops.learning.clip_flow import clip_flow
from motionops.learning.foreground import above_quantile, activation_map, foreground_mask
from motionops.video import Video, class_names

_FRAMES = 4  # of a clip that are drawn
_POINTS = 2000  # of a gallery that t-SNE places
_AFFINITY_CLIPS = 50  # FIMA, section 4.4
_CHART, _STRIPS = 900, 640  # pixels: the least widths at which their text can be read


class PictureBook:
    """Draws into a folder; a chapter gives the section of the report, or None where there is nothing to draw.

    Args:
        backbone: on its device.
        train, test: labelled videos.
        output: folder of the PNGs.
        settings: of ``extract_features``.
        name: of the backbone, as it was typed.
        run: folder of a training's run; None without one.
        shown: test videos whose frames are drawn, spread over the list.
        seed: of t-SNE and of the classifier's folds.
        strict: stop at a video that cannot be used.
    """

    def __init__(
        self,
        backbone: nn.Module,
        train: Sequence[Video],
        test: Sequence[Video],
        output: Path,
        settings: dict[str, Any],
        *,
        name: str,
        run: Path | None = None,
        shown: int = 6,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self.backbone, self.output, self.settings = backbone.eval(), Path(output), settings
        self.train_list, self.test_list = list(train), list(test)
        self.name, self.run, self.shown, self.seed, self.strict = name, run, shown, seed, strict
        self.clip_settings = {"crop": CENTRE_CROP, "mean": MEAN, "std": STD, **settings}

    def chapters(self) -> list[Callable[[], Section | None]]:
        return [
            self.scores, self.curves, self.neighbours, self.gallery, self.confusion, self.activation, self.evidence,
            self.motion, self.foreground, self.attention, self.affinity, self.training_pictures,
        ]  # fmt: skip

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
        return classified(self.classifier.scores(self.test.features), self.test.videos, self.train.videos)

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
    def fima(self) -> FIMAParts | None:
        return None if self.run is None else read_fima(self.run / "last.ckpt")

    @cached_property
    def drawn(self) -> Tensor:
        """Numbers of the frames that are drawn of each clip."""
        frames = self.clips.pictures.shape[1]
        return torch.linspace(0, frames - 1, min(frames, _FRAMES)).long()

    def run_network(self, network: nn.Module, clips: Tensor) -> Tensor:
        device = next(self.backbone.parameters(), torch.empty(0)).device
        with torch.no_grad():
            return torch.cat([network.to(device)(part.to(device)).float().cpu() for part in clips.split(8)])

    def file(self, name: str) -> Path:
        return self.output / f"{name}.png"

    def scores(self) -> Section:
        hits = first_hits(self.test.features, self.test.labels, self.train.features, self.train.labels) < 1
        rate = chance(self.test.labels, self.train.labels, (1,))["R@1"]
        rows = [["score", "per cent", "95 % interval", "chance"]]
        values = [
            ("nearest training video is right (R@1)", 100 * float(hits.double().mean()), bootstrap_interval(hits))
        ]
        rates = [rate]
        if self.result is not None:
            metrics = self.result.metrics
            values.append(
                ("linear classifier on frozen features (top-1)", metrics["top1"], metrics["interval"]["top1"])
            )
            rates.append(metrics["chance"])
        for (what, score, (low, high)), guessed in zip(values, rates, strict=True):
            rows.append([what, f"{score:.1f}", f"{low:.1f} – {high:.1f}", f"{guessed:.1f}"])
        keys = ("clips", "crops", "frames", "stride", "size", "crop")
        clip = ", ".join(f"{key} {self.clip_settings[key]}" for key in keys if key in self.clip_settings)
        notes = split_warnings(self.train_list, self.test_list)
        notes += class_warnings(self.train.videos, self.test.videos, self.train_list, self.test_list)
        text = (
            f"Backbone {self.name}; {len(self.train.videos)} training and {len(self.test.videos)} test videos of "
            f"{len(class_names(self.train.videos))} classes; {clip}."
        )
        return Section("Scores", " ".join([text, *(f"Note: {line}." for line in notes)]), rows)

    def curves(self) -> Section | None:
        if self.run is None or not (self.run / "metrics.csv").exists():
            return None
        try:
            file = training_curves(self.run / "metrics.csv", self.file("training"))
        except ValueError:  # a run shorter than --log-every has no curve
            return None
        return Section(
            "Training", f"What {self.run} logged.", (), [Picture(file, "Every logged value by step.", _CHART)]
        )

    def neighbours(self) -> Section:
        draw_strips(self.train, self.test, self.file("retrieval"))
        caption = "First column: test videos. Then their nearest training videos, ✓ of the same class, ✗ of another."
        return Section("Nearest videos", "", (), [Picture(self.file("retrieval"), caption, _STRIPS)])

    def gallery(self) -> Section | None:
        count = len(self.train.videos)
        if count < 3:
            return None
        chosen = torch.linspace(0, count - 1, min(count, _POINTS)).long()
        points = tsne(self.train.features[chosen], self.seed)
        labels = [self.train.labels[place] for place in chosen.tolist()]
        file = tsne_picture(points, labels, self.file("tsne"), class_names(self.train.videos))
        text = "t-SNE of the training videos' features: near points are alike, distances between groups mean little."
        return Section("Gallery", text, (), [Picture(file, f"{len(chosen)} training videos by class.", _CHART)])

    def confusion(self) -> Section | None:
        if self.result is None:
            return None
        file = confusion_picture(self.result.confusion, self.result.classes, self.file("confusion"))
        caption = "Test videos by true class (lines) and the linear classifier's answer (columns)."
        return Section("Confusions", "", (), [Picture(file, caption, _CHART)])

    def activation(self) -> Section | None:
        if self.maps is None:
            return None
        file = activation_overlay(
            self.clips.pictures[:, self.drawn],
            self.at_drawn(scaled_activation(self.maps)),
            self.file("activation"),
            [video.label for video in self.clips.videos],
        )
        text = "The mean of the feature map over its channels, scaled in each clip: class-agnostic, no label is used."
        return Section("Where the backbone is active", text, (), [Picture(file, "Red is most active, blue least.")])

    def evidence(self) -> Section | None:
        if self.maps is None or self.classifier is None:
            return None
        machine = self.classifier
        answers = machine.scores(self.maps.mean(dim=(2, 3, 4))).argmax(dim=1)
        device = next(self.backbone.parameters(), torch.empty(0)).device
        mean, scale, weight, bias = (
            part.to(device).float() for part in (machine.mean, machine.scale, machine.weight, machine.bias)
        )
        cam = grad_cam(
            self.backbone,
            self.clips.clips.to(device),
            lambda pooled: ((pooled - mean) / scale) @ weight.T + bias,
            answers.to(device),
        ).cpu()
        pairs = zip(self.clips.videos, answers.tolist(), strict=True)
        titles = [f"{machine.classes[answer]} (true: {video.label})" for video, answer in pairs]
        pictures = self.clips.pictures[:, self.drawn]
        file = activation_overlay(pictures, self.at_drawn(cam), self.file("gradcam"), titles)
        text = "Grad-CAM of the linear classifier's answer over the frozen feature map: red speaks for that class."
        return Section("What the answer rests on", text, (), [Picture(file, "The answer for this clip alone.")])

    def motion(self) -> Section:
        middle = self.clips.middle
        pairs = torch.stack([self.clips.pictures[:, middle], self.clips.following], dim=1)
        flow = clip_flow(pairs)[:, 0]
        maps = motionops.motion_map(flow[:, None])[:, 0]
        whole = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(len(flow), 2, 2)
        file = motion_panels(self.clips.pictures[:, middle], flow, maps, whole, self.file("motion"))
        text = "TV-L1 flow from the middle frame to the next, as colours (the wheel is the key), and its motion map."
        return Section("What moves", text, (), [Picture(file, "Frame, flow, motion map.")])

    def foreground(self) -> Section | None:
        if self.maps is None:
            return None
        if self.fima is not None:
            rgb, difference = (self.run_network(self.fima.key_backbone, clips) for clips in self.modalities())
            mask = foreground_mask(rgb, difference, self.fima.ratio)
            text = "FIMA's mask (Eq. 6): momentum encoder, activation of RGB and frame difference added."
        else:
            mask = above_quantile(activation_map(self.maps), 0.5)
            text = "Cells whose activation lies above its median: FIMA's mask (Eq. 6), of the RGB clip alone."
        labels = [video.label for video in self.clips.videos]
        file = foreground_overlay(self.clips.pictures[:, self.clips.middle], mask, self.file("foreground"), labels)
        return Section("Foreground", text, (), [Picture(file, "Frame, and the same without its background cells.")])

    def attention(self) -> Section | None:
        if self.fima is None or self.fima.decoder is None:
            return None
        other = shown_clips(self.clips.videos, self.clip_settings, place=0.0)
        if len(other.videos) != len(self.clips.videos):
            return None
        maps = [self.run_network(self.fima.backbone, clips) for clips in (self.clips.clips, other.clips)]
        with torch.no_grad():
            *_, weights = self.fima.decoder.cpu()(*maps, return_attention=True)  # [B, T, N, M]
        height, width = maps[0].shape[3:]
        activation = activation_map(maps[0]).flatten(1)
        first = int(self.fima.decoder.cls_token is not None)
        middle = maps[0].shape[2] // 2
        frame = (2 * middle + 1) * self.clips.pictures.shape[1] // (2 * maps[0].shape[2])
        pictures = []
        for name, cells in (("foreground", activation.argmax(dim=1)), ("background", activation.argmin(dim=1))):
            points = torch.stack([(cells // width + 0.5) / height, (cells % width + 0.5) / width], dim=1)
            looked = weights[torch.arange(len(cells)), middle, first + cells].unflatten(1, (height, width))
            labels = [video.label for video in self.clips.videos]
            source, target = self.clips.pictures[:, frame], other.pictures[:, frame]
            file = point_attention(source, points, target, looked, self.file(f"attention_{name}"), labels)
            pictures.append(Picture(file, f"The {name} cell in the circle, and what it attends to in another clip."))
        text = "The motion decoder's last layer, averaged over its heads (FIMA, figure 7)."
        return Section("What the motion decoder matches", text, (), pictures)

    def affinity(self) -> Section | None:
        if self.maps is None:
            return None
        count = min(_AFFINITY_CLIPS, len(self.test.videos))
        places = torch.linspace(0, len(self.test.videos) - 1, count).long().tolist()
        rgb_clips, difference_clips = self.modalities(
            shown_clips([self.test.videos[place] for place in places], self.clip_settings)
        )
        key = self.backbone if self.fima is None else self.fima.key_backbone
        rgb = self.run_network(self.backbone, rgb_clips)
        difference = self.run_network(key, difference_clips)
        matrices = [affinity_matrix(rgb, rgb), affinity_matrix(rgb, difference)]
        file = affinity_picture(matrices, ["RGB and RGB", "RGB and frame difference"], self.file("affinity"))
        seen = "the backbone" if self.fima is None else "the momentum encoder"
        text = (
            f"Cosine of every cell's feature with every other's, averaged over time and {count} clips (FIMA, "
            f"figure 5); the difference is seen by {seen}. A bright diagonal: a cell's motion is like its RGB feature."
        )
        return Section("Affinities of cells", text, (), [Picture(file, "Cells are numbered line by line.", _CHART)])

    def training_pictures(self) -> Section | None:
        folder = None if self.run is None else self.run / "report"
        if folder is None or not folder.is_dir():
            return None
        files = [file for file in sorted(folder.glob("*.png")) if file.name != "training.png"]
        if not files:
            return None
        pictures = [Picture(file, f"{file.stem}, drawn by the training when it ended.") for file in files]
        return Section("The training's own pictures", "", (), pictures)

    def modalities(self, clips: ShownClips | None = None) -> tuple[Tensor, Tensor]:
        """The clips as networks take them, and their frame differences likewise."""
        clips = clips or self.clips
        mean, std = (torch.as_tensor(self.clip_settings[key]).float().view(3, 1, 1, 1) for key in ("mean", "std"))
        return clips.clips, (motionops.frame_difference(clips.plain) - mean) / std

    def at_drawn(self, maps: Tensor) -> Tensor:
        """Of maps ``[N, T', h, w]`` those at the frames that are drawn."""
        frames = self.clips.pictures.shape[1]
        return maps[:, self.drawn * maps.shape[1] // frames]
