"""pairwise_infonce beside the same loss in eager PyTorch, under torch.compile and by the fused losses of others."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.peers import BOUNDS, linear_cross_entropies
from motionops.contrast import pairwise_infonce, pairwise_infonce_reference
from tests.contrast.samples import pairwise_sample


def batch_loss(query, key, temperature=0.1):
    """The loss as users write it; without the rank."""
    return F.cross_entropy((query @ key.T).float() / temperature, torch.arange(len(query), device=query.device))


SHAPES = [
    *((rows, torch.float32) for rows in (1024, 2048, 4096)),
    # what cut-cross-entropy is made for
    *((rows, torch.bfloat16) for rows in (4096, 16384)),
]


@pytest.mark.parametrize(("rows", "dtype"), SHAPES, ids=str)
def bench_forward_and_backward(comparison, rows, dtype):
    if dtype != torch.float32 and comparison.device.type != "cuda":
        pytest.skip("for a GPU")
    dim = 512
    sample = pairwise_sample(rows, rows, dim, dtype=dtype)
    query, key = (sample[name].to(comparison.device).requires_grad_() for name in ("query", "key"))

    def step(loss):
        result = loss(query, key)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, (query, key))

    compiled = torch.compile(batch_loss, fullgraph=True)
    comparison(
        f"N {rows}, D {dim}, {'' if dtype == torch.float32 else 'bfloat16, '}forward + both gradients",
        ours=lambda: step(pairwise_infonce),
        reference=lambda: step(pairwise_infonce_reference),
        peers={
            "eager": lambda: step(batch_loss),
            "torch.compile": lambda: step(compiled),
            **linear_cross_entropies(query, key, temperature=0.1),
        },
        rtol=1e-4 if dtype == torch.float32 else 3e-2,
        bounds=BOUNDS,
        operations=6 * rows * rows * dim,
        products=dtype,
    )


@pytest.mark.parametrize("hard_negatives", [0, 4096, 16384, 65536])
def bench_growth_with_hard_negatives(comparison, hard_negatives):
    """Time linear in the keys, memory as the keys' own."""
    rows, dim = 512, 128
    sample = pairwise_sample(rows, rows + hard_negatives, dim)
    query, key = (sample[name].to(comparison.device).requires_grad_() for name in ("query", "key"))

    def step(loss):
        result = loss(query, key)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, (query, key))

    comparison(
        f"N {rows}, M {rows + hard_negatives}, D {dim}, forward + both gradients",
        ours=lambda: step(pairwise_infonce),
        reference=lambda: step(batch_loss),
        peers={"eager": lambda: step(batch_loss)},
        rtol=1e-4,
        operations=6 * rows * (rows + hard_negatives) * dim,
        seconds=0.5,
    )
