"""region_contrast on every backend."""

import math

import pytest
import torch

from motionops.contrast import region_contrast, region_contrast_reference
from motionops.library import ops
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import random_extents, unit_rows


def region_sample(batch, views, query_grid, key_grid, dim, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    return {
        "query": unit_rows(batch, views, *query_grid, dim, generator=g, dtype=dtype),
        "key": unit_rows(batch, *key_grid, dim, generator=g, dtype=dtype),
        "query_extent": random_extents(batch * views, g).float().reshape(batch, views, 3, 2),
        "key_extent": random_extents(batch, g).float(),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "shape",
    [(0, 2, (1, 1, 1), (1, 1, 1), 3), (1, 1, (1, 1, 1), (1, 1, 1), 1), (3, 2, (2, 3, 3), (3, 4, 4), 33)],
    ids=str,
)
def test_matches_reference(backend, shape, dtype):
    if backend.name != "cpu" and dtype == torch.float64:
        pytest.skip("float64 products are for the CPU")
    sample = {name: value.to(backend.device) for name, value in region_sample(*shape, dtype=dtype).items()}
    check_budget(
        loss_and_gradients(region_contrast, sample, ("query", "key")),
        loss_and_gradients(region_contrast_reference, sample, ("query", "key")),
        loss_and_gradients(region_contrast_reference, widened(sample), ("query", "key")),
        dtype,
    )


def test_gradcheck(backend):
    if backend.name != "cpu":
        pytest.skip("float64 products are for the CPU")
    sample = region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4, dtype=torch.float64)
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: region_contrast(q, k, **sample), (query, key))


def test_opcheck(backend):
    query, key, *extents = (v.to(backend.device) for v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).values())
    arguments = (query.requires_grad_(), key.requires_grad_(), *extents, 0.1, True)
    torch.library.opcheck(ops().region_contrast.default, arguments)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_opcheck_backward(backend, wanted):
    inputs = tuple(v.to(backend.device) for v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).values())
    saved = ops().region_contrast(*inputs, 0.1, True)[1:]
    grad_loss = torch.ones((), device=backend.device)
    torch.library.opcheck(ops().region_contrast_backward.default, (grad_loss, *inputs, *saved, 0.1, *wanted))


def test_strided_inputs(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5).items()}
    strided = {name: value.mT.contiguous().mT for name, value in sample.items()}
    assert region_contrast(**strided) == region_contrast(**sample)


def test_values_by_hand(backend):
    box = [[0.0, 2.0], [0.0, 2.0], [0.0, 4.0]]
    inputs = {
        # Two videos of two key cells along x; the one query cell is x 1..3 of its video, half in either cell.
        "query": torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1, 1, 1),
        "key": torch.tensor([1.0, 3.0, 0.0, -1.0]).reshape(2, 1, 1, 2, 1),
        "query_extent": torch.tensor([[[0.0, 2.0], [0.0, 2.0], [1.0, 3.0]]]).expand(2, 1, 3, 2),
        "key_extent": torch.tensor([box, box]),
    }
    loss = region_contrast(**{name: value.to(backend.device) for name, value in inputs.items()}, temperature=0.5)
    first = math.log(sum(math.exp(x) for x in (2, 6, 0, -2))) - (2 + 6) / 2
    second = math.log(sum(math.exp(x) for x in (4, 12, 0, -4))) - (0 - 4) / 2
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_views_outside_the_key_view(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    sample["query_extent"] = sample["query_extent"] + 1e4
    results = loss_and_gradients(region_contrast, sample, ("query", "key"))
    assert all((value == 0).all() for value in results.values())


def test_second_derivative_is_refused(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    query = sample["query"].requires_grad_()
    (gradient,) = torch.autograd.grad(region_contrast(**sample), query, create_graph=True)
    with pytest.raises(RuntimeError, match="region_contrast"):
        gradient.sum().backward()


BAD = [
    ({"query": torch.ones(2, 4)}, ValueError, "query"),
    ({"query": torch.ones(2, 2, 1, 2, 1, 4).int()}, TypeError, "query"),
    ({"query": "text"}, TypeError, "query"),
    ({"key": torch.ones(2, 2, 1, 2, 5)}, ValueError, "key"),
    ({"key": torch.ones(3, 2, 1, 2, 4)}, ValueError, "key"),
    ({"query_extent": torch.ones(2, 2, 3)}, ValueError, "query_extent"),
    ({"key_extent": torch.ones(1, 3, 2)}, ValueError, "key_extent"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_arguments(backend, changes, error, message):
    arguments = {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) else value
        for name, value in {**region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4), **changes}.items()
    }
    with pytest.raises(error, match=f"region_contrast: .*{message}"):
        region_contrast(**arguments)


def test_compiles_whole(backend):
    query, key, *extents = (v.to(backend.device) for v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).values())
    inputs = (query.requires_grad_(), key.requires_grad_())

    def step(query, key):
        return region_contrast(query, key, *extents) * 2

    loss, wanted = torch.compile(step, fullgraph=True, backend="aot_eager")(*inputs), step(*inputs)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(wanted, inputs))
