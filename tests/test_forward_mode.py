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
def test_a_tangent_inside_other_transforms_is_refused(op):
    call, x = CALLS[op]
    ones = torch.ones_like(x)
    nested = {
        "vmap in jvp": lambda: torch.func.jvp(torch.func.vmap(call), (x[None],), (ones[None],)),
        "jvp in vmap": lambda: torch.func.vmap(lambda y: torch.func.jvp(call, (y,), (ones,))[1])(x[None]),
        # the inner one differentiates by something else; the outer one's tangent is inside its wrapper
        "jvp in jvp": lambda: torch.func.jvp(
            lambda y: torch.func.jvp(lambda z: call(y) + 0 * z.sum(), (y,), (ones,))[0], (x,), (ones,)
        ),
    }
    for name, run in nested.items():
        with pytest.raises(RuntimeError) as raised:
            run()
        assert f"{op}: it has no forward-mode derivative" in str(raised.value), name


def test_the_operator_itself_and_compiled_calls_refuse_a_tangent():
    flow, ones = torch.randn(1, 1, 2, 4, 4), torch.ones(1, 1, 2, 4, 4)

    def raw(x):
        return torch.ops.motionops.flow_edges(x, 10.0)

    def compiled(x):
        return torch.compile(lambda y: torch.func.jvp(raw, (y,), (ones,))[1], backend="aot_eager")(x)

    for run in (lambda: torch.func.jvp(raw, (flow,), (ones,)), lambda: compiled(flow)):
        with pytest.raises(Exception, match="flow_edges: it has no forward-mode derivative"):
            run()


def test_a_tangent_of_the_gradient_is_refused():
    flow = torch.randn(1, 1, 2, 4, 4, requires_grad=True)
    edges = motionops.flow_edges(flow)
    with forward_ad.dual_level():
        gradient = forward_ad.make_dual(torch.ones_like(edges), torch.ones_like(edges))
        with pytest.raises(RuntimeError, match="flow_edges_backward: it has no forward-mode derivative"):
            torch.autograd.grad(edges, flow, gradient)


def test_a_constant_inside_forward_mode_is_taken():
    flow = torch.randn(3, 1, 1, 2, 4, 4)
    edges = torch.stack([motionops.flow_edges(one).sum() for one in flow])
    value, tangent = torch.func.jvp(
        lambda x: x * torch.func.vmap(lambda one: motionops.flow_edges(one).sum())(flow),
        (torch.ones(3),),
        (torch.ones(3),),
    )
    torch.testing.assert_close(value, edges)
    torch.testing.assert_close(tangent, edges)


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
