"""region_contrast on every backend."""

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
    arguments = (query.requires_grad_(), key.requires_grad_(), *extents, 0.1)
    torch.library.opcheck(ops().region_contrast.default, arguments)
