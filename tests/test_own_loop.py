"""The page "Your own loop" is a script that runs, is resumed, and shares its batches between processes."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

pytest.importorskip("av")
pytest.importorskip("torchvision")
import motionops
from motionops.models import ProjectionHead, build_backbone
from motionops.video import moving_shapes
from tests.several_ranks import on_ranks

ROOT = Path(__file__).parent.parent
PAGE, README = ROOT / "docs" / "own_loop.md", ROOT / "README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The script of the page, and a few videos."""
    folder = tmp_path_factory.mktemp("own_loop")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (folder / "own_loop.py").write_text("\n\n".join(blocks))
    moving_shapes.generate(folder / "shapes", train=16, test=8, workers=1, progress=False)
    return folder


def run(folder: Path, output: str, *flags: str) -> list[str]:
    """What the script prints, its first line aside."""
    argv, sys.argv = sys.argv, ["own_loop.py", "--data", str(folder / "shapes"), "--out", str(folder / output)]
    sys.argv += ["--backbone", "r3d_small", "--size", "32", "--steps", "3", *flags]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(folder / "own_loop.py"), run_name="__main__")
    finally:
        sys.argv = argv
    skipped, *lines = printed.getvalue().splitlines() or ["skipped []"]
    assert skipped == "skipped []"
    return lines


def test_a_run_that_was_cut_gives_the_same(folder):
    whole = run(folder, "whole")
    assert [line.split()[:2] for line in whole[:3]] == [["step", str(step)] for step in (1, 2, 3)]
    assert whole[3].startswith("kNN ")
    first = run(folder, "cut", "--stop", "2")
    assert first[:2] == whole[:2]
    assert run(folder, "cut", "--resume") == whole[2:]


def share(rank: int, folder: str) -> list[str]:
    torch.set_num_threads(1)
    return run(Path(folder), "two", "--bf16")


def test_two_processes_in_bfloat16(folder):
    """They share each batch: their queue holds, of 3 steps of 4 videos, the keys of all."""
    first, second = on_ranks(share, folder, str(folder))
    assert [line.split()[0] for line in first] == ["step", "step", "step", "kNN"]
    assert second == []
    ids = torch.load(folder / "two" / "last.pt")["queue"]["ids"]
    assert len(set(ids[:12].tolist())) == 12  # 16 videos, an epoch of 4 steps
    assert (ids[12:] == -1).all()


def test_the_lines_of_the_readme(folder, monkeypatch):
    """With fewer and smaller clips than they say."""
    monkeypatch.chdir(folder / "shapes")
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    small = {"64": "8", "32": "4", "112": "32", "1000": "2"}
    loop = re.sub(r"\b(64|32|112|1000)\b", lambda number: small[number[0]], blocks[1])
    backbone = build_backbone("r3d_small")
    head = ProjectionHead(backbone.channels, 16, 128)
    names = {
        "motionops": motionops,
        "network": nn.Sequential(backbone, nn.AdaptiveAvgPool3d(1), nn.Flatten(), head),
        "queue": motionops.FeatureQueue(16, 128),
        "DataLoader": DataLoader,
        **{name: getattr(motionops, name) for name in ("KINETICS_MEAN", "KINETICS_STD")},
    }
    exec(loop, names)
    names["loss"].backward()
    assert head.second.weight.grad.abs().max() > 0
