"""queue_infonce beside the same loss in eager PyTorch, under torch.compile and from the fused losses of others."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from benchmarks.peers import BOUNDS, logsumexps
from motionops.contrast import queue_infonce, queue_infonce_reference
from tests.contrast.samples import queue_sample


def moco_loss(query, key, queue, temperature=0.1):
    """The loss as MoCo's users write it; without the rank, which costs them another pass."""
    query, key = query.to(queue.dtype), key.to(queue.dtype)
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits.float(), logits.new_zeros(len(logits), dtype=torch.int64))


def with_logsumexp(logsumexp):
    """The loss with another library's sum over the queue's rows, to which the positive is added."""

    def loss(query, key, queue, temperature=0.1):
        query, key = query.to(queue.dtype), key.to(queue.dtype)
        positive = (query.float() * key.float()).sum(dim=1) / temperature
        return (torch.logaddexp(logsumexp(query, queue, temperature), positive) - positive).mean()

    return loss


def prepare(comparison, rows, queue_rows, dim, queue_dtype=torch.float32):
    sample = queue_sample(rows, queue_rows, dim)
    query, key = (sample[name].to(comparison.device).requires_grad_() for name in ("query", "key"))
    queue = sample["queue"].to(comparison.device, queue_dtype)

    def step(loss):
        result = loss(query, key, queue)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, (query, key))

    return step


def title(rows, queue_rows, dim, queue_dtype):
    return f"B {rows}, K {queue_rows}, D {dim}, queue {str(queue_dtype).removeprefix('torch.')}"


SHAPES = [(2**16, torch.float32), (2**16, torch.bfloat16), (2**20, torch.bfloat16)]


@pytest.mark.parametrize(("queue_rows", "queue_dtype"), SHAPES, ids=str)
def bench_forward_and_backward(comparison, queue_rows, queue_dtype):
    """Peers give the loss and both gradients, not the rank, which the operator finds in the same pass."""
    rows, dim = 64, 128
    on_gpu = comparison.device.type == "cuda"
    if queue_rows > 2**16 and not on_gpu:
        pytest.skip("for a GPU")
    step = prepare(comparison, rows, queue_rows, dim, queue_dtype)
    compiled = torch.compile(moco_loss, fullgraph=True)
    sums = logsumexps(queue_dtype, comparison.device, column_gradient=False)
    comparison(
        f"{title(rows, queue_rows, dim, queue_dtype)}, forward + backward",
        ours=lambda: step(queue_infonce),
        reference=lambda: step(queue_infonce_reference),
        peers={
            "eager": lambda: step(moco_loss),
            "torch.compile": lambda: step(compiled),
            **{name: partial(step, with_logsumexp(of_queue)) for name, of_queue in sums.items()},
        },
        rtol=3e-2 if queue_dtype == torch.bfloat16 else 1e-4,
        bounds=BOUNDS,
        operations=4 * rows * queue_rows * dim,
        products=queue_dtype,
        targets={"eager": 5.0, **dict.fromkeys(("torch.compile", "cut-cross-entropy"), 1.5)}
        if on_gpu
        else {"eager": 2.0, "torch.compile": 1.2},
    )


@pytest.mark.parametrize("queue_rows", [2**16, 2**20])
def bench_inside_a_cuda_graph(comparison, queue_rows):
    """Without the launches: the queue read once is the floor, and three times that is the aim."""
    if comparison.device.type != "cuda":
        pytest.skip("for a GPU")
    rows, dim, dtype = 64, 128, torch.bfloat16
    sample = {name: value.to(comparison.device) for name, value in queue_sample(rows, queue_rows, dim).items()}
    key, queue = sample["key"], sample["queue"].to(dtype)

    def step(loss):
        # A leaf of this call: what takes its gradient is then of the stream that is captured.
        query = sample["query"].detach().requires_grad_()
        result = loss(query, key, queue)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, (query,))

    comparison(
        f"{title(rows, queue_rows, dim, dtype)}, loss + query gradient in a CUDA graph",
        ours=captured(lambda: step(queue_infonce)),
        reference=lambda: step(queue_infonce_reference),
        peers={"eager": captured(lambda: step(moco_loss))},
        rtol=3e-2,
        moved_bytes=queue.nbytes,
        operations=4 * rows * queue_rows * dim,
        products=dtype,
        aims={"of a copy": 1 / 3},
    )


def captured(work):
    """The same as a CUDA graph, captured at the first call: its tensors are overwritten by each call."""
    kept = []

    def replay():
        if not kept:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):  # what a first call allocates or loads cannot be captured
                    work()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = work()
            kept.append((graph, result))
        graph, result = kept[0]
        graph.replay()
        return result

    return replay


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
