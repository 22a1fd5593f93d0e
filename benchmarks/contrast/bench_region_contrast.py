"""region_contrast beside the same loss in eager PyTorch and under torch.compile."""

import torch

from motionops.contrast import region_contrast, region_contrast_reference
from tests.contrast.test_region_contrast import region_sample


def bench_forward_and_backward(comparison):
    sample = region_sample(32, 4, (2, 4, 4), (8, 4, 4), 128)
    sample = {name: value.to(comparison.device) for name, value in sample.items()}
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()

    def step(loss):
        result = loss(query, key, **sample)
        return result, *torch.autograd.grad(result, (query, key))

    compiled = torch.compile(region_contrast_reference, fullgraph=True)
    comparison(
        "B 32, V 4, 32 x 128 cells, D 128, forward + both gradients",
        ours=lambda: step(region_contrast),
        reference=lambda: step(region_contrast_reference),
        peers={"eager": lambda: step(region_contrast_reference), "torch.compile": lambda: step(compiled)},
        rtol=1e-4,
        operations=8 * 4096 * 4096 * 128,
        targets={"eager": 6.0, "torch.compile": 1.0},
    )
