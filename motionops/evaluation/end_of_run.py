"""How a training run ends: its backbone kept, its report drawn, its features measured."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from motionops.commandline import say
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.pictures import training_curves
from motionops.evaluation.protocols.measure import evaluate_retrieval, format_retrieval
from motionops.evaluation.written.metrics_file import write_metrics
from motionops.models import save_backbone
from motionops.training.config import TrainConfig
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method
from motionops.training.run_folder import METRICS_CSV, REPORT
from motionops.video import VideoDataset, collate_videos

# Videos in a report's pictures.
SHOWN = 6


def finish(config: TrainConfig, module: Method, videos: TrainingVideos, dataset: VideoDataset) -> None:
    """Save the backbone, draw the report, measure retrieval, write metrics.json, and say where it all is."""
    output = config.output
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    recipe = ClipRecipe.of_run(config)
    save_backbone(module.backbone, output / "backbone.safetensors", **recipe.header())
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
    skipped = [*videos.skipped, *(video for video in module.failed if video not in videos.skipped)]
    metrics["skipped"] = metrics.get("skipped", 0) + len(skipped)
    metrics["skipped_videos"] = [*metrics.get("skipped_videos", []), *(video._asdict() for video in skipped)]
    metrics["training"] = {"steps": module.step, "videos": len(videos.usable), **module.metrics}
    write_metrics(metrics, output)
    if videos.test:
        print(format_retrieval(metrics))
    say(f"written: {output}/ (backbone.safetensors, last.ckpt, metrics.json, metrics.csv, {REPORT}/)")
