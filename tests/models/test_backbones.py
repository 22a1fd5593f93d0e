"""Backbones: shapes, sizes and names against the published networks, and weights on disk."""

import json
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.video import r2plus1d_18, r3d_18, s3d
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet

from motionops.errors import UserError
from motionops.models import (
    BACKBONES,
    BackboneName,
    build_backbone,
    load_backbone,
    load_weights,
    read_metadata,
    save_backbone,
)
from motionops.models.backbone_files import read_weights
from motionops.models.networks.i3d import same_padding

# Feature map of a clip at the size that the paper uses, and parameters: I3D 12.3 M (FIMA, Table 11), R(2+1)D-18
# 31 505 325 with its 400-class layer (torchvision), less that layer's 512 * 400 + 400.
KNOWN = {
    "i3d": ((1, 3, 16, 224, 224), (1, 1024, 2, 7, 7), 12_287_264),
    "r2plus1d_18": ((1, 3, 16, 112, 112), (1, 512, 2, 7, 7), 31_505_325 - 205_200),
    "r3d_small": ((1, 3, 8, 32, 32), (1, 128, 2, 4, 4), None),
    # MCL, Table 3: 27.3, 7.9 and 23.5 M.
    "r2plus1d_50": ((1, 3, 16, 224, 224), (1, 2048, 4, 7, 7), 27_308_672),
    "s3d": ((1, 3, 16, 224, 224), (1, 1024, 2, 7, 7), 7_910_048),
    "r2d_50": ((1, 3, 1, 224, 224), (1, 2048, 1, 7, 7), 23_508_032),  # torchvision's resnet50 without fc
    "i2d": ((1, 3, 1, 224, 224), (1, 1024, 1, 7, 7), None),
    "slow_r50": ((1, 3, 8, 224, 224), (1, 2048, 8, 7, 7), None),
    "r3d_18": ((1, 3, 16, 128, 128), (1, 512, 2, 8, 8), 33_371_472 - 205_200),
    # torchvision's again, and r3d_34 of twice the blocks: the pool has no weights
    "r3d_18_pool": ((1, 3, 16, 112, 112), (1, 512, 2, 4, 4), 33_371_472 - 205_200),
    "r3d_34_pool": ((1, 3, 16, 112, 112), (1, 512, 2, 4, 4), None),
    # Context-Motion Decoupling, Section 4.1; C3D's 27 655 936 with biases, BatchNorm in their place adding 2752.
    "c3d": ((1, 3, 16, 112, 112), (1, 512, 2, 7, 7), 27_655_936 + 2_752),
    "r3d_26": ((1, 3, 16, 112, 112), (1, 2048, 2, 7, 7), 26_498_752),
    "r2plus1d_26": ((1, 3, 16, 112, 112), (1, 2048, 2, 7, 7), 26_494_513),
    "r3d_10": ((1, 3, 8, 112, 112), (1, 512, 1, 7, 7), 14_361_792),
    "r2d_10": ((1, 3, 1, 112, 112), (1, 512, 1, 7, 7), 4_905_792),
    "r3d_10_eighth": ((1, 3, 8, 32, 32), (1, 64, 1, 2, 2), None),
    "r2d_small": ((1, 3, 1, 32, 32), (1, 128, 1, 2, 2), None),
    "r2d_50_eighth": ((1, 3, 16, 224, 224), (1, 256, 16, 7, 7), None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_shapes_and_parameters(name):
    clip, expected, parameters = KNOWN[name]
    with torch.device("meta"):
        backbone = build_backbone(name).eval()
        assert tuple(backbone(torch.empty(clip)).shape) == expected
    assert backbone.channels == expected[1]
    if parameters is not None:
        assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters


def test_i3d_has_the_published_names():
    keys = set(build_backbone("i3d").state_dict())
    for key in (
        "conv3d_1a_7x7.conv3d.weight",
        "conv3d_1a_7x7.batch3d.running_var",
        "conv3d_2c_3x3.conv3d.weight",
        "mixed_3b.branch_0.conv3d.weight",
        "mixed_4f.branch_1.1.batch3d.bias",
        "mixed_5c.branch_3.1.conv3d.weight",
    ):
        assert key in keys
    assert len(keys) == 57 * 6  # 57 units: a kernel, and a BatchNorm's two weights, two statistics and its counter


def test_same_padding_puts_the_odd_cell_behind():
    assert same_padding((7, 7, 7), (2, 2, 2)) == (2, 3, 2, 3, 2, 3)
    assert same_padding((1, 3, 3), (1, 2, 2)) == (0, 1, 0, 1, 0, 0)
    assert same_padding((3, 3, 3), (1, 1, 1)) == (1, 1, 1, 1, 1, 1)
    assert same_padding((2, 2, 2), (2, 2, 2)) == (0,) * 6


def test_i3d_runs_on_a_small_clip_and_is_differentiable():
    torch.manual_seed(0)
    backbone = build_backbone("i3d")
    features = backbone(torch.rand(2, 3, 8, 32, 32))
    assert features.shape == (2, 1024, 1, 1, 1)
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_r2plus1d_computes_what_torchvision_computes():
    torch.manual_seed(0)
    theirs = r2plus1d_18(weights=None).eval()
    ours = build_backbone("r2plus1d_18").eval()
    load_weights(ours, theirs.state_dict())  # its classifier is passed over
    theirs.fc = torch.nn.Identity()
    clip = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(clip).mean(dim=(2, 3, 4)), theirs(clip))


def test_r3d_with_a_pool_takes_the_weights_of_torchvision():
    torch.manual_seed(0)
    theirs = r3d_18(weights=None).eval()
    ours = build_backbone("r3d_18_pool").eval()
    load_weights(ours, theirs.state_dict())
    clip = torch.rand(1, 3, 8, 64, 64)
    with torch.no_grad():
        stem = torch.nn.functional.max_pool3d(theirs.stem(clip), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
        torch.testing.assert_close(ours(clip), expected)


def test_small_network_takes_widths():
    backbone = build_backbone("r3d_small", widths=(4, 8, 8, 16))
    assert backbone(torch.rand(2, 3, 8, 32, 32)).shape == (2, 16, 2, 4, 4)
    with pytest.raises(ValueError, match="r3d_small: widths must be four positive numbers"):
        build_backbone("r3d_small", widths=(4, 8))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name must be one of i3d, r2plus1d_18, r3d_small, .*, got 'resnet'"):
        build_backbone("resnet")


def test_saved_backbone_comes_back_whole(tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone("r3d_small", widths=(4, 8, 8, 16))
    save_backbone(backbone, tmp_path / "backbone.safetensors", frames="8")
    loaded = load_backbone(tmp_path / "backbone.safetensors")
    metadata = read_metadata(tmp_path / "backbone.safetensors")
    assert metadata["backbone"] == "r3d_small"
    assert metadata["frames"] == "8"
    assert json.loads(metadata["kwargs"]) == {"widths": [4, 8, 8, 16]}
    assert loaded.state_dict().keys() == backbone.state_dict().keys()
    for key, value in backbone.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.safetensors"]


def test_no_flipped_bit_is_another_weight(tmp_path):
    """Any bit of a file: refused in one line, or it is of the check sums' name and nothing that counts is another."""
    file = tmp_path / "backbone.safetensors"
    save_backbone(nn.Linear(3, 2), file, frames="8", mean="[0.43, 0.39, 0.38]")
    whole = file.read_bytes()
    expected, header = read_weights(file)
    accepted, lines = 0, []
    for bit in range(8 * len(whole)):
        held = bytearray(whole)
        held[bit // 8] ^= 1 << bit % 8
        file.write_bytes(held)
        try:
            state, said = read_weights(file)
        except UserError as error:
            lines.append(str(error))
        else:
            accepted += 1
            assert header.items() <= said.items()
            assert all(torch.equal(value, expected[key]) for key, value in state.items())
    assert accepted <= 8 * len("crc32")
    assert all(str(file) in line and "\n" not in line for line in lines)


def test_files_of_others_need_no_check_sum(tmp_path):
    backbone = build_backbone("r3d_small", widths=(4, 8, 8, 16))
    header = {"backbone": "r3d_small", "kwargs": '{"widths": [4, 8, 8, 16]}'}
    save_file(backbone.state_dict(), tmp_path / "others.safetensors", metadata=header)
    loaded = load_backbone(tmp_path / "others.safetensors").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in backbone.state_dict().items())


def test_weights_that_do_not_fit_are_named(tmp_path):
    backbone = build_backbone("r3d_small")
    state = backbone.state_dict()
    state["stranger"] = torch.zeros(1)
    state["stem.0.weight"] = torch.zeros(1, 2)
    del state["stem.1.bias"]
    with pytest.raises(UserError) as error:
        load_weights(backbone, state, "weights.pt")
    text = str(error.value)
    assert "weights.pt does not fit r3d_small" in text
    assert "1 missing: stem.1.bias" in text
    assert "1 unknown: stranger" in text
    assert "stem.0.weight (expected [16, 3, 3, 5, 5], got [1, 2])" in text


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        load_backbone(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not this")
    with pytest.raises(UserError, match="is not a safetensors file"):
        load_backbone(broken)
    save_file({"weight": torch.zeros(1)}, tmp_path / "nameless.safetensors")
    with pytest.raises(UserError, match="does not say which network it is"):
        load_backbone(tmp_path / "nameless.safetensors")
    (tmp_path / "broken.pth").write_bytes(b"not this")
    with pytest.raises(UserError, match="is not a file of weights"):
        load_backbone(tmp_path / "broken.pth", name="r3d_small")
    torch.save({"state_dict": build_backbone("r3d_small").state_dict()}, tmp_path / "good.pth")
    assert load_backbone(tmp_path / "good.pth", name="r3d_small").name == "r3d_small"


@pytest.mark.parametrize("name", ["r3d_small", "r2plus1d_18", "i3d", "s3d", "r2plus1d_50", "r2d_50", "i2d", "c3d"])
def test_last_convolution_gives_what_the_map_is_normalised_from(name):
    """h has the map's shape, and the gradient of a function of the pooled map is not the same in every cell."""
    torch.manual_seed(0)
    backbone = build_backbone(name)
    keys = set(backbone.state_dict())
    seen = []
    handle = backbone.last_convolution.register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = backbone(torch.rand(2, 3, 8, 64, 64))
    handle.remove()
    (h,) = seen
    assert h.shape == features.shape
    direction = torch.randn(features.shape[1])
    (gradient,) = torch.autograd.grad((features.mean(dim=(2, 3, 4)) @ direction).sum(), h, create_graph=True)
    assert gradient.requires_grad
    assert gradient.flatten(2).std(dim=2).max() > 0
    assert set(build_backbone(name).state_dict()) == keys


def test_s3d_computes_what_torchvision_computes():
    torch.manual_seed(0)
    theirs = s3d(weights=None).eval()
    ours = build_backbone("s3d").eval()
    load_weights(ours, theirs.state_dict())
    clip = torch.rand(1, 3, 16, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(clip), theirs.features(clip))


@pytest.mark.parametrize("name", ["r2d_50", "i2d", "r2d_10"])
def test_frames_pass_independently_through_networks_over_images(name):
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    clip = torch.rand(2, 3, 3, 32, 32)
    with torch.no_grad():
        whole = backbone(clip)
        assert whole.shape[2] == 3
        for t in range(3):
            torch.testing.assert_close(backbone(clip[:, :, t : t + 1]), whole[:, :, t : t + 1])


def test_c3d_without_batchnorm_is_the_original_convolutions():
    backbone = build_backbone("c3d", batch_norm=False)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 27_655_936
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in backbone.modules())


def test_shallow_networks_compute_what_torchvision_computes():
    """Blocks, strides and order are torchvision's: its R3D of basic blocks, one a stage."""
    torch.manual_seed(0)
    theirs = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem).eval()
    ours = build_backbone("r3d_10").eval()
    state = theirs.state_dict()
    state = {key.replace(".conv1.0.", ".conv1.").replace(".conv2.0.", ".conv2."): value for key, value in state.items()}
    state = {key.replace(".conv1.1.", ".bn1.").replace(".conv2.1.", ".bn2."): value for key, value in state.items()}
    load_weights(ours, state)
    clip = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(theirs.stem(clip)))))
        torch.testing.assert_close(ours(clip), expected)


