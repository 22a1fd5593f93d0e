"""What is wrong with a call is said in the operator's words: on meta tensors, on fake ones, exported and compiled."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import motionops
from tests.contrast.every_operator import OPERATORS, sample_of

WRONG = [
    ("queue_infonce", {"key": lambda key: key[:, 1:]}, ValueError, r"queue_infonce: key must be \[B=7, D=24\]"),
    ("queue_infonce", {"queue": lambda queue: queue.int()}, TypeError, "queue_infonce: queue must be float32"),
    ("pairwise_infonce", {"key": lambda key: key[:3]}, ValueError, r"pairwise_infonce: key must be \[M >= N=70"),
    ("pixel_contrast", {"query_mask": lambda mask: mask.int()}, TypeError, "pixel_contrast: query_mask must be bool"),
    ("region_contrast", {"query": lambda query: query[0, 0]}, ValueError, r"region_contrast: query must be \[B, V, t"),
]


def wrong_call(op, changes):
    sample = sample_of(op)
    return {name: changes[name](value) if name in changes else value for name, value in sample.items()}


@pytest.mark.parametrize(("op", "changes", "error", "message"), WRONG)
def test_meta_and_fake_tensors_are_checked(op, changes, error, message):
    operator, sample = OPERATORS[op][0], wrong_call(op, changes)
    with pytest.raises(error, match=message):
        operator(**{name: value.to("meta") for name, value in sample.items()})
    with FakeTensorMode() as mode, pytest.raises(error, match=message):
        operator(**{name: mode.from_tensor(value) for name, value in sample.items()})


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("op", "changes", "error", "message"), WRONG)
def test_a_compiled_call_raises_the_operators_own_error(op, changes, error, message, dynamic):
    operator, sample = OPERATORS[op][0], wrong_call(op, changes)
    compiled = torch.compile(lambda arguments: operator(**arguments), backend="aot_eager", dynamic=dynamic)
    with pytest.raises(Exception, match=message) as raised:
        compiled(sample)
    if op != "region_contrast":  # whose wrong rank ends the tracing itself
        assert type(raised.value) is error


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_wrong_rank_is_named_while_compiling(dynamic):
    compiled = torch.compile(motionops.motion_map, backend="aot_eager", dynamic=dynamic)
    with pytest.raises(Exception, match=r"motion_map: flow must be \[..., T, 2, H, W\], got \[3, 4, 5, 6\]"):
        compiled(torch.rand(3, 4, 5, 6))


def test_an_exported_call_is_checked():
    class Loss(torch.nn.Module):
        def forward(self, query, key, queue):
            return motionops.queue_infonce(query, key, queue).loss

    query, key, queue = torch.randn(4, 8), torch.randn(4, 7), torch.randn(9, 8)
    with pytest.raises(Exception, match=r"queue_infonce: key must be \[B=4, D=8\], got \[4, 7\]"):
        torch.export.export(Loss(), (query, key, queue))


def test_fake_tensors_of_two_devices_are_refused():
    with FakeTensorMode():
        query, queue = torch.empty(4, 8, device="cuda"), torch.empty(9, 8, device="cuda")
        key = torch.empty(4, 8)
        with pytest.raises(ValueError, match="queue_infonce: key must be on cuda:0 as query is, got cpu"):
            motionops.queue_infonce(query, key, queue)
