"""How a backbone scores, and what its run logged and drew."""

from __future__ import annotations

from pathlib import Path

from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.pictures import confusion_picture, training_curves
from motionops.evaluation.pictures.book.subject import PictureSubject
from motionops.evaluation.pictures.page import CHART, STRIPS, Picture, Section
from motionops.evaluation.protocols.measure_retrieval import draw_strips
from motionops.evaluation.protocols.retrieval import bootstrap_interval, chance_recall, first_hits
from motionops.evaluation.protocols.splits import class_warnings, split_warnings
from motionops.video import class_names


def score_chapter(of: PictureSubject, folder: Path) -> Section:
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


def curve_chapter(of: PictureSubject, folder: Path) -> Section | None:
    if of.run is None or not (of.run / "metrics.csv").exists():
        return None
    try:
        file = training_curves(of.run / "metrics.csv", folder / "training.png")
    except ValueError:  # a run shorter than --log-every has no curve
        return None
    return Section("Training", f"What {of.run} logged.", (), [Picture(file, "Every logged value by step.", CHART)])


def neighbour_chapter(of: PictureSubject, folder: Path) -> Section:
    draw_strips(of.train, of.test, folder / "retrieval.png")
    caption = "First column: test videos. Then their nearest training videos, ✓ of the same class, ✗ of another."
    return Section("Nearest videos", "", (), [Picture(folder / "retrieval.png", caption, STRIPS)])


def confusion_chapter(of: PictureSubject, folder: Path) -> Section | None:
    if of.result is None:
        return None
    file = confusion_picture(of.result.confusion, of.result.classes, folder / "confusion.png")
    caption = "Test videos by true class (lines) and the linear classifier's answer (columns)."
    return Section("Confusions", "", (), [Picture(file, caption, CHART)])


def training_chapter(of: PictureSubject, _: Path) -> Section | None:
    reports = None if of.run is None else of.run / "report"
    if reports is None or not reports.is_dir():
        return None
    files = [file for file in sorted(reports.glob("*.png")) if file.name != "training.png"]
    if not files:
        return None
    pictures = [Picture(file, f"{file.stem}, drawn by the training when it ended.") for file in files]
    return Section("The training's own pictures", "", (), pictures)
