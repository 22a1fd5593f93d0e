"""Contrast of the cells of local clips with those of global key maps, with soft targets."""

import torch
from torch import Tensor

from motionops.arrays import Array, as_tensor
from motionops.contrast.feature_gradients import DIFFERENTIABLE, accumulation_dtype, feature_gradients, keep
from motionops.contrast.precision import tf32_allowed
from motionops.contrast.temperature import as_temperature
from motionops.contrast.unit_rows import warn_of_other_lengths
from motionops.fake_kernels import register_shapes
from motionops.geometry.soft_correspondence import soft_correspondence_reference
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE, runs_on_cpu

ROWS = ("all", "overlapping")


def region_contrast(
    query: Tensor | Array,
    key: Tensor | Array,
    query_extent: Tensor | Array,
    key_extent: Tensor | Array,
    *,
    temperature: float | Tensor = 0.1,
    rows: str = "all",
) -> Tensor:
    r"""Soft-target contrast of local cells against all cells of all videos, storing neither logits nor targets.

    The loss of row (b, v, i) is :math:`-\sum_j S(i, j) \log p_{ij}`, j over the cells of video b, p a softmax over all
    cells of all M videos (Controllable Augmentations, region-level contrast); S is that of
    :func:`motionops.soft_correspondence`. A row that overlaps nothing of its video's key view has no target, and its
    loss is 0.

    Args:
        query: ``[B, V, t, h, w, D]``, V local clips, or ``[B, t, h, w, D]``, one of each video; L2-normalised by the
            caller. Receives a gradient.
        key: ``[M, t', h', w', D]`` with M ≥ B; the first B are of the queries' own videos, further ones, as those of
            other ranks, are negatives. Receives a gradient where it requires one. Products are taken in its type.
        query_extent: ``[B, V, 3, 2]``, or ``[B, 3, 2]``, float32 or float64: (t, y, x) by (start, end) of each view in
            its source video.
        key_extent: ``[M, 3, 2]``, in the same units; the first B count.
        temperature: :math:`\tau`, finite and above 0: a number, or a scalar tensor, which receives a gradient where it
            requires one and, on a GPU, is read there (nothing waits, and nothing refuses one that is not above 0). A
            schedule under ``torch.compile`` is a tensor: a number is compiled in.
        rows: which the mean is over: "all" B·V·t·h·w, those without overlap count 0 in it, as in the paper's sum; or
            "overlapping", they are left out.

    Returns:
        Scalar: the mean over the rows, 0 where there is none.

    Several ranks:
        Against this rank's videos alone, unless key and key_extent have gone through
        ``motionops.ranks.gather_own_first``: then the mean over ranks is one process's loss, its gradient too.

    Raises:
        TypeError: a type that is not supported.
        ValueError: a shape, device or temperature that does not fit; on the CPU also a view without volume (NaN on
            CUDA).

    Warns:
        UserWarning: features on the CPU whose rows are not of length 1, as where their channels come first.
    """
    op = "region_contrast"
    query, key = as_tensor(op, "query", query), as_tensor(op, "key", key)
    query_extent, key_extent = as_tensor(op, "query_extent", query_extent), as_tensor(op, "key_extent", key_extent)
    temperature, number = as_temperature(op, temperature)
    if rows not in ROWS:
        raise ValueError(f"{op}: rows must be one of {', '.join(ROWS)}, got {rows!r}")
    if query.ndim == 5:
        query, query_extent = _as_one_view(query, query_extent)
    query_gradient = query.requires_grad or (temperature is not None and temperature.requires_grad)
    wanted = [torch.is_grad_enabled() and wants for wants in (query_gradient, key.requires_grad)]
    extents = query_extent.detach(), key_extent.detach()
    loss, _, weight, *_ = call(
        op, query, key, temperature, *extents, number, *wanted, tf32_allowed(key), wanted=any(wanted)
    )
    warn_of_other_lengths(op, query=query, key=key)
    if rows == "overlapping" and weight.numel():
        return loss * weight.numel() / (weight > 0).sum().clamp(min=1)
    return loss


def region_contrast_reference(
    query: Tensor,
    key: Tensor,
    query_extent: Tensor,
    key_extent: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    rows: str = "all",
) -> Tensor:
    """:func:`region_contrast` in plain PyTorch, with logits and targets in memory: its definition."""
    accumulation = accumulation_dtype(key.dtype)
    if query.ndim == 5:
        query, query_extent = query[:, None], query_extent[:, None]
    batch, views, *query_grid, dim = query.shape
    queries = query.to(key.dtype).to(accumulation).reshape(-1, dim)
    columns = key.to(accumulation).reshape(-1, dim)
    if len(queries) == 0:
        return queries.sum() + columns[:0].sum()
    share = soft_correspondence_reference(
        query_extent.double(), key_extent[:batch, None].expand(-1, views, 3, 2).double(), query_grid, key.shape[1:4]
    ).to(accumulation)  # [B, V, cells, cells']
    log_probability = torch.log_softmax(queries @ columns.T / temperature, dim=1).reshape(
        batch, -1, len(key), share.shape[-1]
    )
    own = torch.arange(batch, device=query.device)
    share, log_probability = share.flatten(1, 2), log_probability[own, :, own]
    # 0 log 0 = 0: a key that cannot be is no loss to those who do not want it
    log_probability = log_probability.masked_fill((share == 0) & (log_probability == -torch.inf), 0)
    counted = (share.sum(-1) > 0).sum().clamp(min=1) if rows == "overlapping" else len(queries)
    return -(share * log_probability).sum() / counted


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
    op = "region_contrast"

    def shapes(query, key, *others):
        *_, query_gradient, key_gradient, _ = others
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
        *tensors, number, query_gradient, key_gradient, tf32 = inputs
        prepared = query_gradient, key_gradient
        keep(ctx, op, (*tensors, *output[1:]), prepared, tensors[1].dtype, (number,), (tf32,))

    register_shapes(namespace, op, shapes)
    register_shapes(namespace, f"{op}_backward", backward_shapes)
    register_gradient(namespace, op, save, feature_gradients, differentiable=DIFFERENTIABLE, results=3)


register(NAMESPACE)
