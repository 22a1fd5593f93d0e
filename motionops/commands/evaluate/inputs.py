"""From the flags to videos, backbone and settings; every mistake is found here, before hours of work."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from motionops.commands.evaluate.flags import Measurement
from motionops.commands.evaluate.folders import require_writable
from motionops.commands.evaluate.lists import labelled_videos
from motionops.commands.evaluate.settings import merged_settings
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.feature_cache import fingerprint
from motionops.evaluation.protocols.papers import protocol_settings
from motionops.flags import check_ranges
from motionops.video import Video


class Inputs(NamedTuple):
    """What a measurement works on.

    Attributes:
        train, test: labelled videos.
        backbone: on the CPU.
        fingerprint: names its weights.
        settings: of its clips and, with a protocol, of its training; only what somebody said. The protocol's come
            before the backbone's (but of a network over single frames, which stays one), the flags' before both.
    """

    train: list[Video]
    test: list[Video]
    backbone: nn.Module
    fingerprint: str
    settings: dict[str, Any]


def measurement_inputs(config: Measurement, command: str) -> Inputs:
    """Read lists and backbone, and merge the settings.

    Raises:
        UserError: a number out of its range, an output that cannot be written, no such folder, list or backbone, lists
            that do not go together, a protocol that the paper does not have.
    """
    check_ranges(config)
    stated = protocol_settings(config.protocol, command)
    train, test = labelled_videos(config)
    require_writable(config)
    backbone, clip = named_backbone(config.backbone, config.seed)
    return Inputs(train, test, backbone, fingerprint(backbone), merged_settings(config, stated, clip))


def require_frames(inputs: Inputs, backbone: str) -> None:
    """UserError for a network over motion vectors, where one over frames is needed."""
    if "vectors" in inputs.settings:
        raise UserError(f"--backbone: {backbone} takes motion vectors; retrieval, svm and linear --fit features do it")
