"""There are no forward-mode derivatives: asked for one, an operator says so and does not answer 0."""

import pytest
import torch
import torch.utils.checkpoint
from torch.autograd import forward_ad

import motionops
from tests.contrast.every_operator import OPERATORS, sample_of


def differentiable_calls():
    calls = {}
    for op, (operator, _) in OPERATORS.items():
        sample = sample_of(op)
        query = sample.pop("query")

        def call(x, operator=operator, sample=sample):
            result = operator(x, **sample)
            return result if isinstance(result, torch.Tensor) else result.loss

        calls[op] = (call, query)
    flow = torch.randn(1, 3, 2, 8, 8)
    calls["flow_edges"] = (lambda x: motionops.flow_edges(x).sum(), flow)
    calls["motion_map"] = (lambda x: motionops.motion_map(x).sum(), flow)
    calls["frame_difference"] = (lambda x: motionops.frame_difference(x).square().sum(), torch.rand(1, 3, 4, 6, 6))
    return calls


CALLS = differentiable_calls()


@pytest.mark.parametrize("op", CALLS)
def test_a_tangent_is_refused(op):
    call, x = CALLS[op]
    with pytest.raises(RuntimeError, match=f"{op}: it has no forward-mode derivative"):
        torch.func.jvp(call, (x,), (torch.ones_like(x),))
    with pytest.raises(RuntimeError, match=f"{op}: it has no forward-mode derivative"), forward_ad.dual_level():
        call(forward_ad.make_dual(x, torch.ones_like(x)))


@pytest.mark.parametrize("op", CALLS)
def test_without_a_tangent_forward_mode_is_nothing_to_it(op):
    call, x = CALLS[op]
    with forward_ad.dual_level():
        assert torch.equal(call(x), call(x.clone()))


@pytest.mark.parametrize("op", CALLS)
def test_backward_is_what_it_was(op):
    call, x = CALLS[op]
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(call(x), x)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


@pytest.mark.parametrize("op", CALLS)
def test_a_checkpointed_call_has_the_same_gradient(op):
    """The operator is the last one in it: its saved tensors are made again in the backward pass."""
    call, x = CALLS[op]
    x = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(call(x * 2), x)
    loss = torch.utils.checkpoint.checkpoint(lambda value: call(value * 2), x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], wanted)
