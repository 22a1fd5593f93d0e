"""The beginning and the end of a run of Context-Motion Decoupling: its videos' codecs and classes, and its scores."""

from __future__ import annotations

from dataclasses import replace

import torch

from motionops.errors import UserError
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.features.motion_features import motion_features
from motionops.evaluation.protocols.classification import ClipProbabilities, classified, format_classification
from motionops.evaluation.protocols.measure import format_retrieval, retrieval_metrics
from motionops.evaluation.written.metrics_file import notes, write_metrics
from motionops.evaluation.written.report_files import write_classification
from motionops.methods.context_motion.flags import ContextMotionConfig
from motionops.methods.context_motion.method import ContextMotion
from motionops.models import save_backbone
from motionops.motion.vector_decoder import VectorDecoder
from motionops.training.data.videos import TrainingVideos, find_training_videos
from motionops.video import Video, VideoDataset, VideoError, class_names

LOOKED_AT = 16  # videos whose codec is looked at before training


def find_videos(config: ContextMotionConfig, progress: bool) -> TrainingVideos:
    """The videos of the run; a classifier's are labelled, of two classes at least. Codecs are looked at."""
    videos = find_training_videos(config, progress)
    if config.uses_context() or (config.uses_motion() and config.motion == "vectors"):
        require_vectors(videos.usable)
    if config.supervised:
        unlabelled = [video for video in videos.usable if video.label is None]
        if unlabelled:
            raise UserError(f"--supervised: {unlabelled[0].path} has no label")
        classes = len(class_names(videos.usable))
        if classes < 2:
            raise UserError(f"--supervised: a classifier needs two classes, got {classes}")
    return videos


def require_vectors(videos: list[Video]) -> None:
    """UserError where all of some videos, spread over the list, are of codecs without motion vectors."""
    errors = []
    for video in videos[:: -(-len(videos) // LOOKED_AT) or 1]:
        try:
            with VectorDecoder(video.path):
                return
        except VideoError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def conclude(config: ContextMotionConfig, module: ContextMotion, videos: TrainingVideos, dataset: VideoDataset) -> None:
    """As every method's run ends; the I- and M-network are kept too, and a classifier is measured."""
    for name in ("image_backbone", "motion_backbone"):
        if hasattr(module, name):
            frames = 1 if name == "image_backbone" else config.motion_frames
            header = ClipRecipe.of_run(config, frames=frames, stride=1).header()
            save_backbone(getattr(module, name), config.output / f"{name}.safetensors", **header)
    own = config.supervised or (config.retrieval == "motion" and bool(videos.test))
    finish(config, module, replace(videos, test=[]) if own else videos, dataset)
    if not own or not videos.test:
        return
    module.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    metrics, skipped, settings = (classify if config.supervised else retrieve_motion)(config, module, videos)
    trained = {"steps": module.step, "videos": len(videos.usable), **module.metrics}
    skipped = dict.fromkeys([*videos.skipped, *module.failed, *skipped])
    metrics |= {"training": trained, **notes(skipped, [], settings)}
    write_metrics(metrics, config.output)
    print(format_classification(metrics) if config.supervised else format_retrieval(metrics))


def classify(config: ContextMotionConfig, module: ContextMotion, videos: TrainingVideos) -> tuple[dict, list, dict]:
    """Accuracies on the test videos, each by the mean of its clips' probabilities; skipped videos; settings."""
    settings = {**ClipRecipe.of_run(config).settings(), "workers": config.workers}
    scores = ClipProbabilities(module)
    test = labelled_features(scores, videos.test, strict=config.strict, **settings, device=module.device, progress=True)
    result = classified(test.features, test.videos, videos.usable)
    write_classification(result, config.output)
    return {"protocol": "finetune", **result.metrics}, test.skipped, settings


def retrieve_motion(
    config: ContextMotionConfig, module: ContextMotion, videos: TrainingVideos
) -> tuple[dict, list, dict]:
    """Retrieval of the test videos among the training videos by the M-network's features; skipped videos; settings."""
    settings = {"clips": config.evaluation_clips, "frames": config.motion_frames, "size": config.size}
    settings |= {"crop": config.evaluation_crop, "cell": config.cell, "fill": config.fill_key_frames}
    gallery, test = (
        motion_features(module.motion_backbone, part, **settings, progress=True)
        for part in (videos.usable, videos.test)
    )
    metrics, _ = retrieval_metrics(gallery, test)
    return {**metrics, "network": "motion"}, [*gallery.skipped, *test.skipped], settings
