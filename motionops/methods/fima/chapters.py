"""What FIMA adds to the pictures of its run's backbone: the foreground, and what the motion decoder matches."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import torch

from motionops.evaluation.pictures import clip_similarities, point_attention, similarity_picture
from motionops.evaluation.pictures.book.activity import foreground_section
from motionops.evaluation.pictures.book.shown_clips import shown_clips
from motionops.evaluation.pictures.book.subject import PictureSubject, RunParts
from motionops.evaluation.pictures.page import Picture, Section
from motionops.methods.fima.flags import FIMAConfig
from motionops.methods.fima.method import FIMA
from motionops.models.activation import above_quantile, activation_map
from motionops.models.pathway import pooled
from motionops.training.checkpoint import NAME

VIDEOS, CLIPS = 50, 10  # Section 4.4


def run_parts(run: Path) -> RunParts:
    """What the pictures of a run's backbone get from its last.ckpt: momentum encoder, foreground, motion decoder."""
    checkpoint = torch.load(run / NAME, map_location="cpu", weights_only=True)
    flags = {field.name for field in dataclasses.fields(FIMAConfig)}
    given = {name: value for name, value in checkpoint["motionops"]["config"].items() if name in flags}
    fima = FIMA(FIMAConfig(**{**given, "init": None}))  # what it began with is in the checkpoint, changed
    fima.load_state_dict(checkpoint["state_dict"])
    fima.eval()
    return RunParts(fima.path.key_backbone, tuple(partial(each, fima) for each in CHAPTERS))


def foreground_chapter(fima: FIMA, of: PictureSubject, folder: Path) -> Section | None:
    """What the run's momentum encoder takes for foreground (Fig. 8)."""
    if of.maps is None:
        return None
    rgb, difference = (of.run_network(fima.path.key_backbone, clips) for clips in of.modalities())
    source = {"both": "RGB and frame difference added", "rgb": "RGB", "difference": "frame difference"}
    text = f"FIMA's mask (Eq. 6): momentum encoder, activation of {source[fima.config.mask_source]}."
    quantile = 1 - fima.config.foreground_ratio
    others = {"RGB": rgb, "frame difference": difference}
    others = {name: above_quantile(activation_map(maps), quantile) for name, maps in others.items()}
    return foreground_section(of, fima.foreground(rgb, difference), text, folder, others)


def similarity_chapter(fima: FIMA, of: PictureSubject, folder: Path) -> Section | None:
    """How alike a video's clips are in RGB and in motion (Fig. 5b)."""
    count = min(VIDEOS, len(of.test.videos))
    videos = [of.test.videos[place] for place in torch.linspace(0, len(of.test.videos) - 1, count).long().tolist()]
    taken = [shown_clips(videos, of.clip_settings, place=place / (CLIPS - 1)) for place in range(CLIPS)]
    if of.maps is None or len({len(clips.videos) for clips in taken}) > 1:
        return None
    networks = fima.backbone, fima.path.key_backbone
    rgb, motion = (
        torch.stack([pooled(of.run_network(network, of.modalities(clips)[side])) for clips in taken], dim=1)
        for side, network in enumerate(networks)
    )
    values = clip_similarities(rgb, motion)
    file = similarity_picture([values], ["RGB and frame difference"], folder / "similarity.png")
    text = (
        f"Cosine of a clip's RGB feature with the momentum encoder's feature of the frame difference of each clip of "
        f"its video, {CLIPS} clips of {count} test videos (FIMA, figure 5b): "
        f"mean {float(values.mean()):.2f}, deviation {float(values.std()):.2f}."
    )
    return Section("How alike clip and motion are", text, (), [Picture(file, "The bar is the mean.")])


def attention_chapter(fima: FIMA, of: PictureSubject, folder: Path) -> Section | None:
    """What a cell attends to in another clip, in the motion decoder (Fig. 7)."""
    if fima.decoder is None:
        return None
    other = shown_clips(of.clips.videos, of.clip_settings, place=0.0)
    if len(other.videos) != len(of.clips.videos):
        return None
    maps = [of.run_network(fima.backbone, clips) for clips in (of.clips.clips, other.clips)]
    with torch.no_grad():
        *_, weights = fima.decoder.cpu()(*maps, return_attention=True)  # [B, T, N, M]
    height, width = maps[0].shape[3:]
    activation = activation_map(maps[0]).flatten(1)
    first = int(fima.decoder.cls_token is not None)
    middle = maps[0].shape[2] // 2
    frame = (2 * middle + 1) * of.clips.pictures.shape[1] // (2 * maps[0].shape[2])
    pictures = []
    for name, cells in (("foreground", activation.argmax(dim=1)), ("background", activation.argmin(dim=1))):
        points = torch.stack([(cells // width + 0.5) / height, (cells % width + 0.5) / width], dim=1)
        looked = weights[torch.arange(len(cells)), middle, first + cells].unflatten(1, (height, width))
        labels = [video.label for video in of.clips.videos]
        source, target = of.clips.pictures[:, frame], other.pictures[:, frame]
        title = f"What the {name} cell attends to in another clip"
        file = folder / f"attention_{name}.png"
        point_attention(source, points, target, looked, file, labels, title=title)
        pictures.append(Picture(file, f"The {name} cell in the circle, and what it attends to in another clip."))
    text = "The motion decoder's last layer, averaged over its heads (FIMA, figure 7)."
    return Section("What the motion decoder matches", text, (), pictures)


CHAPTERS = (foreground_chapter, similarity_chapter, attention_chapter)
