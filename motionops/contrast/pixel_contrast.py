"""FIMA's pixel contrast: foreground pixels of a predicted map against all pixels of the key maps of a batch."""

import torch
from torch import Tensor

from motionops.arrays import Array, as_optional_tensor, as_tensor
from motionops.contrast.feature_gradients import DIFFERENTIABLE, accumulation_dtype, feature_gradients, keep
from motionops.contrast.precision import tf32_allowed
from motionops.contrast.temperature import as_temperature
from motionops.contrast.unit_rows import warn_of_other_lengths
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE
from motionops.scalars import check_scalars


def pixel_contrast(
    query: Tensor | Array,
    key: Tensor | Array,
    query_extent: Tensor | Array,
    key_extent: Tensor | Array,
    *,
    radius: float = 0.7,
    temperature: float | Tensor = 0.1,
    query_mask: Tensor | Array | None = None,
    key_mask: Tensor | Array | None = None,
    negatives: Tensor | Array | None = None,
) -> Tensor:
    r"""Contrast of every foreground pixel with the near foreground pixels of the same frame as positives.

    For a query pixel with at least one positive,

    .. math:: l = \log \sum_n e^{q k_n/\tau} - \log \sum_{p \in P} e^{q k_p/\tau}

    over all M·T·H·W key pixels and the ``negatives``; its positives P are the key pixels of the same sample and the
    same frame index that are nearer than ``radius``, where both masks are true. The loss is the mean over such pixels
    within a sample, then over the samples that have any; with none at all it is exactly 0 and so are the gradients.

    Pixel centres are placed in the source frame by the extents; their distance is taken in the unit square, over the
    larger of the two views' cell diagonals. (FIMA, "Fine-Grained Spatiotemporal Motion
    Alignment for Contrastive Video Representation Learning", equations 3 and 8.)

    Args:
        query: ``[B, T, H, W, D]``, L2-normalised by the caller. Receives a gradient.
        key: ``[M, T, H, W, D]`` with M ≥ B; the first B are the key views of the queries' samples, further ones, as
            those of other ranks, are negatives. Receives a gradient where it requires one.
        query_extent: ``[B, 3, 2]``, rows (t, y, x), columns (start, end); only y and x are used, as fractions of the
            frame. A mirrored view has start > end.
        key_extent: ``[M, 3, 2]``, those of the key views; the first B count.
        radius: largest distance of a positive, exclusive, in cell diagonals; a number, finite and above 0. Under
            ``torch.compile`` it is compiled in.
        temperature: :math:`\tau`, finite and above 0: a number, or a scalar tensor, which receives a gradient where it
            requires one and, on a GPU, is read there (nothing waits, and nothing refuses one that is not above 0). A
            schedule under ``torch.compile`` is a tensor: a number is compiled in.
        query_mask: ``[B, H, W]`` bool, the foreground of the query view, the same in all its frames, or
            ``[B, T, H, W]``, one a frame; None: everything.
        key_mask: bool, that of the key view, in either form; of B samples, or of M, of which the first B count.
        negatives: ``[K, D]`` further columns, a queue. They receive no gradient. Products are taken in their type, or
            in the key's where there are none; sums are accumulated in float32 or wider.

    Returns:
        Scalar loss, float32 (float64 where the products are float64).

    Several ranks:
        Against this rank's videos alone, unless key, key_extent and key_mask have gone through
        ``motionops.ranks.gather_own_first``. The mean is over samples that have a positive, of which ranks may have
        more or fewer: times :func:`motionops.rank_weight`, the mean over ranks is one process's loss, its gradient too.

    Raises:
        TypeError: a type that is not supported.
        ValueError: a shape, device, radius or temperature that does not fit.

    Warns:
        UserWarning: features on the CPU whose rows are not of length 1, as where their channels come first.
    """
    op = "pixel_contrast"
    query, key = as_tensor(op, "query", query), as_tensor(op, "key", key)
    query_extent, key_extent = as_tensor(op, "query_extent", query_extent), as_tensor(op, "key_extent", key_extent)
    query_mask = as_optional_tensor(op, "query_mask", query_mask)
    key_mask = as_optional_tensor(op, "key_mask", key_mask)
    negatives = as_optional_tensor(op, "negatives", negatives)
    check_scalars(op, real={"radius": radius})
    temperature, number = as_temperature(op, temperature)
    query_gradient = query.requires_grad or (temperature is not None and temperature.requires_grad)
    loss, *_ = call(
        op,
        query,
        key,
        temperature,
        query_extent.detach() if query_extent.requires_grad else query_extent,
        key_extent.detach() if key_extent.requires_grad else key_extent,
        query_mask,
        key_mask,
        negatives.detach() if negatives is not None and negatives.requires_grad else negatives,
        float(radius),
        number,
        query_gradient and torch.is_grad_enabled(),
        tf32_allowed(key if negatives is None else negatives),
        wanted=query_gradient or key.requires_grad,
    )
    warn_of_other_lengths(op, query=query, key=key)
    return loss


