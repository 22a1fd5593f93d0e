"""Peers that a machine may lack: what is installed is measured, what is not is named."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, util
from types import ModuleType

import torch
from torch import Tensor

# module -> what it is called in the results
OPTIONAL = {
    "kornia": "kornia",
    "scipy": "SciPy",
    "cv2": "OpenCV",
    "skimage": "scikit-image",
    "torchvision": "torchvision",
    "cupy": "CuPy",
    "cut_cross_entropy": "cut-cross-entropy",
    "liger_kernel": "Liger",
}


def installed(name: str) -> bool:
    """Whether a module can be found; nothing is imported."""
    return util.find_spec(name) is not None


def missing() -> list[str]:
    """The peers that are not measured here, by what they are called."""
    return [title for name, title in OPTIONAL.items() if not installed(name)]


def optional(name: str) -> ModuleType | None:
    """A module, or None where it, or something that it needs, is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def linear_cross_entropies(query: Tensor, key: Tensor, temperature: float) -> dict[str, Callable[[], tuple]]:
    """The fused losses of language models, as InfoNCE in a batch: a row's class is its own key. On a GPU alone.

    Args:
        query: [N, D], the rows; key: [M, D], the classes; both want gradients.
        temperature: divides the similarities.

    Returns:
        name -> function that returns (loss, gradient of query, gradient of key); those that are installed.
    """
    found: dict[str, Callable[[], tuple]] = {}
    if query.device.type != "cuda":
        return found
    own = torch.arange(len(query), device=query.device)

    def with_gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], tuple]:
        def step() -> tuple:
            value = loss(query / temperature, key)
            return value, *torch.autograd.grad(value, (query, key))

        return step

    apple = optional("cut_cross_entropy")
    if apple is not None:
        found["cut-cross-entropy"] = with_gradients(lambda rows, keys: apple.linear_cross_entropy(rows, keys, own))
    liger = optional("liger_kernel.transformers")
    if liger is not None:
        fused = liger.LigerFusedLinearCrossEntropyLoss()
        found["Liger"] = with_gradients(lambda rows, keys: fused(keys, rows, own))
    return found
