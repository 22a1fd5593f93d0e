"""What the contract of all operators has to know of one: its card, `tests/<family>/card_<op>.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import motionops

ROOT = Path(__file__).resolve().parents[2]
STEMS = json.loads((ROOT / "csrc" / "sources.json").read_text())["ops"]

Arguments = dict[str, Any]  # of the public function, by name; tensors on the CPU, also in lists and named tuples
Sample = Callable[[int], Arguments]  # of a seed: other values in tensors of the same shapes
Tolerance = dict[str, float]  # rtol and atol
EXACT: Tolerance = {"rtol": 0, "atol": 0}


@dataclass(frozen=True, kw_only=True)
class Card:
    """One operator, as tests/operators/test_contract.py calls it."""

    op: str
    reference: Callable[..., Any]  # the definition in plain PyTorch, with the operator's arguments
    samples: dict[str, Sample]  # small calls, one a way through the operator; every axis has 2 or more of something
    large: dict[str, Sample]  # work for several threads, and on a GPU for several blocks
    learns: tuple[str, ...] = ()  # the arguments that have a gradient
    features: tuple[str, ...] = ()  # the arguments that come in several types
    types: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)  # in which any strides are taken
    # Types refused on CUDA, and what is named: the last of these arguments that is given.
    without: dict[torch.dtype, tuple[str, ...]] = field(default_factory=dict)

    # How near, by type: to the reference; a GPU to the CPU.
    near: Callable[[torch.dtype], Tolerance] = lambda dtype: {"rtol": 1e-4, "atol": 1e-5}
    alike: Callable[[torch.dtype], Tolerance] = lambda dtype: {"rtol": 1e-4, "atol": 1e-6}
    alike_in: tuple[torch.dtype, ...] = (torch.float32,)
    rougher: dict[str, float] = field(default_factory=dict)  # of large samples: how much so their gradients are
    one_alone: Tolerance = field(default_factory=lambda: EXACT)  # a gradient without the others to itself among them
    unaligned: Tolerance = field(default_factory=lambda: EXACT)  # tensors that are read by single elements
    threads: Tolerance = field(default_factory=lambda: EXACT)
    laid_out: Callable[[torch.Tensor, Arguments], bool] = lambda result, arguments: result.is_contiguous()

    # A right call, and what becomes wrong of it with some arguments changed: the error's type, and its words.
    right: Callable[[], Arguments]
    wrong: list[tuple[Arguments, type[Exception], str]]
    looks_at_values_on_cuda: bool = True

    # Calls that plain PyTorch keeps far more for, and the MiB that are allowed on a backend.
    frugal: list[tuple[Sample, Callable[[str], float]]] = field(default_factory=list)

    compiler: str = "aot_eager"

    @property
    def function(self) -> Callable[..., Any]:
        return getattr(motionops, self.op)

    def sample(self, name: str, seed: int = 0) -> Arguments:
        return (self.samples | self.large)[name](seed)

    def in_type(self, arguments: Arguments, dtype: torch.dtype) -> Arguments:
        """The arguments with their features in a type."""
        return {name: v.to(dtype) if name in self.features else v for name, v in arguments.items()}


def path_of(stem: str) -> Path:
    family, op = stem.split("/")
    return ROOT / "tests" / family / f"card_{op}.py"


CARDS: list[Card] = [
    import_module(".".join(path_of(stem).relative_to(ROOT).with_suffix("").parts)).CARD
    for stem in STEMS
    if path_of(stem).exists()  # tests/test_layout.py says which one is missing
]
