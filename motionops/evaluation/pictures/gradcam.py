"""Grad-CAM: where a classifier on a network's features finds its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def grad_cam(
    backbone: nn.Module, clips: Tensor, scores: Callable[[Tensor], Tensor], classes: Sequence[int] | Tensor
) -> Tensor:
    """Grad-CAM of a class's score over the backbone's feature map, scaled to 0..1 in each clip.

    The weight of a channel is the mean over time and space of the score's gradient by it; the map is the positive part
    of the weighted sum of the channels.

    Args:
        backbone: ``[B, 3, T, S, S] -> [B, C, T', H', W']``; it runs in eval mode, and its mode is restored.
        clips: normalised, ``[B, 3, T, S, S]``.
        scores: pooled features ``[B, C]`` -> ``[B, K]``, differentiable: a linear classifier's logits.
        classes: the class of each clip whose score is explained, B numbers.

    Returns:
        ``[B, T', H', W']`` float32. A clip in which nothing speaks for the class has a map of zeros.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
    2017, Eqs. 1 and 2; over a frozen backbone with a linear classifier, as MoDist (section 4.6).
    """
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            maps = backbone(clips).float()
    finally:
        backbone.train(was_training)
    if maps.ndim != 5:
        raise ValueError(f"grad_cam: the backbone must give maps [B, C, T, H, W], got {list(maps.shape)}")
    chosen = torch.as_tensor(classes, device=maps.device).long()
    if chosen.shape != (len(clips),):
        raise ValueError(f"grad_cam: classes must be [B={len(clips)}], got {list(chosen.shape)}")
    with torch.enable_grad():
        maps = maps.detach().requires_grad_()
        score = scores(maps.mean(dim=(2, 3, 4))).gather(1, chosen[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, maps)
    weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
    cam = (weights * maps.detach()).sum(dim=1).relu()
    return cam / cam.amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
