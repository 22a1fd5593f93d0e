"""Exported weights load into modules that other libraries' names are written out in, and compute the same."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import relu
from torchvision.models.video import r3d_18, s3d

from motionops.commandline import run
from motionops.errors import UserError
from motionops.models import build_backbone, save_backbone
from motionops.models.export import ExportConfig, export_state, main

STAGES = ((64, 256, 3, 1, 1), (256, 512, 4, 2, 1), (512, 1024, 6, 2, 3), (1024, 2048, 3, 2, 3))


def conv(inputs, outputs, kernel, stride=1):
    padding = tuple(size // 2 for size in kernel)
    return nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), padding, bias=False)


class Block(nn.Module):
    """A block whose layers lie at paths of the library's; `names` says where."""

    def __init__(self, inputs, outputs, stride, time, names):
        super().__init__()
        inner, self.names = outputs // 4, names
        layers = [
            conv(inputs, inner, (time, 1, 1)),
            conv(inner, inner, (1, 3, 3), stride),
            conv(inner, outputs, (1,) * 3),
        ]
        for (convolution, norm), layer in zip(names["main"], layers, strict=True):
            put(self, convolution, layer)
            put(self, norm, nn.BatchNorm3d(layer.out_channels))
        self.projects = inputs != outputs
        if self.projects:
            put(self, names["shortcut"][0], conv(inputs, outputs, (1, 1, 1), stride))
            put(self, names["shortcut"][1], nn.BatchNorm3d(outputs))

    def forward(self, x):
        get = self.get_submodule
        y = x
        for place, (convolution, norm) in enumerate(self.names["main"]):
            y = get(norm)(get(convolution)(y))
            y = relu(y) if place < 2 else y
        if self.projects:
            convolution, norm = self.names["shortcut"]
            x = get(norm)(get(convolution)(x))
        return relu(x + y)


def put(module, path, child):
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in module._modules:
            module.add_module(parent, nn.Module())
        module = module._modules[parent]
    module.add_module(name, child)


LIBRARIES = {
    "slowfast": {
        "stem": ("s1.pathway0_stem.conv", "s1.pathway0_stem.bn"),
        "block": lambda stage, block: f"s{stage + 2}.pathway0_res{block}",
        "main": [(f"branch2.{letter}", f"branch2.{letter}_bn") for letter in "abc"],
        "shortcut": ("branch1", "branch1_bn"),
    },
    "mmaction2": {
        "stem": ("backbone.conv1.conv", "backbone.conv1.bn"),
        "block": lambda stage, block: f"backbone.layer{stage + 1}.{block}",
        "main": [(f"conv{number}.conv", f"conv{number}.bn") for number in (1, 2, 3)],
        "shortcut": ("downsample.conv", "downsample.bn"),
    },
    "pytorchvideo": {
        "stem": ("blocks.0.conv", "blocks.0.norm"),
        "block": lambda stage, block: f"blocks.{stage + 1}.res_blocks.{block}",
        "main": [(f"branch2.conv_{letter}", f"branch2.norm_{letter}") for letter in "abc"],
        "shortcut": ("branch1_conv", "branch1_norm"),
    },
}


