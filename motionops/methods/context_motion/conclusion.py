"""The beginning and the end of a run of Context-Motion Decoupling: its videos' codecs, and what is kept."""

from __future__ import annotations

import json
from functools import partial

from motionops.evaluation.end_of_run import finish
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.methods.context_motion.flags import ContextMotionConfig
from motionops.methods.context_motion.method import ContextMotion
from motionops.models import save_backbone
from motionops.motion.vector_decoder import VectorDecoder
from motionops.ranks import is_first
from motionops.training.data.videos import TrainingVideos, find_training_videos
from motionops.video import Video, VideoDataset, VideoError

LOOKED_AT = 16  # videos whose codec is looked at before training


def find_videos(config: ContextMotionConfig, progress: bool) -> TrainingVideos:
    """The videos of the run, whose codecs are looked at."""
    videos = find_training_videos(config, progress)
    if config.uses_context() or config.reads_vectors():
        require_vectors(videos.usable)
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
    """As every method's run ends; the I- and M-network are kept too, with what their inputs are."""
    if is_first():
        keep_networks(config, module)
    finish(config, module, videos, dataset)


def keep_networks(config: ContextMotionConfig, module: ContextMotion) -> None:
    """Save the I- and the M-network, where there are any."""
    recipe = partial(ClipRecipe.of_run, config, stride=1)
    if hasattr(module, "image_backbone"):
        header = recipe(frames=1).header() | module.made_by()
        save_backbone(module.image_backbone, config.output / "image_backbone.safetensors", **header)
    if hasattr(module, "motion_backbone"):
        header = recipe(frames=config.motion_frames).header() | module.made_by()
        if config.motion == "vectors":
            vectors = {"cell": config.cell, "fill": config.fill_key_frames, "steps": config.motion_steps}
            header |= {"vectors": json.dumps(vectors)}
        save_backbone(module.motion_backbone, config.output / "motion_backbone.safetensors", **header)
