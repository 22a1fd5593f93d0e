"""Weights by name: a repository as the hub's own client keeps it on disk, and what is uploaded."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("huggingface_hub")
import huggingface_hub
from huggingface_hub import constants

from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.models import build_backbone, load_backbone, push_backbone, save_backbone

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def weights(tmp_path):
    """A file of a small network, and the network."""
    network = build_backbone("r3d_small", widths=(4, 8, 8, 16))
    save_backbone(network, tmp_path / "backbone.safetensors", method="fima", frames="8", size="32")
    return network, tmp_path / "backbone.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def fetched_before(cache, file, revision: str = REVISION) -> None:
    """The cache as it is after a download («Understand caching» of its documentation)."""
    repository = cache / "models--someone--motion"
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "snapshots" / revision / "backbone.safetensors").write_bytes(file.read_bytes())
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)


def same(one, other) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_a_backbone_by_name(weights, cache):
    network, file = weights
    fetched_before(cache, file)
    for name in ("hf:someone/motion", "hf:someone/motion@main", f"hf:someone/motion@{REVISION}"):
        assert same(network, load_backbone(name))
    measured, clip = named_backbone("hf:someone/motion")
    assert same(network, measured)
    assert (clip["frames"], clip["size"]) == (8, 32)


def test_a_folder_is_its_file(weights):
    network, file = weights
    assert same(network, load_backbone(file.parent))


def test_what_cannot_be_fetched_is_said_in_one_line(cache):
    with pytest.raises(UserError, match="backbone: hf:someone/else cannot be fetched: ") as error:
        load_backbone("hf:someone/else")
    assert "\n" not in str(error.value)
    for name in ("hf:motion", "hf:a/b/c", "hf:a/b@"):
        with pytest.raises(UserError, match="must be hf:OWNER/NAME or hf:OWNER/NAME@REVISION"):
            load_backbone(name)


def test_what_is_uploaded_loads_again(weights, cache, monkeypatch):
    """The client's calls go to a folder in place of the hub; what lies there is read by name."""
    network, file = weights
    asked = []

    class Client:
        def create_repo(self, name, *, private, exist_ok):
            asked.append((name, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            fetched_before(cache, Path(folder_path) / "backbone.safetensors")
            asked.append({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return SimpleNamespace(oid=REVISION)

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    revision = push_backbone(file, "someone/motion", license="cc-by-4.0", private=True)
    (created, files) = asked
    assert created == ("someone/motion", True, True)
    assert sorted(files) == ["README.md", "backbone.safetensors", "config.json"]
    assert json.loads(files["config.json"])["backbone"] == "r3d_small"
    assert "crc32" not in json.loads(files["config.json"])  # of the file's own header, which it stays in
    assert b"crc32" not in files["README.md"]
    card = huggingface_hub.ModelCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "motionops"
    assert 'load_backbone("hf:someone/motion")' in card.text
    assert same(network, load_backbone(f"hf:someone/motion@{revision}"))


def test_a_file_that_says_nothing_is_not_uploaded(weights, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="does not say which network it is"):
        push_backbone(tmp_path / "plain.safetensors", "someone/motion", license="mit")
    with pytest.raises(UserError, match="is not a safetensors file"):
        push_backbone(tmp_path / "none.safetensors", "someone/motion", license="mit")
    with pytest.raises(UserError, match="name must be OWNER/NAME, got 'motion'"):
        push_backbone(weights[1], "motion", license="mit")
    damaged = bytearray(weights[1].read_bytes())
    damaged[-2] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    with pytest.raises(UserError, match=r"damaged\.safetensors is damaged: its weights are not those"):
        push_backbone(tmp_path / "damaged.safetensors", "someone/motion", license="mit")
