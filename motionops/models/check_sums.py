"""The check sums of a safetensors file, which the format lacks: one flipped bit would be a wrong weight."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

KEY = "crc32"  # of the header: the check sum of its other entries, and that of the tensors


def with_check_sums(header: Mapping[str, str], state: Mapping[str, Tensor]) -> dict[str, str]:
    """A header that holds its own check sum and that of the tensors beside it."""
    return {**header, KEY: f"{_of_header(header):08x} {_of_tensors(state):08x}"}


def other_part(header: Mapping[str, str], state: Mapping[str, Tensor] | None = None) -> str | None:
    """Which part of a file is another one than was written; None where nothing says so, as in others' files."""
    if KEY not in header:
        return None
    of_header, _, of_tensors = header[KEY].partition(" ")
    if of_header != f"{_of_header({name: text for name, text in header.items() if name != KEY}):08x}":
        return "header"
    if state is not None and of_tensors != f"{_of_tensors(state):08x}":
        return "weights"
    return None


def _of_header(header: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(sorted(header.items())).encode())


def _of_tensors(state: Mapping[str, Tensor]) -> int:
    check = 0
    for name, value in sorted(state.items()):
        check = zlib.crc32(f"{name} {value.dtype} {list(value.shape)}".encode(errors="surrogateescape"), check)
        check = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy(), check)
    return check
