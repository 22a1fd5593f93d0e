"""Compiled steps of a method against eager ones, on inputs of one's own."""

import copy

import pytest
import torch

from motionops.training import compiling
from tests.made_batch import made_batch

EXTENTS = torch.tensor([[0.0, 8.0], [0.0, 1.0], [0.0, 1.0]]).expand(4, 3, 3, 2)


def steps_of(module, prepare, given):
    """Losses and gradients of a parameter of the steps that `prepare(module, x)` makes ready, for each given x."""
    results = []
    module.total_steps = module.steps_per_epoch = 1000
    for x in given:
        prepare(module, x)
        module.zero_grad()
        outputs = module.training_step(made_batch(count=4, extents=EXTENTS), 0)
        outputs["loss"].backward()
        module.finish_step(outputs)
        head = next(weight for name, weight in module.named_parameters() if name.endswith("head.first.weight"))
        results.append(([value.item() for value in outputs.values()], head.grad.clone()))
    return results


def compare(module, prepare, given):
    expected = steps_of(copy.deepcopy(module), prepare, given)
    with compiling.compiled(module):
        seen = steps_of(module, prepare, given)
    for (values, gradient), (other_values, other_gradient) in zip(expected, seen, strict=True):
        assert other_values == pytest.approx(values, rel=1e-4, abs=1e-5)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-5)
