"""Backbones that start from networks over images: a still clip gives what the image network gives."""

import pytest
import torch
from torchvision.models import googlenet, resnet50

from motionops.errors import UserError
from motionops.models import build_backbone, load_image_weights, save_backbone


def randomised(network):
    """With BatchNorm statistics and scales that are not those of a new network."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            module.eps = 1e-5  # GoogLeNet's is 1e-3
    return network.eval()


def images_map(network, image):
    """Feature map of torchvision's ResNet before its pooling."""
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        return network.layer4(network.layer3(network.layer2(network.layer1(x))))


def moco_file(network, path):
    """As MoCo writes it: both encoders, wrapped, with a head."""
    state = {f"module.encoder_q.{name}": value for name, value in network.state_dict().items()}
    other = resnet50(weights=None).state_dict()
    state |= {f"module.encoder_k.{name}": value for name, value in other.items()}
    state["module.queue"] = torch.zeros(2, 2)
    torch.save({"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {}}, path)
    return path


@pytest.mark.parametrize(("name", "frames"), [("r2plus1d_50", 8), ("r2d_50", 2)])
def test_a_still_clip_gives_the_image_networks_map(tmp_path, name, frames):
    torch.manual_seed(0)
    images = randomised(resnet50(weights=None))
    backbone = build_backbone(name)
    load_image_weights(backbone, moco_file(images, tmp_path / "moco.pth.tar"))
    image = torch.rand(1, 3, 64, 64)
    expected = images_map(images, image)
    with torch.no_grad():
        given = backbone.eval()(image[:, :, None].expand(-1, -1, frames, -1, -1))
    for t in range(given.shape[2]):
        torch.testing.assert_close(given[:, :, t], expected, rtol=1e-4, atol=1e-4)


def test_the_stem_looks_at_the_second_of_four_frames(tmp_path):
    torch.manual_seed(0)
    images = randomised(resnet50(weights=None))
    torch.save(images.state_dict(), tmp_path / "plain.pth")
    backbone = build_backbone("r2plus1d_50").eval()
    load_image_weights(backbone, tmp_path / "plain.pth")
    kernel = backbone.conv1.weight.detach()
    assert torch.equal(kernel[:, :, 1], images.conv1.weight)
    assert kernel[:, :, [0, 2, 3]].abs().max() == 0
    assert torch.equal(backbone.layer2[0].conv2_t.weight[:, :, 1, 0, 0], torch.eye(128))


@pytest.mark.parametrize("name", ["i2d", "i3d", "s3d"])
def test_googlenet_goes_into_every_inception(tmp_path, name):
    torch.manual_seed(0)
    images = googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(images.state_dict(), tmp_path / "googlenet.pth")
    backbone = build_backbone(name)
    load_image_weights(backbone, tmp_path / "googlenet.pth")
    block = {"s3d": "features.9.branch2.1.0.0"}.get(name, "mixed_4c.branch_2.1.conv3d")
    kernel = backbone.get_submodule(block).weight.detach()
    assert torch.equal(kernel[:, :, (kernel.shape[2] - 1) // 2], images.inception4b.branch3[1].conv.weight)
    if name == "s3d":
        assert torch.equal(backbone.features[3][1][0].weight[:, :, 1, 0, 0], torch.eye(192))


def test_inception_over_images_computes_what_googlenet_computes(tmp_path):
    """Block by block, on one frame: the paddings of stem and poolings differ (TensorFlow's here)."""
    torch.manual_seed(0)
    images = randomised(googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False))
    torch.save(images.state_dict(), tmp_path / "googlenet.pth")
    backbone = build_backbone("i2d").eval()
    load_image_weights(backbone, tmp_path / "googlenet.pth")
    x = torch.rand(1, 192, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(backbone.mixed_3b(x[:, :, None])[:, :, 0], images.inception3a(x))
        y = torch.rand(1, 832, 6, 6)
        torch.testing.assert_close(backbone.mixed_5c(y[:, :, None])[:, :, 0], images.inception5b(y))


def test_weights_of_the_backbone_itself_load(tmp_path):
    torch.manual_seed(0)
    first, second = build_backbone("r3d_small"), build_backbone("r3d_small")
    save_backbone(first, tmp_path / "backbone.safetensors")
    load_image_weights(second, tmp_path / "backbone.safetensors")
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_wrong_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*none\.pth"):
        load_image_weights(build_backbone("r2d_50"), tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match=r"text.pth is not a file of weights"):
        load_image_weights(build_backbone("r2d_50"), tmp_path / "text.pth")
    images = resnet50(weights=None)
    torch.save(images.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"resnet.pth does not fit i2d; keys \d+ missing: conv3d_1a_7x7"):
        load_image_weights(build_backbone("i2d"), tmp_path / "resnet.pth")
    torch.save(googlenet(weights=None, aux_logits=False, init_weights=False).state_dict(), tmp_path / "inception.pth")
    with pytest.raises(UserError, match=r"inception.pth does not fit r2plus1d_50; keys \d+ missing: conv1.weight"):
        load_image_weights(build_backbone("r2plus1d_50"), tmp_path / "inception.pth")
    state = images.state_dict()
    state["layer1.0.conv2.weight"] = torch.zeros(64, 64, 5, 5)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"layer1.0.conv2.weight \(expected \[64, 64, 1, 3, 3\]"):
        load_image_weights(build_backbone("r2plus1d_50"), tmp_path / "other.pth")
