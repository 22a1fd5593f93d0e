"""Backbones under other libraries' names: ``python -m motionops.models.export --to slowfast --backbone FILE ...``.

* ``slowfast``: SlowFast's ``ResNet`` with ``ARCH: slow``, in a file as its checkpoints are (``model_state``)
* ``mmaction2``: the ``ResNet3dSlowOnly`` of a recognizer (``state_dict``, keys ``backbone.*``)
* ``pytorchvideo``: ``slow_r50`` of its hub (``model_state``)
* ``torchvision``: ``r3d_18``, ``r2plus1d_18`` and ``s3d`` (a plain state dict)

The classifier is not there: load with ``strict=False`` (or each library's way to fine-tune). The stem of MoDist's
slow-only network spans 5 frames, where those libraries' defaults span 1: set ``conv1_kernel=(5, 7, 7)`` and
``conv1_stride_t=1`` in mmaction2, ``stem_conv_kernel_size=(5, 7, 7)`` in pytorchvideo, and the first temporal kernel of
``slow`` to 5 in SlowFast.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from motionops.commandline import run
from motionops.errors import UserError
from motionops.models.backbone_files import load_backbone

_STEM = re.compile(r"stem\.(0|1)\.(.+)")
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)")


@dataclass
class ExportConfig:
    """Write a backbone under the names that another library gives its parameters."""

    to: Literal["slowfast", "mmaction2", "pytorchvideo", "torchvision"]
    """Library that shall load it."""
    backbone: Path
    """A backbone.safetensors of a trainer."""
    output: Path
    """File to write (.pth)."""


def slowfast_name(key: str) -> str:
    """`layer2.0.conv1.weight` -> `s3.pathway0_res0.branch2.a.weight`."""
    if match := _STEM.fullmatch(key):
        return f"s1.pathway0_stem.{('conv', 'bn')[int(match[1])]}.{match[2]}"
    stage, block, kind, number, rest = _BLOCK.fullmatch(key).groups()
    place = f"s{int(stage) + 1}.pathway0_res{block}"
    if kind == "downsample.":
        return f"{place}.branch1{('', '_bn')[int(number)]}.{rest}"
    return f"{place}.branch2.{'abc'[int(number) - 1]}{'_bn' if kind == 'bn' else ''}.{rest}"


def mmaction2_name(key: str) -> str:
    """`layer2.0.conv1.weight` -> `backbone.layer2.0.conv1.conv.weight`."""
    if match := _STEM.fullmatch(key):
        return f"backbone.conv1.{('conv', 'bn')[int(match[1])]}.{match[2]}"
    stage, block, kind, number, rest = _BLOCK.fullmatch(key).groups()
    place = f"backbone.layer{stage}.{block}"
    if kind == "downsample.":
        return f"{place}.downsample.{('conv', 'bn')[int(number)]}.{rest}"
    return f"{place}.conv{number}.{kind}.{rest}"


def pytorchvideo_name(key: str) -> str:
    """`layer2.0.conv1.weight` -> `blocks.2.res_blocks.0.branch2.conv_a.weight`."""
    if match := _STEM.fullmatch(key):
        return f"blocks.0.{('conv', 'norm')[int(match[1])]}.{match[2]}"
    stage, block, kind, number, rest = _BLOCK.fullmatch(key).groups()
    place = f"blocks.{stage}.res_blocks.{block}"
    if kind == "downsample.":
        return f"{place}.branch1_{('conv', 'norm')[int(number)]}.{rest}"
    return f"{place}.branch2.{'norm' if kind == 'bn' else 'conv'}_{'abc'[int(number) - 1]}.{rest}"


SLOW_ONLY = {"slowfast": slowfast_name, "mmaction2": mmaction2_name, "pytorchvideo": pytorchvideo_name}
TORCHVISION = ("r3d_18", "r2plus1d_18", "s3d")
FILE_KEY = {"slowfast": "model_state", "mmaction2": "state_dict", "pytorchvideo": "model_state"}


def export_state(backbone: nn.Module, to: str) -> dict[str, Tensor]:
    """The state dict of a backbone made by `build_backbone`, under another library's names.

    Args:
        backbone: `slow_r50` for slowfast, mmaction2 and pytorchvideo; `r3d_18`, `r2plus1d_18` or `s3d` for
            torchvision.
        to: "slowfast", "mmaction2", "pytorchvideo" or "torchvision".

    Raises:
        ValueError: an unknown library.
        UserError: a network that the library does not have.
    """
    if to not in (*SLOW_ONLY, "torchvision"):
        raise ValueError(f"export_state: to must be one of {', '.join(SLOW_ONLY)}, torchvision, got {to!r}")
    fitting = TORCHVISION if to == "torchvision" else ("slow_r50",)
    if backbone.name not in fitting:
        raise UserError(f"--to {to}: {to} has {', '.join(fitting)} of these networks, and no {backbone.name}")
    state: Mapping[str, Tensor] = backbone.state_dict()
    rename = SLOW_ONLY.get(to, str)
    return {rename(key): value.detach().cpu().contiguous() for key, value in state.items()}


def main(config: ExportConfig) -> int:
    """Load, rename, write."""
    state = export_state(load_backbone(config.backbone), config.to)
    content = {FILE_KEY[config.to]: state} if config.to in FILE_KEY else state
    folder = config.output.parent
    if not folder.is_dir():
        raise UserError(f"--output: there is no folder {folder}")
    handle, beside = tempfile.mkstemp(dir=folder, prefix=f".{config.output.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        os.chmod(beside, 0o644)
        os.replace(beside, config.output)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    print(f"written: {config.output} ({len(state)} tensors under the names of {config.to})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, ExportConfig, prog="python -m motionops.models.export"))
