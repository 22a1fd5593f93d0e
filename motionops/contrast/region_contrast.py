"""Contrast of the cells of local clips with those of global key maps, with soft targets."""

from typing import Any

import torch
from torch import Tensor

from motionops.arrays import as_tensor
from motionops.contrast.queue_infonce import accumulation_dtype
from motionops.geometry.soft_correspondence import soft_correspondence_reference
from motionops.library import NAMESPACE, check_kept, check_same_device, forbid_double_backward, ops, runs_on_cpu
from motionops.scalars import check_scalars


def region_contrast(query: Any, key: Any, query_extent: Any, key_extent: Any, *, temperature: float = 0.1) -> Tensor:
    r"""Soft-target contrast of local cells against all cells of all videos, storing neither logits nor targets.

    The loss of row (b, v, i) is :math:`-\sum_j S(i, j) \log p_{ij}`, j over the cells of video b, p a softmax over all
    cells of all B videos (Controllable Augmentations, region-level contrast); S is that of
    :func:`motionops.soft_correspondence`.

    Args:
        query: ``[B, V, t, h, w, D]``, V local clips, L2-normalised by the caller. Receives a gradient.
        key: ``[B, t', h', w', D]``. Receives a gradient where it requires one. Products are taken in its type.
        query_extent: ``[B, V, 3, 2]`` float32 or float64: (t, y, x) by (start, end) of each view in its source video.
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
    wanted = [torch.is_grad_enabled() and features.requires_grad for features in (query, key)]
    check_scalars("region_contrast", real={"temperature": temperature})
    return ops().region_contrast(query, key, query_extent.detach(), key_extent.detach(), temperature, *wanted)[0]


def region_contrast_reference(
    query: Tensor, key: Tensor, query_extent: Tensor, key_extent: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """:func:`region_contrast` in plain PyTorch, with logits and targets in memory: its definition."""
    accumulation = accumulation_dtype(key.dtype)
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


def register(namespace: str) -> None:
    """Registers fake kernels and gradients of the operators of ``namespace``."""
    forward_name, backward_name = f"{namespace}::region_contrast", f"{namespace}::region_contrast_backward"

    @torch.library.register_fake(forward_name)
    def _(query, key, query_extent, key_extent, temperature, query_gradient, key_gradient):
        check_same_device("region_contrast", "query", query, key=key, query_extent=query_extent, key_extent=key_extent)
        kept = accumulation_dtype(key.dtype)
        expected_query = key.shape if key_gradient and runs_on_cpu(namespace, query) else (0,)
        shapes = ((), query.shape[:5], query.shape[:5], query.shape if query_gradient else (0,), expected_query)
        return tuple(query.new_empty(shape, dtype=kept) for shape in shapes)

    @torch.library.register_fake(backward_name)
    def _(grad_loss, query, key, *others):
        return tuple(
            features.new_empty(features.shape if wants else (0,))
            for features, wants in zip((query, key), others[-2:], strict=True)
        )

    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs[:4], *output[1:])
        ctx.temperature, *ctx.kept_for = inputs[4:]

    def backward(ctx, grad_loss, *_):
        wanted = ctx.needs_input_grad[:2]
        check_kept("region_contrast", wanted, ctx.kept_for)
        gradients = getattr(torch.ops, namespace).region_contrast_backward(
            grad_loss, *ctx.saved_tensors, ctx.temperature, *wanted
        )
        return (
            *(value if wants else None for value, wants in zip(gradients, wanted, strict=True)),
            *[None] * 5,
        )

    torch.library.register_autograd(forward_name, backward, setup_context=setup_context)
    forbid_double_backward(namespace, "region_contrast")


register(NAMESPACE)
