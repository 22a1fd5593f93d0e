"""InfoNCE of queries against their own keys, a queue of negatives and extra negatives."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from motionops.arrays import as_optional_tensor, as_tensor
from motionops.contrast.feature_gradients import feature_gradients, keep
from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.precision import tf32_allowed
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE
from motionops.scalars import check_scalars


class InfoNCE(NamedTuple):
    """What an InfoNCE operator returns.

    Attributes:
        loss: scalar, the mean over the queries; float32, or float64 where the products are float64.
        rank: ``[B]`` int32, how many negatives score above the positive; 0 means that the query found its key.
    """

    loss: Tensor
    rank: Tensor


def queue_infonce(
    query: Any,
    key: Any,
    queue: Any,
    *,
    temperature: float = 0.1,
    extra_negatives: Any | None = None,
    query_ids: Any | None = None,
    queue_ids: Any | None = None,
) -> InfoNCE:
    r"""InfoNCE against a queue of negatives, without ever storing the logits.

    .. math::
        L_i = -\log \frac{e^{q_i k_i/\tau}}{e^{q_i k_i/\tau} + \sum_j e^{q_i n_j/\tau} + \sum_e e^{q_i x_e/\tau}}

    with the queue rows ``n``, of which those with ``queue_ids[j] == query_ids[i]`` do not count, and the extra
    negatives ``x``. van den Oord et al. 2018 (eq. 4) with the queue of He et al. 2020 (MoCo, eq. 1); the ids are
    MoDist's rule that no negative comes from the query's own video.

    Args:
        query: ``[B, D]``, L2-normalised by the caller. Receives a gradient.
        key: ``[B, D]``, row i is the positive of query i. Receives a gradient where it requires one.
        queue: ``[K, D]`` negatives, or a :class:`motionops.FeatureQueue` that holds them. Never receives a gradient.
            Products are taken in its type: query, key and extra negatives are rounded to it, sums are accumulated in
            float32 or wider.
        temperature: :math:`\tau`, finite and above 0.
        extra_negatives: ``[E, D]`` or None: more negatives for every query. They receive no gradient.
        query_ids: ``[B]`` int64, the video of each query; given together with ``queue_ids``, which a ``FeatureQueue``
            brings along.
        queue_ids: ``[K]`` int64, the video of each queue row. −1, a queue's "unknown", is an id like any other: such
            rows count for every query but one whose own id is −1.

    Returns:
        :class:`InfoNCE`: the mean loss (0 where B = 0), and the rank of every positive.

    Raises:
        TypeError: a type that is not supported.
        ValueError: a shape, device or temperature that does not fit; ids given singly.
    """
    op = "queue_infonce"
    queue, queue_ids = _rows_and_ids(queue, query_ids, queue_ids)
    query, key, queue = as_tensor(op, "query", query), as_tensor(op, "key", key), as_tensor(op, "queue", queue)
    extra_negatives = as_optional_tensor(op, "extra_negatives", extra_negatives)
    query_ids = as_optional_tensor(op, "query_ids", query_ids)
    queue_ids = as_optional_tensor(op, "queue_ids", queue_ids)
    check_scalars(op, real={"temperature": temperature})
    wanted = query.requires_grad or key.requires_grad
    loss, rank, *_ = call(
        op,
        query,
        key,
        queue.detach() if queue.requires_grad else queue,
        extra_negatives.detach() if extra_negatives is not None and extra_negatives.requires_grad else extra_negatives,
        query_ids,
        queue_ids,
        float(temperature),
        query.requires_grad and torch.is_grad_enabled(),
        tf32_allowed(queue),
        wanted=wanted,
    )
    return InfoNCE(loss, rank)


def queue_infonce_reference(
    query: Tensor,
    key: Tensor,
    queue: Tensor | FeatureQueue,
    *,
    temperature: float = 0.1,
    extra_negatives: Tensor | None = None,
    query_ids: Tensor | None = None,
    queue_ids: Tensor | None = None,
) -> InfoNCE:
    """:func:`queue_infonce` in plain PyTorch, with all logits in memory: its definition.

    Values are rounded to the queue's type and then multiplied and added in float32 (float64 for float64).
    """
    queue, queue_ids = _rows_and_ids(queue, query_ids, queue_ids)
    accumulation = accumulation_dtype(queue.dtype)
    queue = queue.detach()

    def rounded(features: Tensor) -> Tensor:
        return features.to(queue.dtype).to(accumulation)

    query, key = rounded(query), rounded(key)
    positive = (query * key).sum(dim=1, keepdim=True)
    negatives = query @ queue.to(accumulation).T
    if query_ids is not None and queue_ids is not None:
        negatives = negatives.masked_fill(query_ids[:, None] == queue_ids[None, :], -torch.inf)
    if extra_negatives is not None:
        negatives = torch.cat([negatives, query @ rounded(extra_negatives.detach()).T], dim=1)
    rank = (negatives > positive).sum(dim=1, dtype=torch.int32)
    if query.shape[0] == 0:
        return InfoNCE(positive.sum(), rank)
    logits = torch.cat([positive, negatives], dim=1) / temperature
    return InfoNCE(F.cross_entropy(logits, logits.new_zeros(logits.shape[0], dtype=torch.int64)), rank)


def _rows_and_ids(queue: Any, query_ids: Any | None, queue_ids: Any | None) -> tuple[Any, Any | None]:
    """The rows of a queue and their ids, which one of its own has along where the queries' are known."""
    if not isinstance(queue, FeatureQueue):
        return queue, queue_ids
    return queue.features, queue.ids if queue_ids is None and query_ids is not None else queue_ids


def accumulation_dtype(products: torch.dtype) -> torch.dtype:
    """The type in which sums of products of ``products`` values are kept."""
    return torch.float64 if products == torch.float64 else torch.float32


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""

    def shapes(query, key, queue, extra_negatives, query_ids, queue_ids, temperature, query_gradient, tf32):
        rows, dim = query.shape
        kept = accumulation_dtype(queue.dtype)
        return (
            query.new_empty((), dtype=kept),
            query.new_empty((rows,), dtype=torch.int32),
            query.new_empty((rows,), dtype=kept),
            query.new_empty((rows,), dtype=kept),
            query.new_empty((rows if query_gradient else 0, dim), dtype=kept),
        )

    def backward_shapes(grad_loss, query, key, *others):
        return tuple(
            features.new_empty(features.shape if wants else (0, features.shape[1]))
            for features, wants in zip((query, key), others[-2:], strict=True)
        )

    def save(ctx, inputs, output):
        query, key, queue, _, _, _, temperature, query_gradient, _ = inputs
        keep(ctx, "queue_infonce", (query, key, *output[2:]), (query_gradient, True), (temperature, queue.dtype))

    register_shapes(namespace, "queue_infonce", shapes)
    register_shapes(namespace, "queue_infonce_backward", backward_shapes)
    register_gradient(namespace, "queue_infonce", save, feature_gradients, differentiable=2, results=2)


register(NAMESPACE)
