"""What FIMA adds to the pictures of its run's backbone: the foreground, and what the motion decoder matches."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import torch

from motionops.evaluation.pictures import point_attention
from motionops.evaluation.pictures.page import Picture, Section
from motionops.evaluation.pictures.picture_book import foreground_section
from motionops.evaluation.pictures.picture_subject import PictureSubject, RunParts
from motionops.evaluation.pictures.shown_clips import shown_clips
from motionops.methods.fima.flags import FIMAConfig
from motionops.methods.fima.method import FIMA
from motionops.models.activation import activation_map
from motionops.training.checkpoint import NAME


def run_parts(run: Path) -> RunParts:
    """What the pictures of a run's backbone get from its last.ckpt: momentum encoder, foreground, motion decoder."""
    checkpoint = torch.load(run / NAME, map_location="cpu", weights_only=True)
    flags = {field.name for field in dataclasses.fields(FIMAConfig)}
    given = {name: value for name, value in checkpoint["motionops"]["config"].items() if name in flags}
    fima = FIMA(FIMAConfig(**given))
    fima.load_state_dict(checkpoint["state_dict"])
    fima.eval()
    return RunParts(fima.path.key_backbone, (partial(foreground_chapter, fima), partial(attention_chapter, fima)))


def foreground_chapter(fima: FIMA, of: PictureSubject, folder: Path) -> Section | None:
    """What the run's momentum encoder takes for foreground (Fig. 8)."""
    if of.maps is None:
        return None
    mask = fima.foreground(*(of.run_network(fima.path.key_backbone, clips) for clips in of.modalities()))
    text = "FIMA's mask (Eq. 6): momentum encoder, activation of RGB and frame difference added."
    return foreground_section(of, mask, text, folder)


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
        file = point_attention(source, points, target, looked, folder / f"attention_{name}.png", labels)
        pictures.append(Picture(file, f"The {name} cell in the circle, and what it attends to in another clip."))
    text = "The motion decoder's last layer, averaged over its heads (FIMA, figure 7)."
    return Section("What the motion decoder matches", text, (), pictures)
