"""A step on a side stream and in a CUDA graph: what it needs for that, and that it gives there what it always gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Step = Callable[[], Any]


@contextmanager
def noted_leaves() -> Iterator[list[Tensor]]:
    """The tensors whose gradients are asked for meanwhile."""
    leaves: list[Tensor] = []
    grad = torch.autograd.grad

    def noting(outputs, inputs, *args, **kwargs):
        leaves.extend([inputs] if isinstance(inputs, Tensor) else inputs)
        return grad(outputs, inputs, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "grad", noting)
        yield leaves


def leaves_of_its_own(step: Step) -> Step:
    """The step, which fails where it differentiates by tensors that an earlier call of it did.

    The node that takes a leaf's gradient belongs to the stream on which the leaf was first used; a backward pass on
    another one waits for that, which a capture may not.
    """
    with noted_leaves() as before:
        step()

    def checked() -> Any:
        with noted_leaves() as now:
            result = step()
        assert not {id(leaf) for leaf in now} & {id(leaf) for leaf in before}, "a leaf is of another stream"
        return result

    return checked


def check_side_stream_and_graph(
    step: Callable[[Any], Any], inputs: Any, others: Any, device: torch.device, **tolerance: float
) -> None:
    """`step(inputs)` is the same on a side stream that is still busy with the inputs, and in a CUDA graph of others.

    Args:
        step: what is run; without a GPU it is seen to make its leaves in each call.
        inputs: tensors, also in lists and mappings.
        others: other values of the same shapes.
        device: where they are.
        tolerance: of the comparisons.
    """
    wanted, wanted_of_others = step(inputs), step(others)
    torch.testing.assert_close(leaves_of_its_own(lambda: step(inputs))(), wanted, **tolerance)
    if device.type != "cuda":
        return
    placed = pytree.tree_map_only(Tensor, torch.clone, others)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        _put(inputs, placed)  # what runs on another stream is too early
        aside = step(placed)
    stream.synchronize()
    torch.testing.assert_close(aside, wanted, **tolerance)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(placed)
    _put(others, placed)
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(captured, wanted_of_others, **tolerance)


def _put(values: Any, places: Any) -> None:
    pytree.tree_map_only(Tensor, lambda value, place: place.copy_(value), values, places)
