"""Every way to name a backbone gives the network that it names, with its weights, or one line that says why not."""

import re

import pytest
import torch

pytest.importorskip("torchvision")
pytest.importorskip("safetensors")
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from motionops.errors import UserError
from motionops.evaluation import extract_features
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.models import BACKBONES, build_backbone, load_backbone, save_backbone
from motionops.views.clip_settings import KEPT


def small():
    torch.manual_seed(5)
    return build_backbone("r3d_small")


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_clips_are_those_that_the_file_was_made_for(tmp_path, counting_videos):
    recipe = ClipRecipe(frames=4, stride=1, size=24, crop=0.5, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    save_backbone(small(), tmp_path / "backbone.safetensors", **recipe.header())
    backbone = load_backbone(tmp_path / "backbone.safetensors")
    expected = extract_features(small(), counting_videos, clips=2, **recipe.settings(*KEPT))
    assert torch.equal(extract_features(backbone, counting_videos, clips=2), expected)
    # an argument goes before the file, a file that says nothing leaves the defaults
    larger = extract_features(backbone, counting_videos, clips=2, size=32)
    settings = {**backbone.clip_settings, "size": 32}
    assert torch.equal(larger, extract_features(small(), counting_videos, clips=2, **settings))
    assert not torch.equal(larger, expected)
    torch.save(small().state_dict(), tmp_path / "weights.pt")
    assert load_backbone(tmp_path / "weights.pt", "r3d_small").clip_settings == {}


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


@pytest.mark.parametrize(
    "said",
    [
        {"frames": "x"}, {"frames": "-5"}, {"frames": "true"}, {"frames": "2.5"}, {"size": "999999999"},
        {"size": "1e9"}, {"stride": "0"}, {"mean": "nonsense"}, {"mean": "[1]"}, {"mean": "[NaN, 0, 0]"},
        {"std": "[0, 0, 0]"},
        {"std": '["a", "b", "c"]'}, {"crop": "NaN"}, {"crop": "0"}, {"crop": "[1]"}, {"kwargs": "[]"},
        {"kwargs": "nonsense"}, {"kwargs": '{"width": 1}'}, {"kwargs": '{"widths": 3}'},
    ],
    ids=str,
)  # fmt: skip
def test_a_header_that_says_what_cannot_be_is_one_line(tmp_path, said):
    file = tmp_path / "backbone.safetensors"
    save_backbone(small(), file, frames="4", std="[1, 1, 1]")
    (name,) = said
    with safe_open(file, framework="pt") as held:
        header = {**held.metadata(), **said}
    save_file(load_file(file), file, metadata=header)
    for named in (str(file), f"random:{file}"):
        with pytest.raises(UserError, match=f"{re.escape(str(file))} says .*{name}") as error:
            named_backbone(named)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("note", "line"),
    [
        ([], "does not say which network it is"),
        ({"config": []}, "does not say which network it is"),
        ({"config": {"backbone": []}}, "does not say which network it is"),
        ({"config": {"backbone": "r3d_small"}, "backbone": []}, "does not say which network it is"),
        ({"config": {"backbone": "r3d_small", "frames": "8"}}, "says frames '8'; it must be a whole number"),
        ({"config": {"backbone": "r3d_small", "std": [0, 1, 1]}}, "says std .*; it must be three positive numbers"),
    ],
)
def test_an_odd_note_of_a_checkpoint_is_one_line(tmp_path, note, line):
    file = tmp_path / "last.ckpt"
    state = {f"backbone.{name}": value for name, value in build_backbone("r3d_small").state_dict().items()}
    torch.save({"state_dict": state, "motionops": note}, file)
    with pytest.raises(UserError, match=line):
        named_backbone(str(file))


def test_a_damaged_checkpoint_is_no_backbone(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(build_backbone("r3d_small").state_dict(), file)
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 4
    file.write_bytes(held)
    with pytest.raises(UserError, match=r"weights.pth is damaged \(the check sum of weights/data/\d+ is another one\)"):
        named_backbone(f"r3d_small:{file}")
