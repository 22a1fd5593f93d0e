"""The report of a run: what the method draws of some videos, the curves of the training, and a page of them all."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from motionops.commandline import say
from motionops.evaluation.pictures import training_curves
from motionops.evaluation.pictures.page import Picture, Section, write_page
from motionops.training.checkpoint import NAME as LAST
from motionops.training.method import Method
from motionops.training.run_folder import METRICS_CSV, METRICS_JSON, REPORT
from motionops.video import VideoDataset, collate_videos

# Videos in a report's pictures.
SHOWN = 6
PAGE = "report.html"
CAPTIONS = {
    "training": "What was logged, by step.",
    "retrieval": "Held-out videos, then their nearest training videos: ✓ of the same class, ✗ of another.",
    "foreground": "Frames, and the same with what counts as background blackened.",
    "attention": "Where in the other view the motion decoder looks, for the cell with the highest activation.",
    "motion": "What moves in the first training videos.",
    "aligned": "The motion of the query's cells, and the map that is aligned with it.",
    "regions": "Where in the global view the strongest cell of the local clip is found.",
}


def draw_report(output: Path, module: Method, dataset: VideoDataset) -> None:
    """`report/*.png` of a run: the curves of its log, and the method's own pictures."""
    folder = output / REPORT
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(ValueError, FileNotFoundError):  # a run shorter than --log-every has no curve
        training_curves(output / METRICS_CSV, folder / "training.png")
    whole = dataset.of_whole_pictures()
    shown = collate_videos([whole[0, video] for video in range(min(SHOWN, len(whole)))])
    with torch.no_grad():
        module.eval().report(folder, module.transfer_batch_to_device(shown, module.device, 0))


def write_report(output: Path, metrics: Mapping[str, Any]) -> None:
    """`report/report.html`: the scores, and every picture that the run drew, each with a sentence."""
    scores = [(name, value) for name, value in metrics.items() if name.startswith("R@") and isinstance(value, float)]
    table = [["nearest training video is right", "per cent"], *([name, f"{value:.1f}"] for name, value in scores)]
    training = metrics["training"]
    text = f"{training['steps']} steps on {training['videos']} videos; {metrics['skipped']} videos could not be used."
    sections = [Section("Run", text, table if scores else ())]
    files = sorted((output / REPORT).glob("*.png"), key=lambda file: (file.stem not in CAPTIONS, file.stem))
    pictures = [Picture(file, CAPTIONS.get(file.stem, file.stem), 640) for file in files]
    sections += [Section(picture.file.stem, "", (), [picture]) for picture in pictures]
    more = f"motionops evaluate pictures --backbone {output / 'backbone.safetensors'}"
    sections.append(Section("More", f"{more} draws what the backbone looks at, and its confusions."))
    write_page(f"The run {output.name}", sections, output / REPORT / PAGE)


def say_what_is_there(output: Path) -> None:
    """The line that a run ends with: its folder, and the files in it."""
    files = ("backbone.safetensors", LAST, METRICS_JSON, METRICS_CSV)
    there = [name for name in files if (output / name).exists()]  # of a run without a step there are two
    say(f"written: {output}/ ({', '.join(there)}, {REPORT}/{PAGE})")
