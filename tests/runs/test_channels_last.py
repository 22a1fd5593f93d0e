"""Weights of 3-D convolutions lie channels last, for which cuDNN has its fastest kernels, in new and resumed runs."""

import pytest
import torch

from motionops.training.method import Method
from tests.methods.tiny import tiny, trained


def strides_of_channels_last(shape):
    _, channels, _, height, width = shape
    per_frame = height * width * channels
    return shape[2] * per_frame, 1, per_frame, width * channels, channels


def misplaced(module):
    """Convolutions whose weights lie otherwise."""
    convolutions = {
        name: layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Conv3d) and max(layer.kernel_size) > 1
    }
    assert len(convolutions) > 5
    return {name for name, weight in convolutions.items() if weight.stride() != strides_of_channels_last(weight.shape)}


@pytest.fixture
def starts(monkeypatch):
    """(steps done, misplaced weights) of each run, when its training begins."""
    seen, start = [], Method.on_train_start

    def record(module):
        seen.append((module.step, misplaced(module)))
        start(module)

    monkeypatch.setattr(Method, "on_train_start", record)
    return seen


# One network, and three of which one is of images.
@pytest.mark.parametrize("method", ["fima", "context_motion"])
def test_in_a_new_run_and_in_its_resumption(shapes, tmp_path, monkeypatch, starts, method):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    for steps in (1, 2):
        trained(method, tiny(method, shapes, tmp_path / "run", max_steps=steps, resume=steps > 1))
    assert starts == [(0, set()), (1, set())]
