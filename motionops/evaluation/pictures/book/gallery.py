"""Where the features of videos lie."""

from __future__ import annotations

from pathlib import Path

import torch

from motionops.evaluation.features.collapse import all_same
from motionops.evaluation.pictures import tsne, tsne_picture
from motionops.evaluation.pictures.book.subject import PictureSubject
from motionops.evaluation.pictures.page import CHART, Picture, Section
from motionops.video import class_names

_POINTS = 2000  # of a gallery that t-SNE places
_CLASSES = 20  # of the test set that t-SNE shows: more colours cannot be told apart


def gallery_chapter(of: PictureSubject, folder: Path) -> Section | None:
    count = len(of.train.videos)
    if count < 3 or all_same(of.train.features):
        return None
    chosen = torch.linspace(0, count - 1, min(count, _POINTS)).long()
    points = tsne(of.train.features[chosen], of.seed)
    labels = [of.train.labels[place] for place in chosen.tolist()]
    title = f"t-SNE of {len(chosen)} training videos, by class"
    file = tsne_picture(points, labels, folder / "tsne.png", class_names(of.train.videos), title=title)
    text = "t-SNE of the videos' features: near points are alike, distances between groups mean little."
    pictures = [Picture(file, f"{len(chosen)} training videos by class.", CHART), *_test_classes(of, folder)]
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
    return [Picture(file, f"{len(rows)} test videos of {len(names)} classes.", CHART)]
