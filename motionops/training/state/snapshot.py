"""A copy of what a run holds at one moment, in host memory: the run goes on while the copy is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from motionops.nested import tensors_in


class Snapshot:
    """Takes copies of nested dicts, lists and tensors, one after another into the same memory.

    Of a GPU's tensors the copies are page-locked and are made in the current stream, behind the step that was queued
    and before the next one: the host does not wait for them.

    torch.distributed.checkpoint.staging does the like, is marked experimental, and waits for the device.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple, Tensor] = {}

    @torch.no_grad()
    def take(self, value: Any) -> tuple[Any, Callable[[], None]]:
        """A copy of `value`, which the next call overwrites, and a function that waits until it is there."""
        former, self._memory = self._memory, {}
        copies, on_a_gpu = {}, False
        for tensor in tensors_in(value):
            # Tensors that share their memory share their copy, as they do in a file.
            key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
            key += (tensor.dtype, tensor.device)
            if key not in self._memory:
                held = former.get(key)
                if held is None:
                    held = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
                self._memory[key] = held.copy_(tensor, non_blocking=True)
            copies[id(tensor)] = self._memory[key]
            on_a_gpu |= tensor.is_cuda
        # deepcopy finds the tensors' copies in its memo, and keeps what hangs on a dict, as a state_dict's _metadata.
        return copy.deepcopy(value, copies), copied() if on_a_gpu else lambda: None


def copied() -> Callable[[], None]:
    """A function that waits, asleep, for what the current stream has been given up to now."""
    event = torch.cuda.Event(blocking=True)
    event.record()
    return event.synchronize
