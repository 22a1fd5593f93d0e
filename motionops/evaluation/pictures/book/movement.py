"""What moves in the clips."""

from __future__ import annotations

from pathlib import Path

import torch

import motionops
from motionops.evaluation.pictures import motion_inputs, motion_panels, moving_picture
from motionops.evaluation.pictures.book.subject import PictureSubject
from motionops.evaluation.pictures.page import Picture, Section
from motionops.flow.clip_flow import clip_flow


def motion_chapter(of: PictureSubject, folder: Path) -> Section:
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
