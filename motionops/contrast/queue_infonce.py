"""InfoNCE of queries against their own keys, a queue of negatives and extra negatives."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from motionops.arrays import Array, as_optional_tensor, as_tensor
from motionops.contrast.feature_gradients import DIFFERENTIABLE, accumulation_dtype, feature_gradients, keep
from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.precision import tf32_allowed
from motionops.contrast.temperature import as_temperature
from motionops.contrast.unit_rows import warn_of_other_lengths
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE


class InfoNCE(NamedTuple):
    """What an InfoNCE operator returns.

    Attributes:
        loss: scalar, the mean over the queries; float32, or float64 where the products are float64.
        rank: ``[B]`` int32, how many negatives score above the positive; 0 means that the query found its key.
    """

    loss: Tensor
    rank: Tensor


pytree._register_namedtuple(InfoNCE, serialized_type_name="motionops.InfoNCE")  # programs that return it are saved


def queue_infonce(
    query: Tensor | Array,
    key: Tensor | Array,
    queue: Tensor | Array | FeatureQueue,
    *,
    temperature: float | Tensor = 0.1,
    extra_negatives: Tensor | Array | None = None,
    query_ids: Tensor | Array | None = None,
    queue_ids: Tensor | Array | None = None,
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
        temperature: :math:`\tau`, finite and above 0: a number, or a scalar tensor, which receives a gradient where it
            requires one and, on a GPU, is read there (nothing waits, and nothing refuses one that is not above 0). A
            schedule under ``torch.compile`` is a tensor: a number is compiled in.
        extra_negatives: ``[E, D]`` or None: more negatives for every query. They receive no gradient.
        query_ids: ``[B]`` int64, the video of each query; given together with ``queue_ids``, which a ``FeatureQueue``
            brings along.
        queue_ids: ``[K]`` int64, the video of each queue row. −1, a queue's "unknown", is an id like any other: such
            rows count for every query but one whose own id is −1.

    Returns:
        :class:`InfoNCE`: the mean loss (0 where B = 0), and the rank of every positive.

    Several ranks:
        The loss is of this rank's queries against a queue that all ranks share (:meth:`motionops.FeatureQueue.enqueue`
        gathers): the mean over ranks, as DistributedDataParallel takes it, is one process's loss of all queries.

    Raises:
        TypeError: a type that is not supported.
        ValueError: a shape, device or temperature that does not fit; ids given singly.

    Warns:
        UserWarning: features on the CPU whose rows are not of length 1.
    """
    op = "queue_infonce"
    queue, queue_ids = _rows_and_ids(queue, query_ids, queue_ids)
    query, key, queue = as_tensor(op, "query", query), as_tensor(op, "key", key), as_tensor(op, "queue", queue)
    extra_negatives = as_optional_tensor(op, "extra_negatives", extra_negatives)
    query_ids = as_optional_tensor(op, "query_ids", query_ids)
    queue_ids = as_optional_tensor(op, "queue_ids", queue_ids)
    temperature, number = as_temperature(op, temperature)
    query_gradient = query.requires_grad or (temperature is not None and temperature.requires_grad)
    loss, rank, *_ = call(
        op,
        query,
        key,
        temperature,
        queue.detach() if queue.requires_grad else queue,
        extra_negatives.detach() if extra_negatives is not None and extra_negatives.requires_grad else extra_negatives,
        query_ids,
        queue_ids,
        number,
        query_gradient and torch.is_grad_enabled(),
        tf32_allowed(queue),
        wanted=query_gradient or key.requires_grad,
    )
    warn_of_other_lengths(op, query=query, key=key, queue=queue)
    return InfoNCE(loss, rank)


def queue_infonce_reference(
    query: Tensor,
    key: Tensor,
    queue: Tensor | FeatureQueue,
    *,
    temperature: float | Tensor = 0.1,
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
    columns = queue if extra_negatives is None else torch.cat([queue, extra_negatives.detach().to(queue.dtype)])
    scores = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ columns.to(accumulation).T], dim=1)
    counted = torch.ones_like(scores, dtype=torch.bool)
    if query_ids is not None and queue_ids is not None:
        counted[:, 1 : 1 + len(queue)] = query_ids[:, None] != queue_ids[None, :]
    rank = (counted & (scores > scores[:, :1])).sum(dim=1, dtype=torch.int32)
    if query.shape[0] == 0:
        return InfoNCE(scores.sum(), rank)
    logits = (scores / temperature).masked_fill(~counted, -torch.inf)
    return InfoNCE(F.cross_entropy(logits, logits.new_zeros(logits.shape[0], dtype=torch.int64)), rank)


def _rows_and_ids(
    queue: Tensor | Array, query_ids: Tensor | Array | None, queue_ids: Tensor | Array | None
) -> tuple[Any, Any | None]:
    """The rows of a queue and their ids, which one of its own has along where the queries' are known."""
    if not isinstance(queue, FeatureQueue):
        return queue, queue_ids
    return queue.features, queue.ids if queue_ids is None and query_ids is not None else queue_ids


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""
    op = "queue_infonce"

    def shapes(query, key, temperature, queue, *others):
        *_, query_gradient, _ = others
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
        *learning, queue, _, _, _, number, query_gradient, _ = inputs
        products = queue.dtype
        keep(ctx, op, (*learning, *output[2:]), (query_gradient, True), products, (number, products))

    register_shapes(namespace, op, shapes)
    register_shapes(namespace, f"{op}_backward", backward_shapes)
    register_gradient(namespace, op, save, feature_gradients, differentiable=DIFFERENTIABLE, results=2)


register(NAMESPACE)
