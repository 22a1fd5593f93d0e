"""InfoNCE within a batch: the keys of the other queries are the negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from motionops.arrays import Array, as_optional_tensor, as_tensor
from motionops.contrast.feature_gradients import DIFFERENTIABLE, accumulation_dtype, feature_gradients, keep
from motionops.contrast.precision import tf32_allowed
from motionops.contrast.queue_infonce import InfoNCE
from motionops.contrast.temperature import as_temperature
from motionops.contrast.unit_rows import warn_of_other_lengths
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE, runs_on_cpu

WIDEST_STREAMED = 128  # wider features are multiplied in panels on a GPU (csrc/contrast/pairwise_panels.h)


def pairwise_infonce(
    query: Tensor | Array,
    key: Tensor | Array,
    *,
    temperature: float | Tensor = 0.1,
    query_ids: Tensor | Array | None = None,
    key_ids: Tensor | Array | None = None,
) -> InfoNCE:
    r"""InfoNCE of every query against all keys, without ever storing the logits.

    .. math::
        L_i = -\log \frac{e^{q_i k_i/\tau}}{\sum_{j=1}^{M} e^{q_i k_j/\tau}}

    without the keys j ≠ i whose id is the query's. van den Oord et al. 2018 (eq. 4); keys beyond the N-th are hard
    negatives of every query, as Context-Motion Decoupling adds them to its motion prediction loss.

    Memory grows with the features, not with their pairs. Products of wide features (D > 128 on a GPU; D > 96 on the
    CPU, but for float64) are torch's own, of a panel of queries at a time (on a GPU up to 128 MiB, or 1.5 KiB a key;
    on the CPU 8 MiB, or 0.5 KiB a key): its settings for float32 products and for deterministic algorithms apply to
    them, and a CUDA graph is captured after a first product of torch's, as with ``torch.mm``.

    Args:
        query: ``[N, D]``, L2-normalised by the caller. Receives a gradient.
        key: ``[M, D]`` with M ≥ N; row i < N is the positive of query i. Receives a gradient where it requires one.
            Products are taken in its type: queries are rounded to it, sums are accumulated in float32 or wider.
        temperature: :math:`\tau`, finite and above 0: a number, or a scalar tensor, which receives a gradient where it
            requires one and, on a GPU, is read there (nothing waits, and nothing refuses one that is not above 0). A
            schedule under ``torch.compile`` is a tensor: a number is compiled in.
        query_ids: ``[N]`` int64, the video of each query; given together with ``key_ids``.
        key_ids: ``[M]`` int64, the video of each key: one of the query's own video is no negative of it. −1 is an id
            like any other.

    Returns:
        :class:`InfoNCE`: the mean loss (0 where N = 0), and ``rank [N]`` int32, how many negatives score above the
        query's own key (where products are torch's: by more than one part in 2²⁰, which is rounding).

    Several ranks:
        Against this rank's keys alone, unless ``key`` is ``motionops.ranks.gather_own_first(key)``: then the mean over
        ranks is one process's loss of all queries, its gradient too.

    Raises:
        TypeError: a type that is not supported.
        ValueError: a shape, device or temperature that does not fit; ids given singly.

    Warns:
        UserWarning: features on the CPU whose rows are not of length 1.
    """
    op = "pairwise_infonce"
    query, key = as_tensor(op, "query", query), as_tensor(op, "key", key)
    query_ids = as_optional_tensor(op, "query_ids", query_ids)
    key_ids = as_optional_tensor(op, "key_ids", key_ids)
    temperature, number = as_temperature(op, temperature)
    query_gradient = query.requires_grad or (temperature is not None and temperature.requires_grad)
    recorded = torch.is_grad_enabled()
    wanted = recorded and query_gradient, recorded and key.requires_grad
    ids = query_ids, key_ids
    loss, rank, *_ = call(op, query, key, temperature, *ids, number, *wanted, tf32_allowed(key), 0, wanted=any(wanted))
    warn_of_other_lengths(op, query=query, key=key)
    return InfoNCE(loss, rank)


def pairwise_infonce_reference(
    query: Tensor,
    key: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    query_ids: Tensor | None = None,
    key_ids: Tensor | None = None,
) -> InfoNCE:
    """:func:`pairwise_infonce` in plain PyTorch, with all logits in memory: its definition.

    Values are rounded to the keys' type and then multiplied and added in float32 (float64 for float64).
    """
    accumulation = accumulation_dtype(key.dtype)
    rows = query.shape[0]
    scores = query.to(key.dtype).to(accumulation) @ key.to(accumulation).T  # [N, M]
    positive = scores.diagonal()[:, None]
    own = torch.arange(rows, device=query.device)
    positives = own[:, None] == torch.arange(key.shape[0], device=query.device)
    counted = torch.ones_like(positives)
    if query_ids is not None and key_ids is not None:
        counted = positives | (query_ids[:, None] != key_ids)
    rank = (counted & ~positives & (scores > positive)).sum(dim=1, dtype=torch.int32)
    if rows == 0:
        return InfoNCE(scores.sum(), rank)
    return InfoNCE(F.cross_entropy((scores / temperature).masked_fill(~counted, -torch.inf), own), rank)


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""
    op = "pairwise_infonce"

    def shapes(query, key, temperature, query_ids, key_ids, number, query_gradient, key_gradient, tf32, panel_rows):
        rows, dim = query.shape
        kept = accumulation_dtype(key.dtype)
        by_forward = key_gradient and (runs_on_cpu(namespace, query) or dim > WIDEST_STREAMED)
        return (
            query.new_empty((), dtype=kept),
            query.new_empty((rows,), dtype=torch.int32),
            query.new_empty((rows,), dtype=kept),
            query.new_empty((rows,), dtype=kept),
            query.new_empty((rows if query_gradient else 0, dim), dtype=kept),
            key.new_empty((len(key) if by_forward else 0, dim), dtype=kept),
        )

    def backward_shapes(grad_loss, query, key, *others):
        *_, query_gradient, key_gradient, _ = others
        return tuple(
            features.new_empty(features.shape if wants else (0, features.shape[1]))
            for features, wants in ((query, query_gradient), (key, key_gradient))
        )

    def save(ctx, inputs, output):
        *given, number, query_gradient, key_gradient, tf32, _ = inputs
        prepared = query_gradient, key_gradient
        keep(ctx, op, (*given, *output[2:]), prepared, given[1].dtype, (number,), (tf32,))

    register_shapes(namespace, op, shapes)
    register_shapes(namespace, f"{op}_backward", backward_shapes)
    register_gradient(namespace, op, save, feature_gradients, differentiable=DIFFERENTIABLE, results=2)


register(NAMESPACE)
