"""How a training run ends, and what --monitor sees of it: backbone kept, report drawn, features measured."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from motionops.commandline import say
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.pictures import training_curves
from motionops.evaluation.pictures.page import Picture, Section, write_page
from motionops.evaluation.protocols.knn import knn_scores
from motionops.evaluation.protocols.measure import evaluate_retrieval, format_retrieval, retrieval_metrics
from motionops.evaluation.written.metrics_file import write_metrics
from motionops.models import save_backbone
from motionops.training.checkpoint import NAME as LAST
from motionops.training.config import TrainConfig
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method
from motionops.training.run_folder import METRICS_CSV, METRICS_JSON, REPORT
from motionops.video import VideoDataset, collate_videos
from motionops.video.checking import Skipped, once_each

NEIGHBOURS = 20  # that vote, of --monitor
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


def finish(config: TrainConfig, module: Method, videos: TrainingVideos, dataset: VideoDataset) -> None:
    """Save the backbone, draw the report, measure retrieval, write metrics.json, and say where it all is."""
    output = config.output
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    recipe = ClipRecipe.of_run(config)
    save_backbone(module.backbone, output / "backbone.safetensors", **recipe.header(), **module.made_by())
    (output / REPORT).mkdir(exist_ok=True)
    with contextlib.suppress(ValueError, FileNotFoundError):  # a run shorter than --log-every has no curve
        training_curves(output / METRICS_CSV, output / REPORT / "training.png")
    shown = collate_videos([dataset[0, video] for video in range(min(SHOWN, len(dataset)))])
    with torch.no_grad():
        module.eval().report(output / REPORT, module.transfer_batch_to_device(shown, device, 0))

    metrics: dict[str, Any] = {"protocol": "none"}
    if videos.test:
        metrics = evaluate_retrieval(
            module.backbone,
            videos.usable,
            videos.test,
            picture=output / REPORT / "retrieval.png",
            **recipe.settings(),
            workers=config.workers,
            device=device,
            progress=True,
        )
    measured = [Skipped(**video) for video in metrics.get("skipped_videos", [])]
    skipped = once_each([*measured, *videos.skipped, *module.failed])
    metrics["skipped"], metrics["skipped_videos"] = len(skipped), [video._asdict() for video in skipped]
    metrics["training"] = {"steps": module.step, "videos": len(videos.usable), **module.metrics}
    write_metrics(metrics, output)
    write_report(output, metrics)
    if videos.test:
        print(format_retrieval(metrics))
    files = ("backbone.safetensors", LAST, METRICS_JSON, METRICS_CSV)
    there = [name for name in files if (output / name).exists()]  # of a run without a step there are two
    say(f"written: {output}/ ({', '.join(there)}, {REPORT}/{PAGE})")


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


def measure_epoch(config: TrainConfig, videos: TrainingVideos, module: Method, epoch: int) -> dict[str, float]:
    """What --monitor notes of an epoch: R@1, and the accuracy of the nearest neighbours' vote; the backbone is kept."""
    recipe = ClipRecipe.of_run(config)
    save_backbone(module.backbone, config.output / f"backbone-epoch-{epoch}.safetensors", **recipe.header())
    settings = {**recipe.settings(), "workers": config.workers, "device": module.device}
    gallery, test = (labelled_features(module.backbone, part, **settings) for part in (videos.usable, videos.test))
    metrics, _ = retrieval_metrics(gallery, test, (1,))
    names = sorted(set(gallery.labels))
    classes = torch.tensor([names.index(label) for label in gallery.labels])
    # Not knn_accuracy: this is the first process alone, and the others do not gather.
    votes = knn_scores(test.features, gallery.features, classes, len(names), k=NEIGHBOURS).argmax(dim=1).tolist()
    right = sum(names[vote] == label for vote, label in zip(votes, test.labels, strict=True))
    return {"R@1": metrics["R@1"], "kNN": 100.0 * right / len(votes)}
