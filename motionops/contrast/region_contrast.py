"""Contrast of the cells of local clips with those of global key maps, with soft targets."""

from typing import Any

import torch
from torch import Tensor

from motionops.arrays import as_tensor
from motionops.contrast.feature_gradients import feature_gradients, keep
from motionops.contrast.precision import tf32_allowed
from motionops.contrast.queue_infonce import accumulation_dtype
from motionops.fake_kernels import register_shapes
from motionops.geometry.soft_correspondence import soft_correspondence_reference
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE, runs_on_cpu
from motionops.scalars import check_scalars


def region_contrast(query: Any, key: Any, query_extent: Any, key_extent: Any, *, temperature: float = 0.1) -> Tensor:
    r"""Soft-target contrast of local cells against all cells of all videos, storing neither logits nor targets.

    The loss of row (b, v, i) is :math:`-\sum_j S(i, j) \log p_{ij}`, j over the cells of video b, p a softmax over all
    cells of all B videos (Controllable Augmentations, region-level contrast); S is that of
    :func:`motionops.soft_correspondence`.

    Args:
        query: ``[B, V, t, h, w, D]``, V local clips, or ``[B, t, h, w, D]``, one of each video; L2-normalised by the
            caller. Receives a gradient.
        key: ``[B, t', h', w', D]``. Receives a gradient where it requires one. Products are taken in its type.
        query_extent: ``[B, V, 3, 2]``, or ``[B, 3, 2]``, float32 or float64: (t, y, x) by (start, end) of each view in
            its source video.
        key_extent: ``[B, 3, 2]``, in the same units.
        temperature: finite and above 0.

    Returns:
        Scalar: the mean over all B·V·t·h·w rows, 0 where there is none.

    Raises:
        TypeError: a type that is not supported.
        ValueError: a shape, device or temperature that does not fit; on the CPU also a view without volume (NaN on
            CUDA).
    """
    op = "region_contrast"
    query, key = as_tensor(op, "query", query), as_tensor(op, "key", key)
    query_extent, key_extent = as_tensor(op, "query_extent", query_extent), as_tensor(op, "key_extent", key_extent)
    check_scalars(op, real={"temperature": temperature})
    if query.ndim == 5:
        query, query_extent = _as_one_view(query, query_extent)
    wanted = [torch.is_grad_enabled() and features.requires_grad for features in (query, key)]
    extents = query_extent.detach(), key_extent.detach()
    loss, *_ = call(op, query, key, *extents, float(temperature), *wanted, tf32_allowed(key), wanted=any(wanted))
    return loss


def region_contrast_reference(
    query: Tensor, key: Tensor, query_extent: Tensor, key_extent: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """:func:`region_contrast` in plain PyTorch, with logits and targets in memory: its definition."""
    accumulation = accumulation_dtype(key.dtype)
    if query.ndim == 5:
        query, query_extent = query[:, None], query_extent[:, None]
    batch, views, *query_grid, dim = query.shape
    rows = query.to(key.dtype).to(accumulation).reshape(-1, dim)
    columns = key.to(accumulation).reshape(-1, dim)
    if len(rows) == 0:
        return rows.sum() + columns[:0].sum()
    share = soft_correspondence_reference(
        query_extent.double(), key_extent[:, None].expand(batch, views, 3, 2).double(), query_grid, key.shape[1:4]
    ).to(accumulation)  # [B, V, cells, cells']
    log_probability = torch.log_softmax(rows @ columns.T / temperature, dim=1).reshape(
        batch, -1, batch, share.shape[-1]
    )
    own = torch.arange(batch, device=query.device)
    share, log_probability = share.flatten(1, 2), log_probability[own, :, own]
    # 0 log 0 = 0: a key that cannot be is no loss to those who do not want it
    log_probability = log_probability.masked_fill((share == 0) & (log_probability == -torch.inf), 0)
    return -(share * log_probability).sum() / len(rows)


def _as_one_view(query: Tensor, query_extent: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, t, h, w, D]`` and ``[B, 3, 2]`` with V = 1; what does not fit is named as the caller has it."""
    if 0 in query.shape[1:]:
        raise ValueError(f"region_contrast: query must be [B, t >= 1, h >= 1, w >= 1, D >= 1], got {list(query.shape)}")
    if query_extent.shape != (query.shape[0], 3, 2):
        raise ValueError(
            f"region_contrast: query_extent must be [B={query.shape[0]}, 3, 2], got {list(query_extent.shape)}"
        )
    return query.unsqueeze(1), query_extent.unsqueeze(1)


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""

    def shapes(query, key, query_extent, key_extent, temperature, query_gradient, key_gradient, tf32):
        kept = accumulation_dtype(key.dtype)
        expected_query = key.shape if key_gradient and runs_on_cpu(namespace, query) else (0,)
        shapes = ((), query.shape[:5], query.shape[:5], query.shape if query_gradient else (0,), expected_query)
        return tuple(query.new_empty(shape, dtype=kept) for shape in shapes)

    def backward_shapes(grad_loss, query, key, *others):
        *_, query_gradient, key_gradient, _ = others
        return tuple(
            features.new_empty(features.shape if wants else (0,))
            for features, wants in ((query, query_gradient), (key, key_gradient))
        )

    def save(ctx, inputs, output):
        *tensors, temperature, query_gradient, key_gradient, tf32 = inputs
        keep(ctx, "region_contrast", (*tensors, *output[1:]), (query_gradient, key_gradient), (temperature,), (tf32,))

    register_shapes(namespace, "region_contrast", shapes)
    register_shapes(namespace, "region_contrast_backward", backward_shapes)
    register_gradient(namespace, "region_contrast", save, feature_gradients, differentiable=2)


register(NAMESPACE)
