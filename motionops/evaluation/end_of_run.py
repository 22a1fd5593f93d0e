"""How a training run ends: backbone kept, report drawn, features measured."""

from __future__ import annotations

from motionops.evaluation.features.together import own_device
from motionops.evaluation.final_retrieval import retrieve
from motionops.evaluation.kept_backbone import keep_backbone
from motionops.evaluation.protocols.measure_retrieval import format_retrieval
from motionops.evaluation.run_report import draw_report, say_what_is_there, write_report
from motionops.evaluation.written.metrics_file import left_out_videos, write_metrics
from motionops.ranks import is_first
from motionops.training.config import TrainConfig
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method
from motionops.training.run_folder import REPORT
from motionops.video import Skipped, VideoDataset


def finish(config: TrainConfig, module: Method, videos: TrainingVideos, dataset: VideoDataset) -> None:
    """Save the backbone, draw the report, measure retrieval, write metrics.json, and say where it all is.

    All processes of the run call: retrieval is measured by all, the rest is the first one's.
    """
    output = config.output
    device = own_device()
    module.to(device)
    if is_first():
        keep_backbone(config, module)
        draw_report(output, module, dataset)
    metrics = retrieve(config, module.backbone, videos, device, output / REPORT / "retrieval.png")
    if not is_first():
        return
    metrics = metrics or {"protocol": "none"}
    measured = [Skipped(**video) for video in metrics.get("skipped_videos", [])]
    metrics |= left_out_videos([*measured, *videos.skipped, *module.failed])
    metrics["training"] = {"steps": module.step, "videos": len(videos.usable), **module.metrics}
    write_metrics(metrics, output)
    write_report(output, metrics)
    if videos.test:
        print(format_retrieval(metrics))
    say_what_is_there(output)
