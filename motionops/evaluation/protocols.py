"""Whole protocols: from a backbone and two lists of videos to the numbers in ``metrics.json``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from motionops.commandline import warn as print_warning
from motionops.errors import UserError
from motionops.evaluation.features import extract_features
from motionops.evaluation.probe import linear_probe
from motionops.evaluation.retrieval import (
    RECALL_AT,
    bootstrap_interval,
    chance,
    checked_ks,
    first_hits,
    majority,
    nearest,
)
from motionops.files import replace_text
from motionops.video import Skipped, Video, class_names, read_frames, require_usable

_STRIP_QUERIES, _STRIP_NEIGHBOURS = 6, 5


def evaluate_retrieval(
    backbone: nn.Module,
    train: Sequence[Video],
    test: Sequence[Video],
    *,
    output: str | os.PathLike | None = None,
    ks: Sequence[int] = RECALL_AT,
    strict: bool = False,
    probe: bool = False,
    picture: str | os.PathLike | None = None,
    warn: Callable[[str], None] = print_warning,
    **settings,
) -> dict:
    """Retrieve each test video's class among the training videos; the end of every trainer's run.

    Args:
        backbone: as in :func:`~motionops.evaluation.extract_features`.
        train, test: labelled videos: the gallery and the queries.
        output: folder where ``metrics.json`` is written (made if need be, replaced in one step); None writes nothing.
        ks: the k of recall at k.
        strict: stop at the first video that cannot be used, instead of skipping up to a tenth of them.
        probe: add ``probe``, the accuracy of :func:`~motionops.evaluation.linear_probe` on the same features.
        picture: a PNG of queries and their nearest videos.
        warn: called with one line for each thing that makes the score mean less than it seems.
        settings: those of ``extract_features`` (clips, frames, stride, size, still, shuffle_frames, ...).

    Returns:
        What ``metrics.json`` holds, scores in per cent: ``protocol``; ``R@k``; ``interval`` (95 % bootstrap interval
        over test videos for each ``R@k``); ``n_train``, ``n_test`` (videos used); ``classes``; ``chance`` (the R@1
        of random neighbours), ``chance_at`` (the same for each k), ``majority``; ``skipped`` and
        ``skipped_videos``; ``warnings``; ``settings``.

    Raises:
        UserError: an empty list, a video without a label, no class in common, too many unusable videos.
    """
    ks = tuple(sorted(set(checked_ks(ks))))
    check_lists(train, test)
    warnings = split_warnings(train, test)

    features, used, skipped = {}, {}, []
    for name, videos in (("train", train), ("test", test)):
        unusable: list[Skipped] = []
        # With `strict` the first unusable video is an error, instead of one line among many after an hour.
        features[name] = extract_features(backbone, videos, skipped=None if strict else unusable, **settings)
        paths = {video.path for video in unusable}
        used[name] = [video for video in videos if video.path not in paths]
        require_usable(used[name], unusable)
        skipped += unusable
    labels = {name: [video.label for video in videos] for name, videos in used.items()}
    if max(ks) > len(used["train"]):
        warnings.append(f"k above {len(used['train'])}, the number of training videos, means all of them")

    positions = first_hits(features["test"], labels["test"], features["train"], labels["train"])
    expected = chance(labels["test"], labels["train"], (1, *ks))
    metrics = {
        "protocol": "retrieval",
        **{f"R@{k}": 100.0 * float((positions < k).double().mean()) for k in ks},
        "interval": {f"R@{k}": list(bootstrap_interval(positions < k)) for k in ks},
        "n_train": len(used["train"]),
        "n_test": len(used["test"]),
        "classes": len(set(labels["train"])),
        "chance": expected["R@1"],
        "chance_at": {f"R@{k}": expected[f"R@{k}"] for k in ks},
        "majority": majority(labels["test"], labels["train"]),
    }
    if probe:
        metrics["probe"] = linear_probe(features["train"], labels["train"], features["test"], labels["test"])
    metrics |= {
        "skipped": len(skipped),
        "skipped_videos": [{"path": video.path, "reason": video.reason} for video in skipped],
        "warnings": warnings,
        "settings": {name: _plain(value) for name, value in settings.items() if name != "progress"},
    }
    for line in warnings:
        warn(line)
    if output is not None:
        write_metrics(metrics, output)
    if picture is not None:
        _draw_strips(features, used, picture)
    return metrics


def check_lists(train: Sequence[Video], test: Sequence[Video]) -> None:
    """Raise UserError where retrieval is impossible: an empty list, a video without a label, no class in common."""
    for name, videos in (("train", train), ("test", test)):
        if not videos:
            raise UserError(f"the {name} list holds no video")
        unlabelled = [video.path for video in videos if video.label is None]
        if unlabelled:
            raise UserError(
                f"the {name} list has {len(unlabelled)} videos without a label, the first is {unlabelled[0]}; "
                "retrieval needs the class of each"
            )
    if not {video.label for video in train} & {video.label for video in test}:
        raise UserError("train and test lists have no class in common; are both labelled by number or by name?")


def split_warnings(train: Sequence[Video], test: Sequence[Video]) -> list[str]:
    """What makes a score on these lists mean less than it seems, one line each.

    Videos in both lists; UCF101-style groups (``v_CLASS_gGG_cCC``: clips cut from one recording) in both lists;
    classes of the test list that the training list lacks, whose videos can only be wrong.
    """
    lines = []
    both = {os.path.realpath(v.path) for v in train} & {os.path.realpath(v.path) for v in test}
    if both:
        lines.append(f"{len(both)} videos are in both lists, the first is {min(both)}")
    groups = [{group for video in videos if (group := _group(video.path))} for videos in (train, test)]
    shared = sorted(groups[0] & groups[1])
    if shared:
        lines.append(
            f"{len(shared)} groups (clips of one recording) are in both lists, the first is {shared[0]}: "
            "the score counts recordings that were recognised"
        )
    known = set(class_names(train))
    lacking = [name for name in class_names(test) if name not in known]
    if lacking:
        count = sum(video.label in lacking for video in test)
        lines.append(
            f"{len(lacking)} classes of the test list are not in the training list ({', '.join(lacking[:5])}"
            f"{', ...' if len(lacking) > 5 else ''}): their {count} videos count as wrong"
        )
    return lines


def format_retrieval(metrics: dict) -> str:
    """The metrics of :func:`evaluate_retrieval` as a table for the terminal."""
    lines = [f"{'':<8}{'score':>8}{'95 % interval':>18}{'chance':>10}"]
    for name, (low, high) in metrics["interval"].items():
        lines.append(f"{name:<8}{metrics[name]:8.1f}{f'{low:.1f} - {high:.1f}':>18}{metrics['chance_at'][name]:10.1f}")
    if "probe" in metrics:
        lines.append(f"{'probe':<8}{metrics['probe']:8.1f}{'':>18}{metrics['majority']:10.1f}")
    lines.append(
        f"{metrics['n_test']} test videos, {metrics['n_train']} training videos, {metrics['classes']} classes, "
        f"{metrics['skipped']} skipped"
    )
    lines += [f"skipped {video['path']}: {video['reason']}" for video in metrics["skipped_videos"]]
    return "\n".join(lines)


def write_metrics(metrics: dict, folder: str | os.PathLike) -> Path:
    """Write ``metrics.json`` into ``folder``: beside and renamed, so that a reader never sees half of it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "metrics.json"
    replace_text(file, json.dumps(metrics, indent=2) + "\n")
    return file


def _group(path: str) -> str | None:
    match = re.fullmatch(r"(v_.+_g\d+)_c\d+", Path(path).stem)
    return match[1] if match else None


def _plain(value: object) -> object:
    """A setting as JSON can hold it."""
    if isinstance(value, (Tensor, tuple, list)):
        return [float(x) for x in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _draw_strips(features: dict[str, Tensor], used: dict[str, list[Video]], picture: str | os.PathLike) -> None:
    from motionops.evaluation.pictures import retrieval_strips

    # Spread over the list: lists are often sorted by class.
    chosen = torch.linspace(0, len(used["test"]) - 1, min(_STRIP_QUERIES, len(used["test"]))).long()
    order = nearest(features["test"][chosen], features["train"], _STRIP_NEIGHBOURS)

    def shown(video: Video) -> tuple[Tensor, str]:
        return read_frames(video.path, [0])[0], video.label

    retrieval_strips(
        [shown(used["test"][i]) for i in chosen.tolist()],
        [[shown(used["train"][j]) for j in row] for row in order.tolist()],
        picture,
    )
