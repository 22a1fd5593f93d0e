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


def masked_batch_loss(query, key, query_ids, key_ids, temperature=0.1):
    """The loss with ids as users write it."""
    own = torch.eye(len(query), len(key), dtype=torch.bool, device=query.device)
    left_out = (query_ids[:, None] == key_ids) & ~own
    logits = ((query @ key.T).float() / temperature).masked_fill(left_out, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


@pytest.mark.parametrize("dim", [128, 512])
def bench_with_ids(comparison, dim):
    """Keys of the query's own video are left out: eight of them here."""
    rows = 2048
    sample = {name: value.to(comparison.device) for name, value in pairwise_sample(rows, rows, dim, ids=True).items()}
    query, key = (sample[name].requires_grad_() for name in ("query", "key"))
    compiled = torch.compile(masked_batch_loss, fullgraph=True)

    def step(loss):
        result = loss(**sample)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, (query, key))

    comparison(
        f"N {rows}, D {dim}, ids, forward + both gradients",
        ours=lambda: step(pairwise_infonce),
        reference=lambda: step(pairwise_infonce_reference),
        peers={"eager": lambda: step(masked_batch_loss), "torch.compile": lambda: step(compiled)},
        rtol=1e-4,
        bounds=BOUNDS,
        operations=6 * rows * rows * dim,
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
