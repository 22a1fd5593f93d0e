"""The probe finds a class that is there and none that is not."""

import pytest
import torch

pytest.importorskip("sklearn")
from motionops.evaluation import linear_probe


def test_finds_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 8
    features = torch.randn(320, 16, generator=generator)
    seen = features.clone()
    seen[:, :8] += 4 * torch.nn.functional.one_hot(labels, 8)
    assert linear_probe(seen[:240], labels[:240], seen[240:], labels[240:]) > 90
    assert linear_probe(features[:240], labels[:240], features[240:], labels[240:]) < 30


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"must be \[N, C\] and \[M, C\]"):
        linear_probe(torch.ones(6, 2), [0, 1] * 3, torch.ones(6, 3), [0, 1] * 3)
    with pytest.raises(ValueError, match="one label a video"):
        linear_probe(torch.ones(6, 2), [0, 1], torch.ones(6, 2), [0, 1] * 3)
    with pytest.raises(ValueError, match="two classes of three videos"):
        linear_probe(torch.ones(6, 2), [0] * 6, torch.ones(6, 2), [0] * 6)
