"""The projection head against two 1 x 1 convolutions."""

import pytest
import torch
from torch.nn import functional

from motionops.models import ProjectionHead


def test_is_two_convolutions_and_a_norm():
    torch.manual_seed(0)
    head = ProjectionHead(6, 10, 4)
    features = torch.randn(2, 6, 2, 3, 3)
    hidden = functional.conv3d(features, head.first.weight[:, :, None, None, None], head.first.bias).relu()
    expected = functional.conv3d(hidden, head.second.weight[:, :, None, None, None], head.second.bias)
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(features.permute(0, 2, 3, 4, 1)), expected.permute(0, 2, 3, 4, 1))


def test_channels_that_come_first_are_named():
    with pytest.raises(ValueError, match=r"ProjectionHead: features must be \[..., C=6\], got \[2, 6, 2, 3, 3\]"):
        ProjectionHead(6)(torch.randn(2, 6, 2, 3, 3))


def test_default_sizes_and_pooled_features():
    head = ProjectionHead(512)
    assert sum(parameter.numel() for parameter in head.parameters()) == 512 * 1024 + 1024 + 1024 * 128 + 128
    assert head(torch.randn(3, 512)).shape == (3, 128)
    assert head(torch.randn(3, 512).bfloat16().float()).dtype == torch.float32


def test_embeddings_are_of_unit_length_under_autocast():
    """The layers compute in 16 bits; a norm of 16 bits would be off by up to 4e-3."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = ProjectionHead(6, 10, 4)(torch.randn(40, 6))
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.double().norm(dim=1), torch.ones(40).double(), rtol=0, atol=1e-6)
