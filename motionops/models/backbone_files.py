"""The weights of backbones on disk."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from motionops.errors import UserError
from motionops.extras import require
from motionops.files import damage
from motionops.models.backbones import BACKBONES, Backbone, build_backbone
from motionops.models.check_sums import KEY, other_part, with_check_sums
from motionops.models.hub import local_file
from motionops.views.clip_settings import read_header


def save_backbone(backbone: nn.Module, path: str | os.PathLike, **metadata: str) -> None:
    """Write a backbone as safetensors; the file names the network it belongs to, where `build_backbone` made it.

    The file is written beside `path` and renamed, so that a cut leaves the former file. `metadata` (text) is added
    to the header (method, dataset, normalisation, ...), which `read_metadata` gives back. Check sums are added too, by
    which reading finds what a disk has changed.
    """
    require("save_backbone", "safetensors")
    from safetensors.torch import save

    header = dict(metadata)
    if hasattr(backbone, "kwargs"):
        header |= {"backbone": backbone.name, "kwargs": json.dumps(backbone.kwargs)}
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.state_dict().items()}
    path = Path(path)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save(state, metadata=with_check_sums(header, state)))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The header of a file of `save_backbone`: `backbone`, `kwargs` (JSON) and what else was given.

    Raises:
        UserError: no such file, not a safetensors file, or one whose header is damaged.
    """
    header = _checked_header(path)
    return {name: text for name, text in header.items() if name != KEY}


def _checked_header(path: str | os.PathLike) -> dict[str, str]:
    require("reading a safetensors file", "safetensors")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise UserError(f"backbone: there is no file {path}") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"backbone: {path} is not a safetensors file ({error})") from error
    if part := other_part(header):
        read_header(header, str(path))  # says which entry cannot be, where one cannot
        if header.get("backbone") in BACKBONES:
            build_from_header(path, header)
        raise _damaged(path, part)
    return header


def _damaged(path: str | os.PathLike, part: str) -> UserError:
    return UserError(f"backbone: {path} is damaged (the check sum of its {part} is another one)")


def load_backbone(path: str | os.PathLike, name: str | None = None, **kwargs: Any) -> Backbone:
    """Build the backbone that a file holds and load its weights.

    Args:
        path: a file of `save_backbone`, or any `.safetensors`, `.pt`, `.pth` file whose keys are those of the network
            (a classifier, `fc.*`, is passed over); a folder with a `backbone.safetensors`; or `hf:OWNER/NAME`, at a
            revision `hf:OWNER/NAME@REVISION`, of the Hugging Face hub, which is fetched once (extra `hub`).
        name, kwargs: which network it is, for files that do not say so themselves.

    Returns:
        The backbone. Its attribute `clip_settings` holds what the file says of the clips that it was trained on
        (frames, stride, size, crop, mean, std), which `motionops.evaluation.extract_features` then takes by default.

    Raises:
        UserError: no such file, not a file of weights, or keys and shapes that do not fit; the text names them.
    """
    path = local_file(path)
    state, metadata = read_weights(path)
    if name is None and "backbone" not in metadata:
        raise UserError(f"backbone: {path} does not say which network it is; name it: NAME:{path}, as r3d_18:{path}")
    name = name or metadata["backbone"]
    if name not in BACKBONES:
        raise UserError(f"backbone: {path} holds {name!r}; known are {', '.join(BACKBONES)}")
    backbone = build_backbone(name, **kwargs) if kwargs else build_from_header(path, {**metadata, "backbone": name})
    load_weights(backbone, state, str(path))
    backbone.clip_settings = read_header(metadata, str(path))
    return backbone


def build_from_header(path: str | os.PathLike, metadata: Mapping[str, str]) -> Backbone:
    """Build the network that a file's header names, with fresh weights. UserError where there is no such network."""
    name, kwargs = metadata["backbone"], metadata.get("kwargs", "{}")
    try:
        return build_backbone(name, **json.loads(kwargs))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"backbone: {path} says backbone {name!r} with kwargs {kwargs}: {error}") from error


def read_weights(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict that a file holds (also inside a checkpoint, as `state_dict`), and a safetensors file's header.

    Raises:
        UserError: no such file, not a file of weights, or one that is damaged, where it holds check sums.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"backbone: there is no file {path}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        header, state = _checked_header(path), load_file(path)
        if part := other_part(header, state):
            raise _damaged(path, part)
        return state, {name: text for name, text in header.items() if name != KEY}
    if wrong := damage(path):
        raise UserError(f"backbone: {path} is damaged ({wrong})")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"backbone: {path} is not a file of weights ({first})") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"backbone: {path} holds no state dict but a {type(state).__name__}")
    return dict(state), {}


def load_weights(backbone: nn.Module, state: Mapping[str, Tensor], source: str = "the state dict") -> None:
    """Load a state dict strictly, passing over a classifier (`fc.*`, `classifier.*`), and naming what does not fit.

    Raises:
        UserError: with up to three missing, unknown and misshaped keys each, and their numbers.
    """
    state = {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
    own = backbone.state_dict()
    # Files from before torch 0.4.1 lack the counters of BatchNorm, and nothing depends on them.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    misshaped = [
        f"{key} (expected {list(own[key].shape)}, got {list(value.shape)})"
        for key, value in state.items()
        if key in own and own[key].shape != value.shape
    ]
    complaints = [
        f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", misshaped))
        if keys
    ]
    if complaints:
        name = getattr(backbone, "name", type(backbone).__name__)
        raise UserError(f"backbone: {source} does not fit {name}; keys {'; '.join(complaints)}")
    backbone.load_state_dict({**own, **state})
