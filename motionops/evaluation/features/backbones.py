"""The backbones that ``--backbone`` names, with the clips they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.models import BACKBONES, build_backbone, load_backbone, load_image_weights, load_weights, read_metadata
from motionops.models.backbone_files import build_from_header, read_weights
from motionops.views.clip_settings import checked_clip, read_header
from motionops.views.colour import IMAGENET_MEAN, IMAGENET_STD

# Frames, stride and size of a clip for a network that does not say (papers' inputs; r3d_small: the demo's).
CLIPS = {
    "i3d": {"frames": 16, "stride": 2, "size": 224},
    "r2plus1d_18": {"frames": 16, "stride": 2, "size": 112},
    "r3d_small": {"frames": 8, "stride": 2, "size": 32},
    "slow_r50": {"frames": 8, "stride": 8, "size": 224},
    **{name: {"frames": 16, "stride": 2, "size": 112} for name in ("r3d_18", "r3d_18_pool", "r3d_34_pool")},
    **{name: {"frames": 16, "stride": 4, "size": 112} for name in ("c3d", "r3d_26", "r2plus1d_26")},
}
CLIPS |= {name: {"frames": 1, "stride": 1, "size": 224} for name in ("r2d_50", "i2d")}
CLIPS |= {name: {"frames": 1, "stride": 1, "size": 112} for name in ("r2d_10", "r2d_small")}
OTHER_CLIP = {"frames": 16, "stride": 2, "size": 224}
DEFAULT = "r3d_small"

TORCHVISION = {"r3d_18": 512, "mc3_18": 512, "r2plus1d_18": 512, "s3d": 1024}


def named_backbone(name: str, seed: int = 0) -> tuple[nn.Module, dict]:
    """Make the backbone that ``--backbone`` names.

    Args:
        name: one of

            * a file that a trainer wrote: ``backbone.safetensors`` or ``last.ckpt`` (or any ``.ckpt`` of theirs);
            * ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``, such a file on the Hugging Face hub;
            * ``NAME:FILE``, a network of this library with the weights of any file: a ``.safetensors``, or a ``.pth``,
              ``.pt`` or ``.ckpt`` that holds a state dict, alone or as ``state_dict``. A prefix that all of its keys
              have (``module.``, ``backbone.``, ``encoder_q.``) is found and taken off, and classifiers and heads are
              passed over. Weights of a network over images are taken as ``--init`` takes them
              (:func:`~motionops.models.load_image_weights`), with ImageNet's normalisation;
            * ``torchvision:NAME``, a video network of torchvision with its standard weights;
            * ``random``, an untrained network of the demo's shape; ``random:NAME``, ``random:FILE`` or
              ``random:torchvision:NAME``, an untrained network of that name or of that file's shape.
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
        # The draw of the weights must not move the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _untrained(rest or DEFAULT)
    if kind in BACKBONES and rest:
        backbone = build_backbone(kind)
        state, metadata = read_weights(rest)
        if any(value.ndim == 4 for value in state.values()):  # kernels of a network over images
            load_image_weights(backbone, rest)
            return backbone, {**_usual_clip(kind), "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        load_weights(backbone, matching_part(backbone, state, rest), rest)
        return backbone, {**_usual_clip(kind), **read_header(metadata, rest)}
    if Path(name).suffix == ".ckpt":
        return _from_checkpoint(name)
    if not Path(name).exists() and name in BACKBONES:
        raise UserError(f"--backbone: {name} alone has no weights; {name}:FILE loads some, random:{name} is untrained")
    backbone = load_backbone(name)
    return backbone, {**_usual_clip(backbone.name), **backbone.clip_settings}


def matching_part(backbone: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The keys of a state dict that belong to a backbone, without the prefix that they have there.

    Other parts of the file (heads, queues, a second copy of the network) are left out, and a line says so where it is
    not the classifier alone. Where several prefixes fit, that of a momentum copy is not the one that is taken.
    """
    own = backbone.state_dict()
    first = next(iter(own))
    prefixes = [key[: -len(first)] for key in state if key == first or key.endswith(f".{first}")]
    if not prefixes:
        return dict(state)  # loading says what does not fit
    copies = ("key", "_k.", "momentum", "ema", "teacher", "target")
    prefix = min(prefixes, key=lambda text: (any(word in text for word in copies), len(text), text))
    parts = {key.partition(".")[0] for key in own}
    kept = {}
    for key, value in state.items():
        inner = key[len(prefix) :]
        if key.startswith(prefix) and inner.partition(".")[0] in parts:
            kept[inner] = value
    others = sorted({key.partition(".")[0] for key in state if key[len(prefix) :] not in kept} - {"fc", "classifier"})
    if others and prefix:
        warn(f"{source}: {prefix}* is the backbone; {', '.join(others[:5])} are passed over")
    return kept


def _untrained(name: str) -> tuple[nn.Module, dict]:
    if name.startswith("torchvision:"):
        return _torchvision_backbone(name.partition(":")[2], trained=False)
    if name in BACKBONES:
        return build_backbone(name), _usual_clip(name)
    if not Path(name).is_file():
        raise UserError(f"--backbone: {name!r} is neither a file nor one of {', '.join(BACKBONES)}")
    metadata = read_metadata(name)
    if metadata.get("backbone") not in BACKBONES:
        raise UserError(f"--backbone: {name} does not say which network it is")
    return build_from_header(name, metadata), {**_usual_clip(metadata["backbone"]), **read_header(metadata, name)}


def _from_checkpoint(file: str) -> tuple[nn.Module, dict]:
    """A trainer's last.ckpt: its config names the network and the clips."""
    state, note = read_weights(file)[0], _note_of(file)
    config, own = note.get("config"), note.get("backbone", "backbone")
    config = config if isinstance(config, Mapping) else {}
    name = config.get("backbone")
    if not isinstance(name, str) or name not in BACKBONES or not isinstance(own, str):
        raise UserError(
            f"--backbone: {file} does not say which network it is; name it: NAME:{file}, NAME one of "
            f"{', '.join(BACKBONES)}"
        )
    backbone = build_backbone(name)
    prefix = f"{own}."
    part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    load_weights(backbone, part, file)
    clip = {**config, "crop": config["evaluation_crop"]} if "evaluation_crop" in config else config
    return backbone, {**_usual_clip(name), **checked_clip(clip, file)}


def _note_of(file: str) -> dict:
    """What a checkpoint of a trainer holds beside its weights; empty for others."""
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    note = checkpoint.get("motionops") if isinstance(checkpoint, Mapping) else None
    return note if isinstance(note, Mapping) else {}


def _usual_clip(name: str) -> dict:
    return dict(CLIPS.get(name, OTHER_CLIP))


class _FeatureMaps(nn.Module):
    """The parts of a torchvision video network before its pooling and classifier."""

    def __init__(self, parts: nn.Sequential, channels: int):
        super().__init__()
        self.parts, self.channels = parts, channels

    def forward(self, clip: Tensor) -> Tensor:
        return self.parts(clip)


def _torchvision_backbone(name: str, trained: bool = True) -> tuple[nn.Module, dict]:
    from torchvision.models import get_model, get_model_weights

    if name not in TORCHVISION:
        raise UserError(f"--backbone: torchvision:{name} is not known here; choose one of: {', '.join(TORCHVISION)}")
    weights = get_model_weights(name).DEFAULT
    try:
        network = get_model(name, weights=weights if trained else None)
    except OSError as error:  # urllib's errors are OSErrors
        raise UserError(f"--backbone: the weights of torchvision:{name} cannot be fetched: {error}") from error
    if name == "s3d":
        parts = network.features
    else:
        parts = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
    preset = weights.transforms()
    clip = {"frames": 16, "stride": 2, "size": preset.crop_size[0], "mean": preset.mean, "std": preset.std}
    return _FeatureMaps(parts, TORCHVISION[name]), clip
