"""Where a backbone is active, what its answers rest on, and which cells it finds alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import motionops
from motionops.evaluation.pictures import (
    activation_overlay,
    affinity_matrix,
    affinity_picture,
    foreground_overlay,
    map_columns,
    scaled_activation,
)
from motionops.evaluation.pictures.book.shown_clips import shown_clips
from motionops.evaluation.pictures.book.subject import PictureSubject
from motionops.evaluation.pictures.gradcam import grad_cam
from motionops.evaluation.pictures.page import CHART, Picture, Section
from motionops.flow.clip_flow import clip_flow
from motionops.models.activation import above_quantile, activation_map

_AFFINITY_CLIPS = 50  # FIMA, section 4.4


def activation_chapter(of: PictureSubject, folder: Path) -> Section | None:
    if of.maps is None:
        return None
    file = activation_overlay(
        of.clips.pictures[:, of.drawn],
        of.at_drawn(scaled_activation(of.maps)),
        folder / "activation.png",
        [video.label for video in of.clips.videos],
        title="Where the backbone is active",
        quantity="activation, 0 to 1 in each clip",
        numbers=of.clips.numbers[:, of.drawn],
    )
    text = "The mean of the feature map over its channels, scaled in each clip: class-agnostic, no label is used."
    pictures = [Picture(file, "Yellow is most active, black least."), *_active_beside(of, folder)]
    return Section("Where the backbone is active", text, (), pictures)


def _active_beside(of: PictureSubject, folder: Path) -> list[Picture]:
    """The activation of both backbones, mean over time (FIMA, figures 3 and 4)."""
    if of.beside is None or of.beside.maps is None:
        return []
    maps = {each.title: scaled_activation(each.maps).mean(dim=1) for each in (of.beside, of)}
    file = map_columns(of.clips.pictures[:, of.clips.middle], maps, folder / "activation_beside.png")
    return [Picture(file, "The middle frame, and the mean over time of each backbone's activation.")]


def evidence_chapter(of: PictureSubject, folder: Path) -> Section | None:
    found = _class_activation(of)
    if found is None:
        return None
    titles, cam = found
    pictures = of.clips.pictures[:, of.drawn]
    file = activation_overlay(
        pictures,
        of.at_drawn(cam),
        folder / "gradcam.png",
        titles,
        title="What the classifier's answer rests on",
        quantity="Grad-CAM, of the clip's largest",
        numbers=of.clips.numbers[:, of.drawn],
    )
    # Pooled over time, beside what moves (MCL, figure 4).
    maps = {"S-motion": motionops.motion_map(clip_flow(of.clips.pictures)).mean(dim=1)}
    other = None if of.beside is None else _class_activation(of.beside)
    if other is not None:
        maps[of.beside.title] = other[1].mean(dim=1)
    maps[of.title] = cam.mean(dim=1)
    middle = of.clips.pictures[:, of.clips.middle]
    pooled = map_columns(middle, maps, folder / "gradcam_pooled.png", [video.label for video in of.clips.videos])
    text = "Grad-CAM of the linear classifier's answer over the frozen feature map: yellow speaks for that class."
    said = "The middle frame, the mean over time of its clip's motion map, and of Grad-CAM."
    return Section(
        "What the answer rests on",
        text,
        (),
        [Picture(file, "The answer for this clip alone."), Picture(pooled, said)],
    )


def _class_activation(of: PictureSubject) -> tuple[list[str], Tensor] | None:
    """What the linear classifier answers for each shown clip, and Grad-CAM of the answer `[N, T', h, w]`."""
    if of.maps is None or of.classifier is None:
        return None
    machine = of.classifier
    answers = machine.scores(of.maps.mean(dim=(2, 3, 4))).argmax(dim=1)
    device = next(of.backbone.parameters(), torch.empty(0)).device
    mean, scale, weight, bias = (
        part.to(device).float() for part in (machine.mean, machine.scale, machine.weight, machine.bias)
    )
    cam = grad_cam(
        of.backbone,
        of.clips.clips.to(device),
        lambda pooled: ((pooled - mean) / scale) @ weight.T + bias,
        answers.to(device),
    ).cpu()
    pairs = zip(of.clips.videos, answers.tolist(), strict=True)
    return [f"{machine.classes[answer]} (true: {video.label})" for video, answer in pairs], cam


def foreground_chapter(of: PictureSubject, folder: Path) -> Section | None:
    if of.maps is None:
        return None
    mask = above_quantile(activation_map(of.maps), 0.5)
    text = "Cells whose activation lies above its median: FIMA's mask (Eq. 6), of the RGB clip alone."
    return foreground_section(of, mask, text, folder)


def foreground_section(
    of: PictureSubject, mask: Tensor, text: str, folder: Path, others: Mapping[str, Tensor] | None = None
) -> Section:
    """The middle frames of the shown clips with and without what a mask `[N, h, w]` calls background, and by the masks
    of `others`, by their names."""
    labels, pictures = [video.label for video in of.clips.videos], []
    for name, each in {"": mask, **(others or {})}.items():
        file = folder / (f"foreground_{name.replace(' ', '_')}.png" if name else "foreground.png")
        title = f"Foreground, by the activation of {name}" if name else "Foreground"
        foreground_overlay(of.clips.pictures[:, of.clips.middle], each, file, labels, title=title)
        said = f", by the activation of {name} alone" if name else ""
        pictures.append(Picture(file, f"Frame, and the same without its background cells{said}."))
    return Section("Foreground", text, (), pictures)


def affinity_chapter(of: PictureSubject, folder: Path) -> Section | None:
    if of.maps is None:
        return None
    count = min(_AFFINITY_CLIPS, len(of.test.videos))
    places = torch.linspace(0, len(of.test.videos) - 1, count).long().tolist()
    rgb_clips, difference_clips = of.modalities(
        shown_clips([of.test.videos[place] for place in places], of.clip_settings)
    )
    key = of.backbone if of.parts is None else of.parts.key_backbone
    rgb = of.run_network(of.backbone, rgb_clips)
    difference = of.run_network(key, difference_clips)
    matrices = [affinity_matrix(rgb, rgb), affinity_matrix(rgb, difference)]
    file = affinity_picture(matrices, ["RGB and RGB", "RGB and frame difference"], folder / "affinity.png")
    seen = "the backbone" if of.parts is None else "the momentum encoder"
    text = (
        f"Cosine of every cell's feature with every other's, averaged over time and {count} clips (FIMA, "
        f"figure 5); the difference is seen by {seen}. A bright diagonal: a cell's motion is like its RGB feature."
    )
    return Section("Affinities of cells", text, (), [Picture(file, "Cells are numbered line by line.", CHART)])