@pytest.mark.parametrize("name", ["r3d_26", "r2plus1d_26"])
def test_networks_of_depth_26(name):
    """Bottlenecks: 2 in each of 4 stages, 3 convolutions each, and the stem (and no layer of classes) are 25."""
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 8, 16, 16)).shape == (1, 2048, 1, 1, 1)
    blocks = [block for stage in (1, 2, 3, 4) for block in getattr(backbone, f"layer{stage}")]
    assert len(blocks) == 8
    assert [block.conv3.out_channels for block in blocks] == [256, 256, 512, 512, 1024, 1024, 2048, 2048]
    assert backbone.last_convolution is blocks[-1].conv3


def test_motion_vectors_have_two_channels():
    for name in ("r3d_10", "r3d_small"):
        backbone = build_backbone(name, inputs=2)
        assert backbone(torch.rand(2, 2, 8, 32, 32)).shape[:2] == (2, backbone.channels)
        assert backbone.kwargs == {"inputs": 2}
    with pytest.raises(ValueError, match="widths must be four positive numbers"):
        build_backbone("r2d_10", widths=(1, 2))


def test_the_type_of_names_is_that_of_the_backbones():
    """Written out: a type checker cannot compute it."""
    assert get_args(BackboneName) == tuple(BACKBONES)
