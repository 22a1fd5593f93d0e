"""The same weights at a finer temporal resolution."""

import pytest
import torch

from motionops.models import build_backbone, finer_in_time
from motionops.models.temporal_detail import temporal_halvings

# Section 4.2: 16 x 112 x 112 becomes 2 x 4 x 4 as a local clip and 8 x 4 x 4 as the global one. Table 4 has 4, too.
KNOWN = {
    ("r3d_18_pool", 16, 112): {1: (2, 4, 4), 2: (4, 4, 4), 4: (8, 4, 4), 8: (16, 4, 4)},
    ("r3d_34_pool", 16, 112): {1: (2, 4, 4), 4: (8, 4, 4)},
    ("r3d_18", 16, 112): {1: (2, 7, 7), 4: (8, 7, 7)},
    ("r2plus1d_18", 16, 112): {1: (2, 7, 7), 4: (8, 7, 7)},
    ("r3d_small", 8, 32): {1: (2, 4, 4), 2: (4, 4, 4), 4: (8, 4, 4)},
}


@pytest.mark.parametrize("network", KNOWN, ids=lambda network: network[0])
def test_maps(network):
    name, frames, size = network
    with torch.device("meta"):
        backbone = build_backbone(name).eval()
        for factor, shape in KNOWN[network].items():
            with finer_in_time(backbone, factor):
                assert tuple(backbone(torch.empty(1, 3, frames, size, size)).shape[2:]) == shape


def test_strides_come_back_also_after_an_error():
    backbone = build_backbone("r3d_small").eval()
    clip = torch.rand(1, 3, 8, 32, 32)
    before = backbone(clip)
    with pytest.raises(RuntimeError, match="stop"), finer_in_time(backbone, 4):
        raise RuntimeError("stop")
    assert torch.equal(backbone(clip), before)


def test_a_coarse_map_is_every_second_cell_of_a_fine_one():
    """Before the last stage nothing differs, and a strided convolution is a subset of the unstrided one."""
    torch.manual_seed(0)
    backbone = build_backbone("r3d_18_pool").eval()
    block = backbone.layer4[0]
    features = torch.rand(1, 256, 4, 4, 4)
    with torch.no_grad():
        coarse = block.conv1[0](features)
        with finer_in_time(backbone, 2):
            fine = block.conv1[0](features)
    assert fine.shape[2] == 4
    torch.testing.assert_close(coarse, fine[:, :, ::2])


def test_gradients_reach_the_same_weights_at_both_resolutions():
    torch.manual_seed(0)
    backbone = build_backbone("r3d_small", widths=(4, 4, 8, 8))
    clip = torch.rand(2, 3, 8, 16, 16)
    gradients = []
    for factor in (1, 4):
        with finer_in_time(backbone, factor):
            features = backbone(clip)
        backbone.zero_grad()
        features.square().sum().backward()  # outside the context: strides are those of the forward pass
        gradients.append(backbone.layer3.conv1[0].weight.grad.clone())
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("factor", [0, 3, 8, -1])
def test_other_factors_are_refused(factor):
    backbone = build_backbone("r3d_small")
    assert len(temporal_halvings(backbone)) == 2
    with (
        pytest.raises(ValueError, match=f"factor must be a power of 2 from 1 to 4 for r3d_small, got {factor}"),
        finer_in_time(backbone, factor),
    ):
        pass
