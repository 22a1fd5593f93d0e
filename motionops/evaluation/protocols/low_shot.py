"""Low-shot: what is left of a score with a few labels of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motionops.evaluation.pictures import score_curve
from motionops.video import Video

SHARES = (1.0, 5.0, 20.0, 40.0, 60.0, 80.0, 100.0)  # MoDist, table 6


def few_videos(videos: Sequence[Video], share: float, seed: int) -> list[Video]:
    """``share`` per cent of the videos of each class, rounded, at least one; a smaller share is a part of a larger one.

    Which they are depends on the seed and the videos' folders and names, not on their order in the list.
    """
    by_class: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        by_class[video.label].append(video)
    chosen = set()
    for place, label in enumerate(sorted(by_class)):
        own = sorted(by_class[label], key=lambda video: Path(video.path).parts[-2:])
        order = np.random.default_rng((seed, place)).permutation(len(own))
        count = max(1, int(len(own) * share / 100 + 0.5))
        chosen |= {own[number] for number in order[:count]}
    return [video for video in videos if video in chosen]


def lowshot_metrics(found: dict[float, dict]) -> dict:
    """The scores of all shares; ``top1`` and the rest of the top level are those of the largest share."""
    largest = found[max(found)]
    kept = ("n_train", "top1", "top5", "mean_class", "interval", "chance", "majority")
    at = [{"share": share, **{name: metrics[name] for name in kept}} for share, metrics in found.items()]
    return {**largest, "protocol": "lowshot", "at": at}


def draw_lowshot(found: dict[float, dict], folder: Path) -> None:
    """lowshot.png: the accuracy of each share with its interval, and chance."""
    points = [(share, m["top1"], *m["interval"]["top1"]) for share, m in found.items()]
    chance = found[max(found)]["chance"]
    score_curve(points, folder / "lowshot.png", x="per cent of the training videos", y="top-1", chance=chance)
