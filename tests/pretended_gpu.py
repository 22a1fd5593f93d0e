"""A GPU played on the CPU, for finding what was left there: tensors that say they are on it and meet no others.

Inside :class:`PretendedGPU`, ``tensor.to(GPU)`` and ``torch.arange(…, device=GPU)`` give tensors whose ``device`` is
cuda:0. Their values lie on the CPU while they are small, so that ``.item()`` works. Of large ones, on either device,
shapes alone are kept, and nothing is computed with them. Where tensors of both devices meet, torch's error is raised.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU, META = torch.device("cpu"), torch.device("cuda", 0), torch.device("meta")
# Elements of an operator's inputs from which on only shapes are kept.
large = 2**18

aten = torch.ops.aten
# What takes tensors of both devices: copies, and indices.
COPIES = (aten.copy_.default, aten._to_copy.default)
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class Placed(Tensor):
    """Says where it is; its values are on the CPU, or meta. Autograd sees the meta device, which needs no driver."""

    @staticmethod
    def __new__(cls, values: Tensor, place: torch.device) -> Placed:
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, values.shape, **layout, dtype=values.dtype, device=META)

    def __init__(self, values: Tensor, place: torch.device) -> None:
        self.values, self.place = values, place

    device = property(lambda self: self.place)
    is_cuda = property(lambda self: self.place == GPU)
    is_cpu = property(lambda self: self.place == CPU)
    is_meta = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return call(function, args, kwargs or {})

    def __repr__(self) -> str:
        return f"Placed({list(self.shape)}, {self.dtype}, {self.place})"

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=self.place)

    def tolist(self) -> Any:
        return self.values.tolist()


def call(function, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run an operator of torch, or of ours, where its tensors are said to be."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    places = {tensor.device for tensor in tensors if tensor.dim() > 0}
    if function in INDEXED:
        places = {tensor.device for tensor in args[:1]}
    if len(places) > 1 and function not in COPIES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({function})")
    place = GPU if any(tensor.device == GPU for tensor in tensors) else CPU
    wanted = kwargs.get("device")
    placed = [tensor for tensor in tensors if isinstance(tensor, Placed)]
    if wanted == META and not placed:
        place = GPU  # torch's own C++ asked another tensor for its device
    elif wanted not in (None, META):
        place = wanted
    abstract = any(tensor.values.is_meta for tensor in placed)
    if place == CPU and not placed:
        size = args[0] if args and isinstance(args[0], list) else []
        if tensors or not all(isinstance(n, int) for n in size) or math.prod(size) <= large:
            return function(*args, **kwargs)
        abstract = True
    abstract |= sum(tensor.numel() for tensor in tensors) > large
    if wanted is not None:
        kwargs = {**kwargs, "device": META if abstract else CPU}
    elif abstract and not tensors:
        kwargs = {**kwargs, "device": META, "generator": None} if "generator" in kwargs else {**kwargs, "device": META}
    if abstract and function in INDEXED:  # which elements of a mask are true is known as long as it has values
        indices = [part for index in args[1] for part in positions(index)]
        args = (args[0], indices, *args[2:])
    owners: dict[int, Placed] = {}

    def inside(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        values = value.values if isinstance(value, Placed) else value
        if abstract and not values.is_meta:
            values = values.to(META)
            if isinstance(value, Placed) and function._schema.is_mutable:
                value.values = values
        if isinstance(value, Placed):
            owners[id(values)] = value
        return values

    result = function(*tree_map(inside, args), **tree_map(inside, kwargs))

    def outside(value: Any) -> Any:
        if not isinstance(value, Tensor) or (place == CPU and not value.is_meta):
            return value
        return owners[id(value)] if id(value) in owners else Placed(value, place)

    return tree_map(outside, result)


def positions(index: Tensor | None) -> tuple[Tensor | None, ...]:
    """A mask that has values as the positions of what is true in it; any other index as it is."""
    values = index.values if isinstance(index, Placed) else index
    if values is None or values.dtype != torch.bool or values.is_meta:
        return (index,)
    return values.nonzero().unbind(1)


class PretendedGPU(TorchDispatchMode):
    """While it is entered, the device cuda:0 can be named. `all_values`: of large tensors too."""

    def __init__(self, all_values: bool = False) -> None:
        super().__init__()
        self.large = sys.maxsize if all_values else large

    def __enter__(self):
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(sys.modules[__name__], "large", self.large)
        # How many elements of a mask without values are true: all.
        self._nonzero = _config.patch(meta_nonzero_assume_all_nonzero=True)
        self._nonzero.__enter__()
        torch._C._ensureCUDADeviceGuardSet()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=GPU) is then a copy to it
        self._patches.setattr(Tensor, "pin_memory", lambda tensor: tensor)
        self._patches.setattr(torch.cuda, "_lazy_init", lambda: None)
        self._patches.setattr(torch.cuda, "synchronize", lambda: None)
        return super().__enter__()

    def __exit__(self, *error):
        self._nonzero.__exit__(*error)
        self._patches.undo()
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return call(function, args, kwargs or {})
