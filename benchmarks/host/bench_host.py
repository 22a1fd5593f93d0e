"""What the host spends on a call, forward and backward, beside the same formula in eager PyTorch.

Six small calls, of sizes whose kernels take under 10 µs on a GPU, so that the launching is measured. One thread;
operator and eager formula in turns, the least of many rounds: what other work on the machine adds is left out.
"""

import pytest
import torch
import torch.nn.functional as F

import motionops
from benchmarks.measure import host_times
from motionops.contrast import pixel_contrast_reference
from motionops.flow.flow_edges import flow_edges_reference
from motionops.flow.frame_difference import frame_difference_reference
from motionops.flow.motion_map import motion_map_reference
from tests.contrast.samples import pairwise_sample, pixel_sample, queue_sample
from tests.flow.samples import clip_sample, flow_sample


def queue_loss(query, key, queue):
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / 0.1
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


def pairwise_loss(query, key):
    return F.cross_entropy(query @ key.T / 0.1, torch.arange(len(query), device=query.device))


# name -> (operator, eager formula, arguments, those that want a gradient)
CALLS = {
    "queue_infonce": (motionops.queue_infonce, queue_loss, queue_sample(1, 1, 8), ("query", "key")),
    "pairwise_infonce": (motionops.pairwise_infonce, pairwise_loss, pairwise_sample(1, 1, 8), ("query", "key")),
    "pixel_contrast": (
        motionops.pixel_contrast,
        pixel_contrast_reference,
        pixel_sample(1, 1, 2, 2, 8),
        ("query", "key"),
    ),
    "flow_edges": (motionops.flow_edges, flow_edges_reference, {"flow": flow_sample(1, 1, 2, 8, 8)}, ("flow",)),
    "motion_map": (motionops.motion_map, motion_map_reference, {"flow": flow_sample(1, 1, 2, 8, 8)}, ("flow",)),
    "frame_difference": (
        motionops.frame_difference,
        frame_difference_reference,
        {"clip": clip_sample(1, 1, 2, 8, 8)},
        ("clip",),
    ),
}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", CALLS)
def bench_host(comparison, name):
    operator, eager, sample, wanted = CALLS[name]
    sample = {argument: value.to(comparison.device) for argument, value in sample.items()}
    leaves = [sample[argument].requires_grad_() for argument in wanted]

    def step(function):
        result = function(**sample)
        result = getattr(result, "loss", result)
        return result, *torch.autograd.grad(result, leaves, torch.ones_like(result))

    comparison(
        f"{name}, forward + backward, least of the rounds",
        ours=lambda: step(operator),
        reference=lambda: step(eager),
        peers={"eager": lambda: step(eager)},
        atol=1e-4,
        clock=host_times,
    )
