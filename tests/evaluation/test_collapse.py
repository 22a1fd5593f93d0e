"""A network that gives every video the same feature: nothing crashes, and every protocol says so in one line."""

import json
import re

import pytest
import torch

pytest.importorskip("sklearn")
from motionops.commandline import run_commands
from motionops.commands.evaluate import program
from motionops.evaluation.features.collapse import all_same, collapse_warnings
from motionops.evaluation.pictures import tsne
from motionops.models import build_backbone, save_backbone

FLAGS = ["--clips", "1", "--frames", "4", "--size", "16", "--workers", "0", "--no-cache"]
LINE = r"all features are the same \(48 videos\): the network tells no video from another, it has collapsed"


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
    """BatchNorm's weights are zero, as weight decay leaves them where nothing is learnt."""
    network = build_backbone("r3d_small")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.constant_(module.bias, 0.1)
    file = tmp_path_factory.mktemp("collapsed") / "backbone.safetensors"
    save_backbone(network, file)
    return file


@pytest.mark.parametrize("command", ["retrieval", "linear", "svm", "pictures"])
def test_every_protocol_says_it_and_goes_on(collapsed, tiny_shapes, tmp_path, capsys, command):
    argv = [command, "--backbone", collapsed, "--data", tiny_shapes, "--output", tmp_path, *FLAGS]
    assert run_commands(program.COMMANDS, "Measure.", list(map(str, argv)), "evaluate.py") == 0
    assert len(re.findall(f"^warning: {LINE}$", capsys.readouterr().err, re.MULTILINE)) == 1
    if command == "pictures":
        page = (tmp_path / "report.html").read_text()
        assert re.search(LINE, page)
        assert not (tmp_path / "tsne.png").exists()
    else:
        assert any(re.fullmatch(LINE, line) for line in json.loads((tmp_path / "metrics.json").read_text())["warnings"])


@pytest.mark.parametrize("features", [torch.ones(5, 64), torch.zeros(3, 64), torch.ones(50, 2), torch.ones(7, 1)])
def test_tsne_of_equal_features_does_not_crash(features):
    points = tsne(features)
    assert points.shape == (len(features), 2)
    assert bool(points.isfinite().all())


def test_what_counts_as_the_same():
    base = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    one_off = base.repeat(9, 1)
    one_off[4, 0] += 0.01 * base.norm()
    assert all_same(base.repeat(9, 1) * (1 + 1e-6 * torch.rand(9, 1)))
    assert all_same(torch.zeros(3, 4))
    assert not all_same(one_off)
    assert not all_same(base)  # one video is like itself
    assert collapse_warnings(base.repeat(4, 1), base.repeat(2, 1), what="scores")[0].startswith(
        "all scores are the same (6 videos)"
    )
    assert collapse_warnings(base.repeat(4, 1), 2 * base.repeat(2, 1)) == []
