"""region_contrast beside the same loss in eager PyTorch, under torch.compile and from the fused losses of others."""

from functools import partial

import pytest
import torch

from benchmarks.peers import BOUNDS, logsumexps
from motionops.contrast import region_contrast, region_contrast_reference
from motionops.geometry import soft_correspondence
from tests.contrast.samples import region_sample


def prepare(comparison, batch, dtype=torch.float32):
    """A function that takes a loss and runs it with both gradients: V 4, 32 query and 128 key cells a view, D 128."""
    sample = region_sample(batch, 4, (2, 4, 4), (8, 4, 4), 128, dtype=dtype)
    sample = {name: value.to(comparison.device) for name, value in sample.items()}
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()

    def step(loss):
        result = loss(query, key, **sample)
        return result, *torch.autograd.grad(result, (query, key))

    return step, 6 * (batch * 128) ** 2 * 128


def bench_forward_and_backward(comparison):
    step, operations = prepare(comparison, 32)
    compiled = torch.compile(region_contrast_reference, fullgraph=True)
    comparison(
        "B 32, V 4, 32 x 128 cells, D 128, forward + both gradients",
        ours=lambda: step(region_contrast),
        reference=lambda: step(region_contrast_reference),
        peers={"eager": lambda: step(region_contrast_reference), "torch.compile": lambda: step(compiled)},
        rtol=1e-4,
        operations=operations,
        targets={"eager": 6.0, "torch.compile": 1.0},
    )


@pytest.mark.parametrize("batch", [4, 8, 16, 32, 64])
def bench_growth_with_batch(comparison, batch):
    """Rows and columns both grow with B, so time with its square; memory with B, as the features do."""
    step, operations = prepare(comparison, batch)
    comparison(
        f"B {batch}, V 4, 32 x 128 cells, D 128, growth",
        ours=lambda: step(region_contrast),
        reference=lambda: step(region_contrast_reference),
        peers={"eager": lambda: step(region_contrast_reference)},
        rtol=1e-4,
        operations=operations,
        seconds=0.5,
    )


def with_logsumexp(logsumexp):
    """The loss with another library's sum over all cells; the soft targets reach the cells of a row's video alone."""

    def loss(query, key, query_extent, key_extent, temperature=0.1):
        batch, views, *query_grid, dim = query.shape
        share = soft_correspondence(
            query_extent.flatten(0, 1), key_extent.repeat_interleave(views, 0), query_grid, key.shape[1:4]
        ).view(batch, -1, key.shape[1:4].numel())
        rows, columns = query.reshape(batch, -1, dim), key.reshape(batch, -1, dim)
        sums = logsumexp(rows.flatten(0, 1), columns.flatten(0, 1), temperature)
        wanted = (rows.float() * (share @ columns.float())).sum() / temperature
        return ((share.sum(dim=2).flatten() * sums).sum() - wanted) / len(sums)

    return loss


def bench_paper_setting(comparison):
    """The paper's 16384 x 16384 cells, in bfloat16: on a GPU."""
    if comparison.device.type != "cuda":
        pytest.skip("for a GPU")
    step, operations = prepare(comparison, 128, torch.bfloat16)
    compiled = torch.compile(region_contrast_reference, fullgraph=True)
    sums = logsumexps(torch.bfloat16, comparison.device, column_gradient=True)
    comparison(
        "B 128, V 4, 32 x 128 cells, D 128, bfloat16, forward + both gradients",
        ours=lambda: step(region_contrast),
        reference=lambda: step(region_contrast_reference),
        peers={
            "eager": lambda: step(region_contrast_reference),
            "torch.compile": lambda: step(compiled),
            **{name: partial(step, with_logsumexp(of_cells)) for name, of_cells in sums.items()},
        },
        rtol=3e-2,
        bounds=BOUNDS,
        operations=operations,
        products=torch.bfloat16,
        targets={"eager": 3.0},
        aims={"ms": 1.5, "of eager's memory": 0.01},
    )
