"""A step on a side stream and in a CUDA graph: what it needs for that, and that it gives there what it always gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

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


def check_side_stream_and_graph(step: Step, device: torch.device) -> None:
    """A step gives the same on a side stream and from a CUDA graph; without a GPU, it makes its leaves in each call."""
    wanted = step()
    torch.testing.assert_close(leaves_of_its_own(step)(), wanted)
    if device.type != "cuda":
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        aside = step()
    stream.synchronize()
    torch.testing.assert_close(aside, wanted)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(captured, wanted)