class Theirs(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.names, self.order = names, []
        put(self, names["stem"][0], conv(3, 64, (5, 7, 7), 2))
        put(self, names["stem"][1], nn.BatchNorm3d(64))
        for stage, (inputs, outputs, blocks, stride, time) in enumerate(STAGES):
            for block in range(blocks):
                path = names["block"](stage, block)
                put(self, path, Block(outputs if block else inputs, outputs, 1 if block else stride, time, names))
                self.order.append(path)

    def forward(self, x):
        convolution, norm = self.names["stem"]
        x = relu(self.get_submodule(norm)(self.get_submodule(convolution)(x)))
        x = nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for path in self.order:
            x = self.get_submodule(path)(x)
        return x


@pytest.fixture(scope="module")
def slow():
    torch.manual_seed(0)
    return build_backbone("slow_r50").eval()


def test_pytorchvideo_loads_the_file_and_computes_the_same():
    """The library itself, every key; statistics as after a training, so that no norm is the identity."""
    create_resnet = pytest.importorskip("pytorchvideo.models.resnet").create_resnet
    torch.manual_seed(0)
    backbone = build_backbone("slow_r50").eval()
    for norm in (module for module in backbone.modules() if isinstance(module, nn.BatchNorm3d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    network = create_resnet(model_depth=50, stem_conv_kernel_size=(5, 7, 7), head=None).eval()
    network.load_state_dict(export_state(backbone, "pytorchvideo"), strict=True)
    clip = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(clip), backbone(clip))


@pytest.mark.parametrize("library", LIBRARIES)
def test_slow_only_loads_strictly_and_computes_the_same(slow, library):
    theirs = Theirs(LIBRARIES[library]).eval()
    theirs.load_state_dict(export_state(slow, library))
    clip = torch.rand(1, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(clip), slow(clip))


def test_the_detector_of_mmaction2_has_every_key_and_shape(slow):
    """Its file: the state of `ResNet3dSlowOnly` of mmaction2 1.2.0 with conv1_kernel (5, 7, 7), as that code made it.
    docs/detection/modist_ava_mmaction2.py puts it behind a detector, as `backbone`."""
    lines = (Path(__file__).parent / "mmaction2_slowonly.txt").read_text().splitlines()
    theirs = {f"backbone.{key}": [int(size) for size in sizes] for key, *sizes in map(str.split, lines)}
    ours = {key: list(value.shape) for key, value in export_state(slow, "mmaction2").items()}
    assert len(theirs) == 318
    assert ours == theirs


def test_torchvision_takes_r3d_18():
    torch.manual_seed(0)
    ours, theirs = build_backbone("r3d_18").eval(), r3d_18(weights=None).eval()
    missing, unknown = theirs.load_state_dict(export_state(ours, "torchvision"), strict=False)
    assert missing == ["fc.weight", "fc.bias"]
    assert not unknown
    theirs.fc = nn.Identity()
    clip = torch.rand(1, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(clip).mean(dim=(2, 3, 4)), theirs(clip))


def test_torchvision_takes_s3d():
    missing, unknown = s3d(weights=None).load_state_dict(
        export_state(build_backbone("s3d"), "torchvision"), strict=False
    )
    assert {key.partition(".")[0] for key in missing} == {"classifier"}
    assert not unknown


def test_a_network_that_a_library_lacks():
    with pytest.raises(UserError, match="torchvision has r3d_18, r2plus1d_18, s3d of these networks, and no r3d_small"):
        export_state(build_backbone("r3d_small"), "torchvision")
    with pytest.raises(UserError, match="--to slowfast: slowfast has slow_r50 of these networks, and no r3d_small"):
        export_state(build_backbone("r3d_small"), "slowfast")
    with pytest.raises(ValueError, match="export_state: to must be one of"):
        export_state(build_backbone("r3d_small"), "keras")


@pytest.mark.parametrize(("library", "key"), [("slowfast", "model_state"), ("mmaction2", "state_dict")])
def test_files_are_as_the_libraries_read_them(slow, tmp_path, library, key):
    save_backbone(slow, tmp_path / "backbone.safetensors")
    assert main(ExportConfig(library, tmp_path / "backbone.safetensors", tmp_path / "out.pth")) == 0
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert content.keys() == {key}
    assert content[key].keys() == export_state(slow, library).keys()


def test_the_command_line(tmp_path, capsys):
    save_backbone(build_backbone("r3d_18"), tmp_path / "backbone.safetensors")
    command = [sys.executable, "-m", "motionops.models.export", "--to", "torchvision"]
    command += ["--backbone", str(tmp_path / "backbone.safetensors"), "--output", str(tmp_path / "out.pth")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "stem.0.weight" in torch.load(tmp_path / "out.pth", weights_only=True)
    assert run(main, ExportConfig, argv=[*command[3:-1], str(tmp_path / "none" / "out.pth")]) == 2
    assert capsys.readouterr().err.startswith("error: --output: there is no folder")
