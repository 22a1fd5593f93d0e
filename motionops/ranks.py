"""What the processes of a training tell each other. In a single process every function returns what it is given.

Gradients are meant for DistributedDataParallel, which takes their mean over ranks: where the mean of the ranks' losses
is one process's loss of the whole batch, so is the gradient.
"""

from __future__ import annotations

import os
import re
from typing import Any

import torch
from torch import Tensor, distributed, nn

__all__ = [
    "gather",
    "gather_lists",
    "gather_others",
    "gather_own_first",
    "gather_rows",
    "gather_with_gradient",
    "sum_over_ranks",
    "world",
]

OF_THE_GROUP = ("DistBackendError", "DistNetworkError", "DistStoreError")  # torch's
LOST = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Connection was likely closed|remote process exited|"
    r"ncclRemoteError|Timed out waiting \d+ms for (recv|send)"
)


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) where no process group is running."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def host_group() -> distributed.ProcessGroup:
    """The group in which hosts tell each other what is in their own memory: no device is waited for.

    The default group where it is gloo's; else one beside it, made at the first call, which all ranks must make.
    """
    default = distributed.group.WORLD
    if distributed.get_backend() == "gloo":
        return default
    if _beside.get("default") is not default:
        _beside.update(default=default, group=distributed.new_group(backend="gloo"))
    return _beside["group"]


_beside: dict = {}  # the default group that `host_group` last made one for, and what it made


def host_numbers(number: int) -> list[int]:
    """`number` of every rank, in rank order. Hosts wait for each other, not for their devices."""
    _, size = world()
    if size == 1:
        return [number]
    numbers = [torch.empty((), dtype=torch.int64) for _ in range(size)]
    distributed.all_gather(numbers, torch.tensor(number), group=host_group())
    return [int(each) for each in numbers]


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """Concatenate `tensor [B, ...]` of all ranks in rank order, `[world * B, ...]`; B is equal on all. No gradient."""
    _, size = world()
    if size == 1:
        return tensor.detach()
    tensor = tensor.detach().contiguous()
    parts = [torch.empty_like(tensor) for _ in range(size)]
    distributed.all_gather(parts, tensor)
    return torch.cat(parts)


@torch.no_grad()
def gather_rows(tensor: Tensor) -> Tensor:
    """Like `gather`, but each rank may have any number of rows. No gradient."""
    counts = host_numbers(len(tensor))
    if len(counts) == 1:
        return tensor.detach()
    most = max(counts)
    filled = tensor.new_zeros(most, *tensor.shape[1:])
    filled[: len(tensor)] = tensor.detach()
    parts = gather(filled).unflatten(0, (len(counts), most))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@torch.no_grad()
def gather_others(tensor: Tensor) -> Tensor:
    """Like `gather`, without this rank's own rows: `[(world - 1) * B, ...]`. Further negatives; no gradient."""
    rank, size = world()
    if size == 1:
        return tensor.detach()[:0]
    everything, rows = gather(tensor), len(tensor)
    return torch.cat([everything[: rank * rows], everything[(rank + 1) * rows :]])


@torch.no_grad()
def exchange(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Deal out `rows [sum of sent, ...]`, the first `sent[0]` to rank 0 and so on, and return what this rank gets.

    Args:
        sent: how many rows go to each rank.
        received: how many come from each rank.

    Returns:
        `[sum of received, ...]`, those of rank 0 first. No gradient.
    """
    rows = rows.detach().contiguous()
    if world()[1] == 1:
        return rows
    dealt = rows.new_empty(sum(received), *rows.shape[1:])
    distributed.all_to_all_single(dealt, rows, received, sent)
    return dealt


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        return gather(tensor)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every rank's loss depends on this rank's rows.
        rank, size = world()
        rows = len(gradient) // size
        return sum_over_ranks(gradient)[rank * rows : (rank + 1) * rows]


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Like `gather`, with gradients: each rank's rows get the sum of the gradients of all ranks.

    A loss of gathered rows that is the same on all ranks gives, averaged over them as DDP does, the gradient that one
    process would have of the whole batch.
    """
    return tensor if world()[1] == 1 else _Gather.apply(tensor)


@torch.no_grad()
def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all ranks. No gradient."""
    _, size = world()
    tensor = tensor.detach().clone()
    if size > 1:
        distributed.all_reduce(tensor)
    return tensor


def gather_lists(items: list) -> list:
    """The items of all ranks one after another, in rank order; anything that can be pickled."""
    _, size = world()
    if size == 1:
        return list(items)
    parts: list = [None] * size
    distributed.all_gather_object(parts, items, group=host_group())
    return [item for part in parts for item in part]


def gather_to_first(items: list) -> list:
    """As `gather_lists` in the first rank, which alone needs them; nothing in the others."""
    rank, size = world()
    if size == 1:
        return list(items)
    parts: list | None = [None] * size if rank == 0 else None
    distributed.gather_object(items, parts, dst=0, group=host_group())
    return [item for part in parts or () for item in part]


def from_first(value: Any) -> Any:
    """What the first rank has, in all of them; anything that can be pickled."""
    if world()[1] == 1:
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0, group=host_group())
    return held[0]


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Give a module, in all ranks, the weights and buffers of the first one's: BatchNorm's are each rank's own."""
    if world()[1] == 1:
        return
    for tensor in module.state_dict().values():
        held = tensor.detach().cpu().contiguous()
        distributed.broadcast(held, src=0, group=host_group())
        tensor.copy_(held)


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on any rank; all of them must call, and none waits for its device."""
    return any(host_numbers(int(flag)))


def gather_own_first(tensor: Tensor) -> Tensor:
    """All ranks' `tensor [B, ...]` as `[world * B, ...]`: this rank's rows, then the others' in rank order.

    What a contrast takes as keys, whose first rows are the queries' own: :func:`motionops.pairwise_infonce`. Gradients
    flow to all rows: a rank's rows receive the sum over the ranks' losses, so that with the mean over ranks that DDP
    takes, the gradient is that of the mean of the ranks' losses. B is equal on all ranks.
    """
    rank, size = world()
    if size == 1:
        return tensor
    everything, rows = gather_with_gradient(tensor), len(tensor)
    own, before, after = rank * rows, everything[: rank * rows], everything[(rank + 1) * rows :]
    return torch.cat([everything[own : own + rows], before, after])


def lost_rank(error: BaseException) -> str | None:
    """What a process group or its store says where another process has ended or cannot be reached; None of others."""
    text = str(error)
    if "gloo/transport" not in text and type(error).__name__ not in OF_THE_GROUP:
        return None
    match = LOST.search(text)
    return match and match[0]


def environment_rank() -> int:
    """This process's rank before a process group exists: torchrun's, SLURM's, or what Lightning gives its children."""
    for name in ("RANK", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return int(os.environ["SLURM_PROCID"]) if slurm_tasks() > 1 else 0


def is_first() -> bool:
    """Whether this is the first of the processes that were started together, which alone writes and speaks."""
    return environment_rank() == 0


def slurm_tasks() -> int:
    """Processes that srun started; 1 in a shell of several tasks (Lightning's reading too)."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return 1 if interactive else int(os.environ.get("SLURM_NTASKS", 1))
