"""Networks over clips that start from networks over images: MoCo's ResNet-50, GoogLeNet (Inception v1)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from motionops.models.backbone_files import load_weights, read_weights
from motionops.models.backbones import build_backbone

# What stands before the names: the query encoder of MoCo's checkpoints, wrappers.
ENCODER = "encoder_q."
WRAPPERS = ("module.", "backbone.")


def load_image_weights(backbone: nn.Module, path: str | os.PathLike) -> None:
    """Load weights of a network over images into a backbone over clips.

    A 2-D kernel is placed at one temporal tap of the 3-D one, the middle one (of four the second), the others are zero.
    Temporal convolutions, of which the image network has none, become the identity, their BatchNorm stays as new.
    Everything else is copied. Weights of the backbone itself, 3-D as they are, load too.

    Args:
        backbone: of `build_backbone`. `r2plus1d_50` and `r2d_50` take the names of torchvision's `resnet50`; `s3d`,
            `i3d` and `i2d` those of torchvision's `googlenet`.
        path: `.pth`, `.pt`, `.pth.tar` or `.safetensors`; of MoCo's checkpoints (`module.encoder_q.conv1.weight`, ...)
            the query encoder is taken; its head, and a classifier, are passed over.

    Raises:
        UserError: no such file, not a file of weights, or weights of another network, in one line.
    """
    state, _ = read_weights(path)
    state = plain_names(state)
    own = backbone.state_dict()
    if any(name.startswith("inception3a.") for name in state):
        state = renamed(state, backbone)
    filled = {}
    for name, value in state.items():
        if name in own and value.ndim == 4 and own[name].ndim == 5:
            filled[name] = at_middle_tap(value, own[name].shape[2])
        else:
            filled[name] = value
    if not filled.keys().isdisjoint(own):
        for name, module in backbone.named_modules():
            if is_temporal(module) and f"{name}.weight" not in filled and module.in_channels == module.out_channels:
                filled[f"{name}.weight"] = nn.init.dirac_(torch.empty_like(module.weight))
                filled.update({key: value for key, value in own.items() if follows(key, name)})
    load_weights(backbone, filled, str(path))


def starting_backbone(name: str, init: os.PathLike | None, given: nn.Module | None = None) -> nn.Module:
    """The backbone that a run begins with: `given`, or the named one, with the weights of the file `init` if any."""
    backbone = build_backbone(name) if given is None else given
    if init is not None:
        load_image_weights(backbone, init)
    return backbone


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of the network itself: without MoCo's encoder, wrappers, classifiers."""
    if any(ENCODER in name for name in state):
        state = {name.partition(ENCODER)[2]: value for name, value in state.items() if ENCODER in name}
    plain = {}
    for name, value in state.items():
        for wrapper in WRAPPERS:
            name = name.removeprefix(wrapper)
        if not name.startswith(("fc.", "aux1.", "aux2.", "classifier.")):
            plain[name] = value
    return plain


def at_middle_tap(kernel: Tensor, taps: int) -> Tensor:
    """`[O, I, h, w] -> [O, I, taps, h, w]`, zero but for the middle one."""
    inflated = kernel.new_zeros(*kernel.shape[:2], taps, *kernel.shape[2:])
    inflated[:, :, (taps - 1) // 2] = kernel
    return inflated


def is_temporal(module: nn.Module) -> bool:
    """Whether it is a convolution over time alone."""
    return isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1 and module.kernel_size[1:] == (1, 1)


def follows(key: str, convolution: str) -> bool:
    """Whether a key is of the BatchNorm behind a temporal convolution `x.0`: `x.1.weight`, ..."""
    stem, _, place = convolution.rpartition(".")
    return place == "0" and key.startswith(f"{stem}.1.")


def renamed(state: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """GoogLeNet's weights under the names of an Inception backbone: its units stand in the same order."""
    from torchvision.models import googlenet

    with torch.device("meta"):
        images = googlenet(weights=None, aux_logits=False, init_weights=False)
    theirs, ours = units(images), [unit for unit in units(backbone) if not is_temporal(unit[2])]
    if len(theirs) != len(ours):
        return dict(state)  # of another network; load_weights says so
    names = {}
    for (convolution, norm, _), (own_convolution, own_norm, _) in zip(theirs, ours, strict=True):
        names[f"{convolution}.weight"] = f"{own_convolution}.weight"
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"{norm}.{part}"] = f"{own_norm}.{part}"
    return {names.get(name, name): value for name, value in state.items()}


def units(network: nn.Module) -> list[tuple[str, str, nn.Module]]:
    """Of every convolution with its BatchNorm, in order: their names, and the convolution."""
    found: list[tuple[str, str, nn.Module]] = []
    last: tuple[str, nn.Module] | None = None
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            last = name, module
        elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)) and last is not None:
            found.append((last[0], name, last[1]))
            last = None
    return found
