"""MCL's motion alignment loss (Li et al., "Motion-Focused Contrastive Learning of Video Representations", 2021)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from motionops.arrays import as_tensor, check_same_device

Variant = Literal["v1", "v2", "v3"]
Form = Literal["paper", "released"]


class MotionAlignment(NamedTuple):
    """How far a network's map is from the motion: `loss = st + s + t`, scalars, means over the batch.

    * ``st``: at every place and time; ``s``: over places, pooled over time; ``t``: over time, pooled over places.
    """

    loss: Tensor
    st: Tensor
    s: Tensor
    t: Tensor


def motion_alignment(
    gradient: Any,
    motion: Any,
    *,
    features: Any = None,
    variant: Variant = "v3",
    form: Form = "paper",
) -> MotionAlignment:
    """The motion alignment loss of MCL (Section 3.3, Eqs. 4 to 7).

    With h the output of the backbone's last convolution, g = ∂(q·k⁺)/∂h and w the mean of g over places (and times),
    the map that is aligned is

    * ``"v1"``: Σ_c h_c (Eq. 4)
    * ``"v2"``: ReLU(Σ_c w_c h_c) (Eq. 5)
    * ``"v3"``: ReLU(Σ_c w_c g_c) (Eq. 6), the paper's choice

    and with ⟨·⟩ dividing by the L2 norm,

    * ``form="paper"``: w_c is the mean of g_c over time and space. Each of the three parts is ‖⟨map⟩ − ⟨motion⟩‖²
      (Eq. 7), of the whole maps, of their means over time, of their means over space: 2 − 2 cos, so that a map
      proportional to the motion has no loss. (Taken to the letter, Eq. 7 pools the map after its normalisation and
      the motion before; then not even equal maps would be at zero. Here both are normalised last.)
    * ``form="released"``: as the authors' code has it. w is a mean over space for each time step by itself, and each
      part is 1 − cos; st is the sum of the time steps' cosines, weighted by the softmax over time of the motion's sums
      over space. (That code doubles the loss in the first epochs; that is the trainer's.)

    A map that is zero has cosine 0 with anything, and passes no gradient: its part is then a constant.

    Args:
        gradient: g, `[B, C, T, H, W]`, made with ``create_graph=True`` if the loss shall train a network. May be None
            for ``"v1"``, which does not look at it.
        motion: `[B, T, H, W]`, motion map of the clip that the network saw, cut and mirrored as it was. Of another
            size it is averaged over the cells of the map.
        features: h, `[B, C, T, H, W]`; needed for ``"v1"`` and ``"v2"``.
        variant, form: see above.

    Returns:
        :class:`MotionAlignment`, differentiable in `gradient` and `features`, also twice; computed in float32 or wider.
        An empty batch has loss 0.

    Raises:
        TypeError: no tensors or arrays, or not floating.
        ValueError: shapes that do not fit, tensors on different devices, an unknown variant or form, features missing.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"motion_alignment: variant must be one of v1, v2, v3, got {variant!r}")
    if form not in get_args(Form):
        raise ValueError(f"motion_alignment: form must be paper or released, got {form!r}")
    motion = _floating("motion", motion, "[B, T, H, W]")
    maps = {}
    if variant != "v1":
        maps["gradient"] = _floating("gradient", gradient, "[B, C, T, H, W]")
    if variant != "v3":
        if features is None:
            raise ValueError(f"motion_alignment: features must be [B, C, T, H, W] for variant {variant}, got None")
        maps["features"] = _floating("features", features, "[B, C, T, H, W]")
    first, *others = maps.values()
    if any(other.shape != first.shape for other in others):
        raise ValueError(
            f"motion_alignment: features must be {list(first.shape)} as gradient is, got {list(others[0].shape)}"
        )
    if len(motion) != len(first):
        raise ValueError(f"motion_alignment: motion must be [B={len(first)}, T, H, W], got {list(motion.shape)}")
    check_same_device("motion_alignment", "motion", motion, **maps)
    if 0 in first.shape[1:] or 0 in motion.shape[1:]:
        raise ValueError("motion_alignment: gradient, features and motion must have no empty axis but B")

    if motion.shape[1:] != first.shape[2:]:
        motion = F.adaptive_avg_pool3d(motion[:, None], first.shape[2:])[:, 0]
    aligned = aligned_map(maps.get("gradient"), maps.get("features"), variant, form)
    parts = _paper_parts(aligned, motion) if form == "paper" else _released_parts(aligned, motion)
    if len(motion) == 0:
        parts = [part.sum() for part in parts]
    else:
        parts = [part.mean() for part in parts]
    return MotionAlignment(sum(parts), *parts)


def aligned_map(
    gradient: Tensor | None, features: Tensor | None, variant: Variant = "v3", form: Form = "paper"
) -> Tensor:
    """What is aligned with the motion, `[B, T, H, W]`: arguments as of `motion_alignment`."""
    if variant == "v1":
        return features.sum(dim=1)
    weight = gradient.mean(dim=(2, 3, 4) if form == "paper" else (3, 4), keepdim=True)
    return F.relu((weight * (features if variant == "v2" else gradient)).sum(dim=1))


def _paper_parts(aligned: Tensor, motion: Tensor) -> list[Tensor]:
    """‖⟨a⟩ − ⟨m⟩‖² for st, s, t, each `[B]`."""
    pools = (lambda x: x, lambda x: x.mean(dim=1), lambda x: x.mean(dim=(2, 3)))
    parts = []
    for pool in pools:
        a, m = pool(aligned).flatten(1), pool(motion).flatten(1)
        # The squared norms are 1, or 0 of a zero map, and constants: only the cosine has a gradient.
        parts.append(_not_zero(a) + _not_zero(m) - 2 * _cosine(a, m))
    return parts


def _released_parts(aligned: Tensor, motion: Tensor) -> list[Tensor]:
    """1 − cos for st, s, t, each `[B]`."""
    attention = motion.sum(dim=(2, 3)).softmax(dim=1)
    st = (attention * _cosine(aligned.flatten(2), motion.flatten(2))).sum(dim=1)
    s = _cosine(aligned.mean(dim=1).flatten(1), motion.mean(dim=1).flatten(1))
    t = _cosine(aligned.sum(dim=(2, 3)), motion.sum(dim=(2, 3)))
    return [1 - part for part in (st, s, t)]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine over the last axis; 0, without gradient, where one of the two is zero."""
    return (_normalised(a) * _normalised(b)).sum(dim=-1)


def _normalised(x: Tensor) -> Tensor:
    """x over its L2 norm along the last axis; zero stays zero, and its gradient is zero too.

    Gradient maps are small: w and g are each of the order of 1 / (T H W). Hence first over the largest element, or the
    squares could vanish.
    """
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    zero = largest == 0
    x = x / torch.where(zero, 1.0, largest)
    squares = torch.where(zero, 1.0, x.square().sum(dim=-1, keepdim=True))
    return torch.where(zero, torch.zeros_like(x), x * squares.rsqrt())


def _not_zero(x: Tensor) -> Tensor:
    return (x.detach() != 0).any(dim=-1).to(x.dtype)


def _floating(name: str, value: Any, shape: str) -> Tensor:
    value = as_tensor("motion_alignment", name, value)
    if value.ndim != shape.count(",") + 1:
        raise ValueError(f"motion_alignment: {name} must be {shape}, got {list(value.shape)}")
    if not value.is_floating_point():
        raise TypeError(f"motion_alignment: {name} must be of a floating type, got {value.dtype}")
    return value.to(torch.promote_types(value.dtype, torch.float32))
