"""All pictures of a backbone, chapter by chapter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import motionops
from motionops.evaluation.features.collapse import all_same, collapse_warnings
from motionops.evaluation.pictures import (
    activation_overlay,
    affinity_matrix,
    affinity_picture,
    confusion_picture,
    drawing,
    foreground_overlay,
    map_columns,
    motion_inputs,
    motion_panels,
    moving_picture,
    scaled_activation,
    training_curves,
    tsne,
    tsne_picture,
)
from motionops.evaluation.pictures.gradcam import grad_cam
from motionops.evaluation.pictures.page import Picture, Section
from motionops.evaluation.pictures.picture_subject import PictureSubject
from motionops.evaluation.pictures.shown_clips import shown_clips
from motionops.evaluation.protocols.measure import draw_strips
from motionops.evaluation.protocols.retrieval import bootstrap_interval, chance_recall, first_hits
from motionops.evaluation.protocols.splits import class_warnings, split_warnings
from motionops.flow.clip_flow import clip_flow
from motionops.models.activation import above_quantile, activation_map
from motionops.video import class_names

_POINTS = 2000  # of a gallery that t-SNE places
_CLASSES = 20  # of the test set that t-SNE shows: more colours cannot be told apart
_AFFINITY_CLIPS = 50  # FIMA, section 4.4
_CHART, _STRIPS = 900, 640  # pixels: the least widths at which their text can be read


def chapters(of: PictureSubject, folder: str | os.PathLike) -> list[Section]:
    """Draw all pictures of a subject into a folder; the sections of a report, without those that would be empty."""
    own = (_foreground,) if of.parts is None else of.parts.chapters
    every = (*_FIRST, *own, _affinity, _training_pictures)
    drawn = [section for chapter in every if (section := chapter(of, Path(folder))) is not None]
    if numbers := drawing.numbers_shown():
        text = "Letters that no font has where the pictures were drawn, and the numbers that stand for them."
        drawn.append(Section("Numbers for letters", text, [("number", "letters"), *_numbered(numbers)]))
    return drawn


def _numbered(numbers: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(f"#{number}", letters) for letters, number in numbers.items()]


def _scores(of: PictureSubject, folder: Path) -> Section:
    hits = first_hits(of.test.features, of.test.labels, of.train.features, of.train.labels) < 1
    rate = chance_recall(of.test.labels, of.train.labels, (1,))["R@1"]
    rows = [["score", "per cent", "95 % interval", "chance"]]
    values = [("nearest training video is right (R@1)", 100 * float(hits.double().mean()), bootstrap_interval(hits))]
    rates = [rate]
    if of.result is not None:
        metrics = of.result.metrics
        values.append(("linear classifier on frozen features (top-1)", metrics["top1"], metrics["interval"]["top1"]))
        rates.append(metrics["chance"])
    for (what, score, (low, high)), guessed in zip(values, rates, strict=True):
        rows.append([what, f"{score:.1f}", f"{low:.1f} – {high:.1f}", f"{guessed:.1f}"])
    keys = ("clips", "crops", "frames", "stride", "size", "crop")
    clip = ", ".join(f"{key} {of.clip_settings[key]}" for key in keys if key in of.clip_settings)
    notes = split_warnings(of.train_list, of.test_list)
    notes += class_warnings(of.train.videos, of.test.videos, of.train_list, of.test_list)
    notes += collapse_warnings(of.train.features, of.test.features)
    text = (
        f"Backbone {of.name}; {len(of.train.videos)} training and {len(of.test.videos)} test videos of "
        f"{len(class_names(of.train.videos))} classes; {clip}."
    )
    return Section("Scores", " ".join([text, *(f"Note: {line}." for line in notes)]), rows)


def _curves(of: PictureSubject, folder: Path) -> Section | None:
    if of.run is None or not (of.run / "metrics.csv").exists():
        return None
    try:
        file = training_curves(of.run / "metrics.csv", folder / "training.png")
    except ValueError:  # a run shorter than --log-every has no curve
        return None
    return Section("Training", f"What {of.run} logged.", (), [Picture(file, "Every logged value by step.", _CHART)])


def _neighbours(of: PictureSubject, folder: Path) -> Section:
    draw_strips(of.train, of.test, folder / "retrieval.png")
    caption = "First column: test videos. Then their nearest training videos, ✓ of the same class, ✗ of another."
    return Section("Nearest videos", "", (), [Picture(folder / "retrieval.png", caption, _STRIPS)])


def _gallery(of: PictureSubject, folder: Path) -> Section | None:
    count = len(of.train.videos)
    if count < 3 or all_same(of.train.features):
        return None
    chosen = torch.linspace(0, count - 1, min(count, _POINTS)).long()
    points = tsne(of.train.features[chosen], of.seed)
    labels = [of.train.labels[place] for place in chosen.tolist()]
    title = f"t-SNE of {len(chosen)} training videos, by class"
    file = tsne_picture(points, labels, folder / "tsne.png", class_names(of.train.videos), title=title)
    text = "t-SNE of the videos' features: near points are alike, distances between groups mean little."
    pictures = [Picture(file, f"{len(chosen)} training videos by class.", _CHART), *_test_classes(of, folder)]
    return Section("Gallery", text, (), pictures)


def _test_classes(of: PictureSubject, folder: Path) -> list[Picture]:
    """The test videos of some classes, chosen by the seed where there are more (FIMA, figures 10 and 11)."""
    names = class_names(of.test.videos)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(of.seed))[:_CLASSES]
    names = [names[place] for place in sorted(order.tolist())]
    rows = [place for place, label in enumerate(of.test.labels) if label in set(names)][:_POINTS]
    if len(rows) < 3:
        return []
    labels = [of.test.labels[row] for row in rows]
    title = f"t-SNE of {len(rows)} test videos, by class"
    file = tsne_picture(tsne(of.test.features[rows], of.seed), labels, folder / "tsne_test.png", names, title=title)
    return [Picture(file, f"{len(rows)} test videos of {len(names)} classes.", _CHART)]


def _confusion(of: PictureSubject, folder: Path) -> Section | None:
    if of.result is None:
        return None
    file = confusion_picture(of.result.confusion, of.result.classes, folder / "confusion.png")
    caption = "Test videos by true class (lines) and the linear classifier's answer (columns)."
    return Section("Confusions", "", (), [Picture(file, caption, _CHART)])


def _activation(of: PictureSubject, folder: Path) -> Section | None:
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


def _evidence(of: PictureSubject, folder: Path) -> Section | None:
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


def _motion(of: PictureSubject, folder: Path) -> Section:
    middle = of.clips.middle
    pairs = torch.stack([of.clips.pictures[:, middle], of.clips.following], dim=1)
    flow = clip_flow(pairs)[:, 0]
    maps = motionops.motion_map(flow[:, None])[:, 0]
    whole = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(len(flow), 2, 2)
    titles = [video.label for video in of.clips.videos]
    named = [f"{title}, frame {number}" for title, number in zip(titles, of.clips.numbers[:, middle], strict=True)]
    file = motion_panels(of.clips.pictures[:, middle], flow, maps, whole, folder / "motion.png", named)
    inputs = motion_inputs(*pairs.unbind(dim=1), flow, motionops.flow_edges(flow), folder / "motion_inputs.png")
    said = "Frame, difference to the next, flow, flow edges: what MoDist's motion pathway can be given."
    pictures = [Picture(file, "Frame, flow, motion map."), Picture(inputs, said)]
    if of.clips.pictures.shape[1] > 1:
        flow = clip_flow(of.clips.pictures)[:, :-1]
        maps = motionops.motion_map(flow)
        shown = of.clips.pictures[:, :-1], flow, maps, folder / "motion.gif", titles
        pictures.append(Picture(moving_picture(*shown, numbers=of.clips.numbers[:, :-1]), "The same in time."))
    text = "TV-L1 flow from the middle frame to the next, as colours (the wheel is the key), and its motion map."
    return Section("What moves", text, (), pictures)


def _foreground(of: PictureSubject, folder: Path) -> Section | None:
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


def _affinity(of: PictureSubject, folder: Path) -> Section | None:
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
    return Section("Affinities of cells", text, (), [Picture(file, "Cells are numbered line by line.", _CHART)])


def _training_pictures(of: PictureSubject, _: Path) -> Section | None:
    reports = None if of.run is None else of.run / "report"
    if reports is None or not reports.is_dir():
        return None
    files = [file for file in sorted(reports.glob("*.png")) if file.name != "training.png"]
    if not files:
        return None
    pictures = [Picture(file, f"{file.stem}, drawn by the training when it ended.") for file in files]
    return Section("The training's own pictures", "", (), pictures)


_FIRST = (_scores, _curves, _neighbours, _gallery, _confusion, _activation, _evidence, _motion)
