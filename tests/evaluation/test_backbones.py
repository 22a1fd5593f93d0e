"""Every way to name a backbone gives the network that it names, with its weights, or one line that says why not."""

import re

import pytest
import torch

pytest.importorskip("torchvision")
pytest.importorskip("safetensors")
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.models import BACKBONES, build_backbone


def small():
    torch.manual_seed(5)
    return build_backbone("r3d_small")


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder_q."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_plain_state_dicts(tmp_path, prefix, wrapped):
    network = small()
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    state |= {f"{prefix}fc.weight": torch.ones(2, 2), "queue": torch.ones(3)}
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "weights.pth")
    backbone, clip = named_backbone(f"r3d_small:{tmp_path / 'weights.pth'}")
    assert same(backbone, network)
    assert clip == {"frames": 8, "stride": 2, "size": 32}


def test_the_momentum_copy_is_not_taken(tmp_path):
    network, other = small(), build_backbone("r3d_small")
    state = {f"encoder_k.{key}": value for key, value in other.state_dict().items()}
    state |= {f"encoder_q.{key}": value for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    assert same(named_backbone(f"r3d_small:{tmp_path / 'weights.pth'}")[0], network)


def test_a_trainers_checkpoint(tmp_path):
    network = small()
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    state |= {f"key_backbone.network.{key}": value * 0 for key, value in network.state_dict().items()}
    config = {"backbone": "r3d_small", "frames": 6, "stride": 3, "size": 24, "evaluation_crop": 1.0}
    config |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    torch.save({"state_dict": state, "motionops": {"config": config}}, tmp_path / "last.ckpt")
    backbone, clip = named_backbone(str(tmp_path / "last.ckpt"))
    assert same(backbone, network)
    assert clip == {
        "frames": 6, "stride": 3, "size": 24, "crop": 1.0, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6),
    }  # fmt: skip


def test_torchvisions_shape_untrained():
    first, clip = named_backbone("random:torchvision:r3d_18", seed=1)
    assert same(first, named_backbone("random:torchvision:r3d_18", seed=1)[0])
    assert not same(first, named_backbone("random:torchvision:r3d_18", seed=2)[0])
    assert clip["size"] == 112


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_network_has_a_clip(name):
    _, clip = named_backbone(f"random:{name}")
    assert set(clip) == {"frames", "stride", "size"}


def test_what_does_not_fit_is_said(tmp_path):
    torch.save({"state_dict": small().state_dict()}, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="does not say which network it is; name it: NAME:"):
        named_backbone(str(tmp_path / "foreign.ckpt"))
    torch.save({"state_dict": {"layer1.weight": torch.ones(2)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not fit r3d_small"):
        named_backbone(f"r3d_small:{tmp_path / 'other.pth'}")
    deeper = {**small().state_dict(), "layer1.9.weight": torch.ones(2)}
    torch.save(deeper, tmp_path / "deeper.pth")
    with pytest.raises(UserError, match=re.escape("1 unknown: layer1.9.weight")):
        named_backbone(f"r3d_small:{tmp_path / 'deeper.pth'}")
    with pytest.raises(UserError, match="there is no file"):
        named_backbone(str(tmp_path / "nothing.ckpt"))
    with pytest.raises(UserError, match="i3d alone has no weights; i3d:FILE loads some, random:i3d is untrained"):
        named_backbone("i3d")