def pixel_contrast_reference(
    query: Tensor,
    key: Tensor,
    query_extent: Tensor,
    key_extent: Tensor,
    *,
    radius: float = 0.7,
    temperature: float | Tensor = 0.1,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    negatives: Tensor | None = None,
) -> Tensor:
    """:func:`pixel_contrast` in plain PyTorch, with all logits in memory: its definition.

    Values are rounded to the products' type and then multiplied and added in float32 (float64 for float64); pixels are
    placed in float64.
    """
    batch, frames, height, width, dim = query.shape
    area = height * width
    products = key.dtype if negatives is None else negatives.dtype
    accumulation = accumulation_dtype(products)
    own_mask = None if key_mask is None else key_mask[:batch]
    pairs = positive_pairs(query_extent, key_extent[:batch], height, width, radius, query_mask, own_mask)
    positives = pairs.expand(-1, frames, -1, -1)  # [B, T, HW, HW]
    counted = positives.any(dim=3)  # [B, T, HW]
    per_sample = counted.sum(dim=(1, 2))  # [B]
    samples = (per_sample > 0).sum()

    queries = query.to(products).to(accumulation).reshape(batch, frames, area, dim)
    columns = key.to(products).to(accumulation).reshape(-1, dim)
    key_frames = len(key) * frames
    b, t, i = counted.nonzero(as_tuple=True)  # the R rows that have positives
    if len(b) == 0:
        # Sums of nothing: exactly 0, and part of the graph.
        return queries[:0].sum() + columns[:0].sum()
    rows = queries[b, t, i]  # [R, D]
    if negatives is not None:
        columns = torch.cat([columns, negatives.detach().to(accumulation)])
    log_probability = torch.log_softmax(rows @ columns.T / temperature, dim=1)  # [R, M·T·H·W + K]
    own = log_probability[:, : key_frames * area].reshape(-1, key_frames, area)
    own = own[torch.arange(len(b), device=b.device), b * frames + t]  # [R, HW] the keys of the row's own frame
    loss = -torch.logsumexp(own.masked_fill(~positives[b, t, i], -torch.inf), dim=1)
    return (loss / (per_sample[b] * samples)).sum()


def positive_pairs(
    query_extent: Tensor,
    key_extent: Tensor,
    height: int,
    width: int,
    radius: float,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """Which key pixels are positives of which query pixels: ``[B, 1, HW, HW]`` bool, the same in all frames, or
    ``[B, T, HW, HW]`` where a mask is one a frame."""
    query_y, query_x, query_diagonal = _placement(query_extent, height, width)
    key_y, key_x, key_diagonal = _placement(key_extent, height, width)
    dy = query_y[:, :, None] - key_y[:, None, :]
    dx = query_x[:, :, None] - key_x[:, None, :]
    distance = torch.sqrt(dy**2 + dx**2) / torch.maximum(query_diagonal, key_diagonal)[:, None, None]
    positives = (distance < radius)[:, None]
    if query_mask is not None:
        positives = positives & _of_frames(query_mask)[..., None]
    if key_mask is not None:
        positives = positives & _of_frames(key_mask)[:, :, None]
    return positives


def _of_frames(mask: Tensor) -> Tensor:
    """``[B, 1, HW]`` of a mask for all frames, ``[B, T, HW]`` of one a frame."""
    return (mask if mask.ndim == 4 else mask[:, None]).flatten(2)


def _placement(extent: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centres ``[B, HW]`` of the pixels in y and in x, and ``[B]`` diagonals of a cell."""
    extent = extent.double()
    start_y, start_x = extent[:, 1, 0], extent[:, 2, 0]
    step_y = (extent[:, 1, 1] - start_y) / height
    step_x = (extent[:, 2, 1] - start_x) / width
    y = (torch.arange(height, device=extent.device) + 0.5) * step_y[:, None] + start_y[:, None]
    x = (torch.arange(width, device=extent.device) + 0.5) * step_x[:, None] + start_x[:, None]
    return (
        y[:, :, None].expand(-1, height, width).flatten(1),
        x[:, None, :].expand(-1, height, width).flatten(1),
        torch.sqrt(step_y**2 + step_x**2),
    )


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""
    op = "pixel_contrast"

    def shapes(query, key, *others):
        *_, negatives, _, _, query_gradient, _ = others
        kept = accumulation_dtype(key.dtype if negatives is None else negatives.dtype)
        difference = query.shape if query_gradient else (0, *query.shape[1:])
        shapes = ((), *[query.shape[:4]] * 3, difference)
        return tuple(query.new_empty(shape, dtype=kept) for shape in shapes)

    def backward_shapes(grad_loss, query, key, *others):
        *_, query_gradient, key_gradient, _ = others
        return tuple(
            features.new_empty(features.shape if wants else (0, *features.shape[1:]))
            for features, wants in ((query, query_gradient), (key, key_gradient))
        )

    def save(ctx, inputs, output):
        *tensors, negatives, radius, number, query_gradient, tf32 = inputs
        products = tensors[1].dtype if negatives is None else negatives.dtype
        prepared, numbers = (query_gradient, True), (radius, number, products)
        keep(ctx, op, (*tensors, *output[1:]), prepared, products, numbers, (tf32,))

    register_shapes(namespace, op, shapes)
    register_shapes(namespace, f"{op}_backward", backward_shapes)
    register_gradient(namespace, op, save, feature_gradients, differentiable=DIFFERENTIABLE)


register(NAMESPACE)
