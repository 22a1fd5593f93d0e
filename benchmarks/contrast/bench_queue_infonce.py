"""queue_infonce beside the same loss in eager PyTorch and under torch.compile."""

import pytest
import torch
import torch.nn.functional as F

from motionops.contrast import queue_infonce, queue_infonce_reference
from tests.contrast.samples import queue_sample


def moco_loss(query, key, queue, temperature=0.1):
    """The loss as MoCo's users write it; without the rank, which costs them another pass."""
    query, key = query.to(queue.dtype), key.to(queue.dtype)
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits.float(), logits.new_zeros(len(logits), dtype=torch.int64))


def prepare(comparison, rows, queue_rows, dim, queue_dtype=torch.float32):
    sample = queue_sample(rows, queue_rows, dim)
    query, key = (sample[name].to(comparison.device).requires_grad_() for name in ("query", "key"))
    queue = sample["queue"].to(comparison.device, queue_dtype)

    def step(loss):
        result = loss(query, key, queue)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, (query, key))

    return step


@pytest.mark.parametrize("queue_dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def bench_forward_and_backward(comparison, queue_dtype):
    rows, queue_rows, dim = 64, 65536, 128
    step = prepare(comparison, rows, queue_rows, dim, queue_dtype)
    compiled = torch.compile(moco_loss, fullgraph=True)
    on_gpu = comparison.device.type == "cuda"
    half = queue_dtype == torch.bfloat16
    comparison(
        f"B {rows}, K {queue_rows}, D {dim}, queue {str(queue_dtype).removeprefix('torch.')}, forward + backward",
        ours=lambda: step(queue_infonce),
        reference=lambda: step(queue_infonce_reference),
        peers={"eager": lambda: step(moco_loss), "torch.compile": lambda: step(compiled)},
        rtol=3e-2 if half else 1e-4,
        operations=4 * rows * queue_rows * dim,
        targets={"eager": 5.0, "torch.compile": 1.5} if on_gpu else {"eager": 2.0, "torch.compile": 1.2},
    )


@pytest.mark.parametrize("queue_rows", [2**power for power in range(12, 21, 2)])
def bench_growth_with_queue(comparison, queue_rows):
    step = prepare(comparison, 64, queue_rows, 128)
    comparison(
        f"B 64, K {queue_rows}, D 128, forward + backward",
        ours=lambda: step(queue_infonce),
        reference=lambda: step(moco_loss),
        peers={"eager": lambda: step(moco_loss)},
        operations=4 * 64 * queue_rows * 128,
        seconds=0.5,
    )


@pytest.mark.parametrize("rows", [8, 32, 128, 512])
def bench_growth_with_batch(comparison, rows):
    step = prepare(comparison, rows, 65536, 128)
    comparison(
        f"B {rows}, K 65536, D 128, forward + backward",
        ours=lambda: step(queue_infonce),
        reference=lambda: step(moco_loss),
        peers={"eager": lambda: step(moco_loss)},
        operations=4 * rows * 65536 * 128,
        seconds=0.5,
    )
