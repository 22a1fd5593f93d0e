"""Which cells of a feature map belong to what moves: FIMA's foreground sampling (Zhu et al. 2023, Section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from motionops.arrays import as_tensor, check_same_device


@torch.no_grad()
def foreground_mask(rgb_map: Tensor, difference_map: Tensor, quantile: float = 0.5) -> Tensor:
    """Cells where the fused class-agnostic activation map exceeds its quantile (FIMA Eq. 6).

    The activation map is the mean of a feature map over channels and time; the maps of the two modalities are added
    as they are, without normalisation. A cell is foreground where the sum lies strictly above its quantile
    over the cells of that sample (linear interpolation between ranks): 24 of 49 at 0.5. Cells that tie with the
    quantile are background, so a constant map has no foreground.

    The paper calls beta both this quantile (Eq. 6) and the share of the foreground (Appendix D.2); at its default of
    0.5 the two agree. Here Eq. 6 rules: a larger `quantile` leaves fewer cells.

    Args:
        rgb_map: `[B, C, T, H, W]` feature map of the RGB clip.
        difference_map: feature map of the frame difference, same B, H, W and device.
        quantile: beta, in [0, 1].

    Returns:
        `[B, H, W]` bool; one mask for all frames of the map. No gradient flows.

    Raises:
        TypeError: maps that are no tensors or arrays, or not floating.
        ValueError: maps not five-dimensional, of different B, H, W or on different devices; `quantile` outside [0, 1].
    """
    rgb_map = _as_map("foreground_mask", "rgb_map", rgb_map)
    difference_map = _as_map("foreground_mask", "difference_map", difference_map)
    check_same_device("foreground_mask", "rgb_map", rgb_map, difference_map=difference_map)
    b, _, _, h, w = rgb_map.shape
    if (difference_map.shape[0], *difference_map.shape[3:]) != (b, h, w):
        raise ValueError(
            f"foreground_mask: difference_map must be [B={b}, C, T, H={h}, W={w}], got {list(difference_map.shape)}"
        )
    if not 0.0 <= quantile <= 1.0:
        raise ValueError(f"foreground_mask: quantile must be in [0, 1], got {quantile}")
    return above_quantile(activation_map(rgb_map) + activation_map(difference_map), quantile)


def activation_map(features: Tensor) -> Tensor:
    """Class-agnostic activation map, the mean over channels, then time: `[B, C, T, H, W] -> [B, H, W]`.

    Raises:
        TypeError: no tensor or array, or not a floating one.
        ValueError: another shape.
    """
    features = _as_map("activation_map", "features", features)
    dtype = torch.promote_types(features.dtype, torch.float32)
    return features.to(dtype).mean(dim=1).mean(dim=1)


def _as_map(op: str, argument: str, value: Tensor) -> Tensor:
    features = as_tensor(op, argument, value)
    if features.ndim != 5:
        raise ValueError(f"{op}: {argument} must be [B, C, T, H, W], got {list(features.shape)}")
    if not features.is_floating_point():
        raise TypeError(f"{op}: {argument} must be of a floating type, got {features.dtype}")
    return features


def above_quantile(activation: Tensor, quantile: float) -> Tensor:
    """`[B, H, W]` bool: cells strictly above a quantile of their sample's `activation [B, H, W]`."""
    if activation.numel() == 0:
        return torch.zeros(activation.shape, dtype=torch.bool, device=activation.device)
    # torch.quantile in steps: it looks at its argument's value on the CPU, where torch 2.11 cannot compile it.
    values = activation.flatten(1).sort(dim=1).values
    place = values.new_full((1,), quantile) * (values.shape[1] - 1)
    below, above = (values.index_select(1, end.long()) for end in (place.floor(), place.ceil()))
    threshold = below.lerp(above, place - place.floor())
    threshold = threshold.where(~values[:, -1:].isnan(), torch.nan)  # sorted to the end
    return activation > threshold[:, :, None]
