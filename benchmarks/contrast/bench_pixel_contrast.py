"""pixel_contrast beside the formula that FIMA's authors released, in eager PyTorch and under torch.compile."""

import pytest
import torch

from motionops.contrast import pixel_contrast, pixel_contrast_reference
from motionops.contrast.pixel_contrast import positive_pairs
from tests.contrast.released_fima import released_pixel_loss
from tests.contrast.samples import pixel_sample


def half_foreground(batch, height, width, generator):
    """FIMA's masks: just under half of the pixels, 24 of 49."""
    area = height * width
    order = torch.rand(batch, area, generator=generator).argsort(dim=1)
    return (order < area // 2).view(batch, height, width)


def products(sample):
    """Two operations a feature for the logits and two for the query's gradient: of the rows that have positives, which
    alone count in the loss, with all columns. What places the pixels is not counted."""
    frames, height, width, dim = sample["query"].shape[1:]
    masks = sample.get("query_mask"), sample.get("key_mask")
    positives = positive_pairs(sample["query_extent"], sample["key_extent"], height, width, 0.7, *masks)
    rows = frames * positives.any(dim=3).sum().item()
    return 4 * rows * (sample["key"][..., 0].numel() + len(sample["negatives"])) * dim


def prepare(comparison, batch, negative_rows, masks, directions=2):
    """A function that takes a loss and runs one step with it, and the step's operations: frames of both directions, 2
    frames of 7x7 pixels in each."""
    samples = []
    for direction in range(directions):
        sample = pixel_sample(batch, 2, 7, 7, 128, negative_rows=negative_rows, seed=direction)
        if masks:
            generator = torch.Generator().manual_seed(direction)
            for name in ("query_mask", "key_mask"):
                sample[name] = half_foreground(batch, 7, 7, generator)
        sample = {name: value.to(comparison.device) for name, value in sample.items()}
        sample["query"].requires_grad_()
        samples.append(sample)

    def step(loss):
        total = sum(loss(sample) for sample in samples)
        return total, *torch.autograd.grad(total, [sample["query"] for sample in samples])

    return step, sum(products(sample) for sample in samples)


def ours(sample):
    return pixel_contrast(**sample)


def reference(sample):
    return pixel_contrast_reference(**sample)


@pytest.mark.parametrize("masks", [True, False], ids=["foreground", "every pixel"])
def bench_kinetics_step(comparison, masks):
    """FIMA on Kinetics, forward + backward: 4 frames in 2 directions, B 8, 49 pixels, 32144 columns."""
    step, operations = prepare(comparison, 8, 31360, masks)
    compiled = torch.compile(released_pixel_loss)
    target = 5.0 if comparison.device.type == "cuda" else 4.0
    comparison(
        f"Kinetics step: 4 frames, B 8, 49 pixels, 32144 columns, {'foreground' if masks else 'every pixel'}",
        ours=lambda: step(ours),
        reference=lambda: step(reference),
        peers={
            "released formula": lambda: step(released_pixel_loss),
            "torch.compile of it": lambda: step(compiled),
            "reference": lambda: step(reference),
        },
        rtol=1e-3,
        operations=operations,
        targets={"released formula": target},
    )


@pytest.mark.parametrize("negative_rows", [2**power for power in range(12, 21, 2)])
def bench_growth_with_queue(comparison, negative_rows):
    step, operations = prepare(comparison, 4, negative_rows, True, directions=1)
    comparison(
        f"2 frames, B 4, 49 pixels, K {negative_rows}, foreground, forward + backward",
        ours=lambda: step(ours),
        reference=lambda: step(reference),
        peers={"reference": lambda: step(reference)},
        rtol=1e-3,
        operations=operations,
        seconds=0.5,
    )


@pytest.mark.parametrize("batch", [2, 8, 32])
def bench_growth_with_batch(comparison, batch):
    step, operations = prepare(comparison, batch, 31360, True, directions=1)
    comparison(
        f"2 frames, B {batch}, 49 pixels, K 31360, foreground, forward + backward",
        ours=lambda: step(ours),
        reference=lambda: step(reference),
        peers={"reference": lambda: step(reference)},
        rtol=1e-3,
        operations=operations,
        seconds=0.5,
    )
