"""Features lie in memory in types of their own: nothing casts them, and gradients come in the same types."""

import pytest
import torch

from tests.contrast.budget import check_budget, loss_and_gradients
from tests.contrast.every_operator import OPERATORS, PRODUCTS, features_of, sample_of

TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# what torch does itself to cast, to fill, or to copy
CASTS_AND_FILLS = {"aten::to", "aten::_to_copy", "aten::copy_", "aten::fill_", "aten::zero_", "aten::clone"}


def typed_sample(op, device, features, products, others=torch.float32):
    sample = {name: value.to(device) for name, value in sample_of(op).items()}
    for name in features_of(sample):
        sample[name] = sample[name].to(others)
    sample["query"] = sample["query"].to(features)
    sample[PRODUCTS[op]] = sample[PRODUCTS[op]].to(products)
    return sample


@pytest.mark.parametrize("products", TYPES, ids=str)
@pytest.mark.parametrize("features", TYPES, ids=str)
@pytest.mark.parametrize("op", OPERATORS)
def test_every_mixture_of_types(backend, op, features, products):
    if backend.name != "cpu" and products == torch.float64:
        pytest.skip("float64 products are for the CPU")
    operator, reference = OPERATORS[op]
    for others in (torch.float32, torch.bfloat16):
        sample = typed_sample(op, backend.device, features, products, others)
        ours = loss_and_gradients(operator, sample, ("query", "key"))
        assert ours["query"].dtype == sample["query"].dtype
        assert ours["key"].dtype == sample["key"].dtype
        rounded = {  # as the products see them, and in float64 from there on
            name: value.to(products).double() if name in features_of(sample) else value
            for name, value in sample.items()
        }
        truth = loss_and_gradients(reference, {k: v.cpu() for k, v in rounded.items()}, ("query", "key"))
        check_budget(ours, loss_and_gradients(reference, sample, ("query", "key")), truth, products)


@pytest.mark.parametrize("features", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPERATORS)
def test_a_call_casts_and_fills_nothing(backend, op, features):
    operator, _ = OPERATORS[op]
    sample = typed_sample(op, backend.device, features, torch.bfloat16, features)
    for name in ("query_extent", "key_extent"):
        if name in sample:
            sample[name] = sample[name].double()  # the type in which they are computed with
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()
    grad_loss = torch.ones((), device=backend.device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        result = operator(query, key, **sample)
        torch.autograd.grad(result if isinstance(result, torch.Tensor) else result.loss, (query, key), grad_loss)
    names = [event.name for event in profile.events()]
    assert any(op in name for name in names)  # what ran was seen
    assert [name for name in names if name in CASTS_AND_FILLS] == []


def test_a_gradient_of_the_loss_may_have_any_type(backend):
    sample = typed_sample("queue_infonce", backend.device, torch.float32, torch.float32)
    query, key = sample["query"], sample["key"]
    saved = backend.ops.queue_infonce(query, key, None, sample["queue"], None, None, None, 0.1, True, False)[2:]
    wanted = None
    for dtype in TYPES:
        grad_loss = torch.tensor(0.5, dtype=dtype, device=backend.device)
        gradients = backend.ops.queue_infonce_backward(
            grad_loss, query, key, None, *saved, 0.1, torch.float32, True, True
        )
        wanted = wanted or gradients
        for ours, theirs in zip(gradients, wanted, strict=True):
            assert torch.equal(ours, theirs)  # one half is the same in all of them
