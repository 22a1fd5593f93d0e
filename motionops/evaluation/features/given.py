"""What protocols are given: features and classes as users have them, or one line that says what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from motionops.arrays import as_tensor, numbers_on_host


def given_features(op: str, argument: str, value: Any) -> Tensor:
    """Features ``[videos, C]`` of a tensor, an array or nested lists, detached, where they are.

    Raises:
        TypeError: they are no numbers.
        ValueError: another shape, no video, a feature that is not finite.
    """
    shares = isinstance(value, Tensor) or hasattr(value, "__dlpack__")
    features = (as_tensor if shares else numbers_on_host)(op, argument, value).detach()
    if features.ndim != 2:
        raise ValueError(f"{op}: {argument} must be [videos, C], got {list(features.shape)}")
    if features.shape[0] == 0:
        raise ValueError(f"{op}: {argument} must hold at least one video, got none")
    finite = torch.isfinite(features).all(dim=1)
    if not finite.all():
        raise ValueError(f"{op}: {argument} row {int((~finite).nonzero()[0])} is not finite")
    return features


def given_classes(op: str, argument: str, value: Any) -> list[Any]:
    """Classes, integers or strings, of a tensor, an array or any sequence. TypeError where they are none."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{op}: {argument} must be a sequence of classes, got {type(value).__name__}")
    classes = value.tolist() if hasattr(value, "tolist") else list(value)
    classes = classes if isinstance(classes, list) else [classes]  # of a 0-d tensor
    for place, label in enumerate(classes):
        if getattr(label, "shape", None) == ():  # NumPy's and torch's numbers in a list
            classes[place] = label = label.item()
        if not isinstance(label, (str, int, float)):
            said = f"got {type(label).__name__} at {place}"
            raise TypeError(f"{op}: {argument} must hold a class for each video, integers or strings, {said}")
    return classes
