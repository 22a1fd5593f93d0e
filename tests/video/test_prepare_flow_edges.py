"""Prepared flow edges: what is stored, resumption, errors, and a training that reads them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from motionops.errors import UserError
from motionops.learning.motion_input import centre_squares, motion_of_pairs, tvl1_pairs
from motionops.video import find_videos, moving_shapes, read_video
from motionops.video.prepare.flow_edges import FlowEdgesConfig, FlowEdgesFolder, main, shard_of

ROOT = Path(__file__).parents[2]
INTERVAL, SIZE = 3, 24


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=8, test=8, progress=False)


def config(shapes, output, **changes):
    own = {"output": output, "data": shapes, "list": shapes / "train.txt", "size": SIZE, "flow_interval": INTERVAL}
    return FlowEdgesConfig(**{**own, "shards": 3, "workers": 0, **changes})


@pytest.fixture(scope="module")
def prepared(shapes, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "edges"
    assert main(config(shapes, output)) == 0
    return output


def test_maps_and_means_are_those_of_the_video(shapes, prepared):
    folder = FlowEdgesFolder(prepared, SIZE, INTERVAL, shapes)
    lines = (shapes / "train.txt").read_text().splitlines()
    path = shapes / lines[0].rsplit(" ", 1)[0]
    squares = centre_squares(read_video(path)[None], SIZE)[0]
    pairs = torch.stack([squares[:-INTERVAL], squares[INTERVAL:]], dim=1)
    edges = motion_of_pairs(pairs[None], "flow-edges", tvl1_pairs)[0, 0]
    means = folder.means(str(path))
    assert len(means) == len(squares)
    torch.testing.assert_close(means[INTERVAL:], edges.mean(dim=(1, 2)), rtol=1e-5, atol=1e-6)
    assert means[:INTERVAL].tolist() == [0.0] * INTERVAL
    frames = torch.tensor([[5, 3, 9], [5, 10, 20]])
    stored = folder.read(str(path), frames)
    assert stored.shape == (2, 3, SIZE, SIZE)
    assert stored.dtype == torch.uint8
    assert (stored.float() * (10 / 255) - edges[frames - INTERVAL]).abs().max() <= 5.1 / 255


def test_videos_are_spread_over_shards_by_name(prepared):
    assert len(list(prepared.glob("edges-*.sqlite"))) == 3
    assert {shard_of(f"video {number}", 3) for number in range(50)} == {0, 1, 2}


def test_a_run_goes_on_where_it_was_and_processes_change_nothing(shapes, tmp_path, prepared, capsys):
    part = tmp_path / "part.txt"
    part.write_text("\n".join((shapes / "train.txt").read_text().splitlines()[:3]))
    assert main(config(shapes, tmp_path / "edges", list=part)) == 0
    assert "an hour of video" in capsys.readouterr().out
    assert main(config(shapes, tmp_path / "edges", workers=2)) == 0
    assert "3 of 8 videos are done already" in capsys.readouterr().err
    one, two = (FlowEdgesFolder(folder, SIZE, INTERVAL, shapes) for folder in (prepared, tmp_path / "edges"))
    for line in (shapes / "train.txt").read_text().splitlines():
        path = str(shapes / line.rsplit(" ", 1)[0])
        assert torch.equal(one.means(path), two.means(path))
        assert torch.equal(one.read(path, torch.arange(5, 20)), two.read(path, torch.arange(5, 20)))


def test_other_settings_and_missing_videos_name_the_command(shapes, tmp_path, prepared):
    with pytest.raises(UserError, match=r"holds no flow edges; python -m motionops.video.prepare flow-edges"):
        FlowEdgesFolder(tmp_path / "none", SIZE, INTERVAL, shapes)
    with pytest.raises(UserError, match="was made with size 24, not size 32"):
        FlowEdgesFolder(prepared, 32, INTERVAL, shapes)
    with pytest.raises(UserError, match="was made with interval 3, not interval 5"):
        FlowEdgesFolder(prepared, SIZE, 5, shapes)
    with pytest.raises(UserError, match="was made with size 24, not 32"):
        main(config(shapes, prepared, size=32))
    with pytest.raises(UserError, match="has 3 shards, not --shards 4"):
        main(config(shapes, prepared, shards=4))
    folder = FlowEdgesFolder(prepared, SIZE, INTERVAL, shapes)
    with pytest.raises(UserError, match=r"has no edges of .*; python -m"):
        folder.require(find_videos(shapes))  # the test videos were not prepared


def test_a_broken_video_is_skipped_and_named(tmp_path, shapes, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    listing = tmp_path / "list.txt"
    listing.write_text(f"{broken} 0\n")
    assert main(config(shapes, tmp_path / "edges", list=listing)) == 0
    out = capsys.readouterr()
    assert f"skipped {broken}" in out.err
    assert "1 videos were skipped" in out.out


def test_a_training_reads_them(shapes, prepared, tmp_path):
    command = [sys.executable, str(ROOT / "trainers" / "modist.py"), "--data", shapes, "--list", shapes / "train.txt"]
    command += ["--output", tmp_path / "run", "--flow", "prepared", "--prepared", prepared, "--size", SIZE]
    command += ["--flow-interval", INTERVAL, "--batch-size", 4, "--queue", 16, "--max-steps", 2, "--workers", 1]
    command += ["--log-every", 1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for more in ([], ["--no-temporal-jitter", "--gamma", "0"]):
        done = subprocess.run([*map(str, command), *more], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    rows = np.genfromtxt(tmp_path / "run" / "metrics.csv", delimiter=",", names=True)
    assert np.isfinite(rows["loss_mv"]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "output"),
        (["--output", "x"], "name the videos with --data or --list"),
        (["--output", "x", "--data", "/no/such/folder"], "/no/such/folder"),
        (["--output", "x", "--data", ".", "--size", "4"], "--size: must be at least 8, got 4"),
        (["--output", "x", "--data", ".", "--flow", "raft", "--size", "64"], "--flow raft: --size must be a multiple"),
    ],
)
def test_wrong_flags(tmp_path, flags, message):
    command = [sys.executable, "-m", "motionops.video.prepare", "flow-edges", *flags]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
