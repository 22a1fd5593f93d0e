"""Hostile inputs: tensors of any shape, memory layout, type and value, and what an operator may do with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

FLOATING = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
WRONG_TYPES = [torch.int32, torch.int64, torch.uint8, torch.bool, torch.complex64]
SPECIAL = [math.nan, math.inf, -math.inf, 1e30, -1e30, 1e-40, 1e-44, 0.0, -0.0]
LAYOUTS = ["contiguous", "transposed", "strided", "offset"]


def fuzz_settings(examples: int) -> settings:
    """The few hundred examples of every run are always the same; the many of the slow mode are new each time."""
    return settings(
        max_examples=examples,
        derandomize=examples < 1000,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "transposed" and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided" and tensor.ndim > 0:
        return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]
    if layout == "offset":
        return torch.cat([tensor.new_zeros(3), tensor.flatten()])[3:].view(tensor.shape)
    return tensor.contiguous()


@st.composite
def features(draw: st.DrawFn, shape: tuple[int, ...], dtype: torch.dtype, special: bool) -> Tensor:
    """Values of about the length of unit rows, sometimes with a few special ones among them."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    values /= math.sqrt(max(1, shape[-1] if shape else 1))
    if special and values.numel():
        for _ in range(draw(st.integers(0, 3))):
            values.view(-1)[draw(st.integers(0, values.numel() - 1))] = draw(st.sampled_from(SPECIAL))
    return lay_out(values.to(dtype), draw(st.sampled_from(LAYOUTS)))


@st.composite
def spoil(draw: st.DrawFn, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with one made wrong: its shape, its type, or what it is at all."""
    name = draw(st.sampled_from(sorted(name for name, value in arguments.items() if value is not None)))
    value = arguments[name]
    if not isinstance(value, Tensor):
        worse = draw(st.sampled_from([0.0, -1.0, math.nan, math.inf, -math.inf, "text", None]))
        return {**arguments, name: worse}
    kind = draw(st.sampled_from(["type", "rank", "size", "thing", "device"]))
    if kind == "type":
        worse = torch.ones(value.shape).to(draw(st.sampled_from(WRONG_TYPES)))
    elif kind == "rank":
        worse = draw(st.sampled_from([value[None], value.flatten(), value.sum(), value[..., None]]))
    elif kind == "size" and value.ndim:
        axis = draw(st.integers(0, value.ndim - 1))
        worse = torch.cat([value, value.narrow(axis, 0, min(1, value.shape[axis]))], dim=axis)
    elif kind == "device":
        worse = torch.empty_like(value, device="meta")
    else:
        worse = draw(st.sampled_from(["text", 3, [[1.0]], object()]))
    return {**arguments, name: worse}


OWN_ERRORS = (ValueError, TypeError, RuntimeError, NotImplementedError)


def outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What the function returns, or the error that it raises."""
    try:
        return function(**arguments)
    except OWN_ERRORS as error:
        return error


def assert_own_error(error: Any, op: str) -> None:
    """A refusal that names the operator."""
    assert isinstance(error, OWN_ERRORS), f"{error!r} is no error"
    assert op in str(error), f"the error does not name {op}: {error}"


def any_meta(arguments: dict[str, Any]) -> bool:
    """Whether a tensor has no data: then it is torch that answers, with shapes or an error of its own."""
    return any(isinstance(value, Tensor) and value.device.type == "meta" for value in arguments.values())


def assert_agrees(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    """Equal to the tolerance where the reference is finite; not finite where it is not."""
    ours, reference = ours.detach().cpu().double(), reference.detach().cpu().double()
    assert ours.shape == reference.shape
    finite = reference.isfinite()
    assert torch.equal(ours.isfinite(), finite), f"{ours} instead of {reference}"
    error = (ours - reference)[finite].abs()
    allowed = tolerance * (1 + reference[finite].abs())
    assert (error <= allowed).all(), f"off by {error.max().item():.3g}, allowed {tolerance:.3g}"
