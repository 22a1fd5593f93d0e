"""The backbones that ``--backbone`` names, with the clips they were made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from motionops.errors import UserError
from motionops.models import BACKBONES, build_backbone, load_backbone, read_metadata

# Frames, stride and size of a clip for a network that does not say (papers' inputs; r3d_small: the demo's).
CLIPS = {
    "i3d": {"frames": 16, "stride": 2, "size": 224},
    "r2plus1d_18": {"frames": 16, "stride": 2, "size": 112},
    "r3d_small": {"frames": 8, "stride": 2, "size": 32},
}
DEFAULT = "r3d_small"


def named_backbone(name: str, seed: int = 0) -> tuple[nn.Module, dict]:
    """Make the backbone that ``--backbone`` names.

    Args:
        name: a file that a trainer wrote (``backbone.safetensors``); ``random``, an untrained network of the demo's
            shape; ``random:NAME`` or ``random:FILE``, an untrained network of that name or of that file's shape; or
            ``torchvision:NAME``, a video network of torchvision with its standard weights.
        seed: of an untrained network's weights.

    Returns:
        The backbone, and what is known of the clips it was made for: ``frames``, ``stride``, ``size``, and ``crop``,
        ``mean`` and ``std`` where they are known.

    Raises:
        UserError: no such file or network, a file that is no backbone, weights that cannot be fetched.
    """
    kind, _, rest = name.partition(":")
    if kind == "torchvision":
        return _torchvision_backbone(rest)
    if kind == "random":
        shape, arguments, clip = rest or DEFAULT, {}, {}
        if shape not in BACKBONES:
            if not Path(shape).is_file():
                raise UserError(f"--backbone: {shape!r} is neither a file nor one of {', '.join(BACKBONES)}")
            metadata = read_metadata(shape)
            if metadata.get("backbone") not in BACKBONES:
                raise UserError(f"--backbone: {shape} does not say which network it is")
            shape, arguments, clip = metadata["backbone"], json.loads(metadata["kwargs"]), _clip_of(metadata)
        # The draw of the weights must not move the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_backbone(shape, **arguments), {**CLIPS[shape], **clip}
    backbone = load_backbone(name)
    metadata = read_metadata(name) if name.endswith(".safetensors") else {}
    return backbone, {**CLIPS[backbone.name], **_clip_of(metadata)}


def _clip_of(metadata: Mapping[str, str]) -> dict:
    """What the header of a file says about its clips."""
    clip = {key: int(metadata[key]) for key in ("frames", "stride", "size") if key in metadata}
    if "crop" in metadata:
        clip["crop"] = float(metadata["crop"])
    return clip | {key: tuple(json.loads(metadata[key])) for key in ("mean", "std") if key in metadata}


class _FeatureMaps(nn.Module):
    """The parts of a torchvision video network before its pooling and classifier."""

    def __init__(self, parts: nn.Sequential, channels: int):
        super().__init__()
        self.parts, self.channels = parts, channels

    def forward(self, clip: Tensor) -> Tensor:
        return self.parts(clip)


def _torchvision_backbone(name: str) -> tuple[nn.Module, dict]:
    from torchvision.models import get_model, get_model_weights

    known = {"r3d_18": 512, "mc3_18": 512, "r2plus1d_18": 512, "s3d": 1024}
    if name not in known:
        raise UserError(f"--backbone: torchvision:{name} is not known here; choose one of: {', '.join(known)}")
    weights = get_model_weights(name).DEFAULT
    try:
        network = get_model(name, weights=weights)
    except OSError as error:  # urllib's errors are OSErrors
        raise UserError(f"--backbone: the weights of torchvision:{name} cannot be fetched: {error}") from error
    if name == "s3d":
        parts = network.features
    else:
        parts = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
    preset = weights.transforms()
    clip = {"frames": 16, "stride": 2, "size": preset.crop_size[0], "mean": preset.mean, "std": preset.std}
    return _FeatureMaps(parts, known[name]), clip
