"""Prepared flow edges: what is stored, resumption, errors, and a training that reads them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from motionops.commandline import run
from motionops.commands import program
from motionops.errors import UserError
from motionops.methods.modist import MoDistConfig
from motionops.motion import EdgesFolder
from motionops.motion.edges_folder import shard_of
from motionops.motion.find_or_prepare import find_or_prepare_edges
from motionops.motion.pair_motion import motion_of_pairs, tvl1_pairs
from motionops.motion.prepare import flow_edges as preparing
from motionops.motion.prepare.flow_edges import FlowEdgesConfig, main
from motionops.video import UnusableVideos, Video, find_videos, moving_shapes, read_list, read_video
from motionops.video.encoding import write_video
from motionops.video.readers.squares import centre_squares
from trainers import modist

# What is prepared in two ways is compared exactly.
pytestmark = pytest.mark.usefixtures("no_gpu")

INTERVAL, SIZE = 3, 24


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=8, test=8, progress=False)


def config(shapes, output, **changes):
    own = {"output": output, "data": shapes, "list": shapes / "train.txt", "size": SIZE, "flow_interval": INTERVAL}
    return FlowEdgesConfig(**{**own, "shards": 3, "workers": 1, **changes})


@pytest.fixture(scope="module")
def prepared(shapes, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "edges"
    assert main(config(shapes, output)) == 0
    return output


def test_maps_and_means_are_those_of_the_video(shapes, prepared):
    folder = EdgesFolder(prepared, SIZE, INTERVAL)
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
    assert "an hour of video" in capsys.readouterr().err
    assert main(config(shapes, tmp_path / "edges", workers=2)) == 0
    assert "3 of 8 videos are done already" in capsys.readouterr().err
    one, two = (EdgesFolder(folder, SIZE, INTERVAL) for folder in (prepared, tmp_path / "edges"))
    for line in (shapes / "train.txt").read_text().splitlines():
        path = str(shapes / line.rsplit(" ", 1)[0])
        assert torch.equal(one.means(path), two.means(path))
        assert torch.equal(one.read(path, torch.arange(5, 20)), two.read(path, torch.arange(5, 20)))


def test_other_settings_and_missing_videos_name_the_command(shapes, tmp_path, prepared):
    with pytest.raises(UserError, match=r"holds no flow edges; python -m motionops prepare flow-edges"):
        EdgesFolder(tmp_path / "none", SIZE, INTERVAL)
    with pytest.raises(UserError, match="was made with size 24, not size 32"):
        EdgesFolder(prepared, 32, INTERVAL)
    with pytest.raises(UserError, match="was made with interval 3, not interval 5"):
        EdgesFolder(prepared, SIZE, 5)
    with pytest.raises(UserError, match="was made with size 24; name another"):
        main(config(shapes, prepared, size=32))
    with pytest.raises(UserError, match="has 3 shards, not --shards 4"):
        main(config(shapes, prepared, shards=4))
    folder = EdgesFolder(prepared, SIZE, INTERVAL)
    with pytest.raises(UserError, match=r"holds no flow edges of .*; python -m .* adds it"):
        folder.require(find_videos(shapes))  # the test videos were not prepared


def test_long_videos_go_piece_by_piece(shapes, monkeypatch):
    path = read_list(shapes / "train.txt")[2].path
    whole = preparing.video_edges(path, SIZE, INTERVAL, tvl1_pairs)
    assert len(whole.means) == len(whole.maps) + INTERVAL == 24
    for frames in (1, 2, 3, 7, 23, 24, 25):
        monkeypatch.setattr(preparing, "FRAMES_AT_ONCE", frames)
        pieces = preparing.video_edges(path, SIZE, INTERVAL, tvl1_pairs)
        assert pieces.maps == whole.maps
        assert np.array_equal(pieces.means, whole.means)


def test_data_that_moved_are_found_by_folder_and_name(shapes, prepared, tmp_path):
    video = Path(read_list(shapes / "train.txt")[0].path)
    elsewhere = tmp_path / "elsewhere" / video.parent.name / video.name
    edges = EdgesFolder(prepared)
    assert (edges.size, edges.interval) == (SIZE, INTERVAL)
    assert torch.equal(edges.means(elsewhere), edges.means(video))


def small_video(path, frames=6):
    picture = np.random.default_rng(frames).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)
    write_video(path, picture)
    return Video(str(path), None)


def test_a_changed_video_is_computed_again_and_refused_until_then(tmp_path):
    videos = [small_video(tmp_path / f"{number}.mp4") for number in range(2)]
    folder, how = tmp_path / "edges", {"size": 16, "interval": 2, "shards": 2, "progress": False}
    preparing.prepare_flow_edges(videos, folder, **how)
    find_or_prepare_edges(folder, videos, 16, 2)
    small_video(tmp_path / "1.mp4", frames=9)
    with pytest.raises(UserError, match=r"--prepared: .*1.mp4 has .* bytes and had .*; python -m .* again"):
        find_or_prepare_edges(folder, videos, 16, 2)
    preparing.prepare_flow_edges(videos, folder, **how)
    edges = find_or_prepare_edges(folder, videos, 16, 2)
    assert len(edges.means(videos[1].path)) == 9
    assert edges.read(videos[1].path, torch.arange(2, 9)).shape == (7, 16, 16)
    small_video(tmp_path / "1.mp4", frames=4)
    preparing.prepare_flow_edges(videos, folder, **how)
    with pytest.raises(UserError, match="has no prepared edges for frame 6"):  # nothing of the earlier state is left
        EdgesFolder(folder, 16, 2).read(videos[1].path, torch.tensor([6]))


def test_videos_that_cannot_be_used(tmp_path, capsys):
    for number in range(10):
        small_video(tmp_path / f"good{number}.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    own = {"data": tmp_path, "size": 16, "flow_interval": 2, "shards": 2, "workers": 1}
    assert main(FlowEdgesConfig(output=tmp_path / "edges", **own)) == 0
    error = capsys.readouterr().err
    assert "broken.mp4: is not a video" in error
    assert "1 of 11 videos were skipped" in error
    with pytest.raises(UnusableVideos, match=r"broken.mp4 cannot be used.*strict"):
        main(FlowEdgesConfig(output=tmp_path / "strict", strict=True, **own))
    small_video(tmp_path / "short.mp4", frames=2)
    with pytest.raises(
        UnusableVideos, match=r"2 of 12 videos cannot be used.*short.mp4: is too short: 2 frames, 3 are"
    ):
        main(FlowEdgesConfig(output=tmp_path / "edges", **own))


def test_a_run_without_a_folder_makes_one_once(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path))
    videos = read_list(shapes / "train.txt")
    first = find_or_prepare_edges(None, videos[:4], SIZE, INTERVAL)
    changed = [shard.file.stat().st_mtime_ns for shard in first.shards]
    again = find_or_prepare_edges(None, videos[:4], SIZE, INTERVAL)
    assert [shard.file.stat().st_mtime_ns for shard in again.shards] == changed
    assert find_or_prepare_edges(None, videos, SIZE, INTERVAL).folder == first.folder
    assert find_or_prepare_edges(None, videos[:1], SIZE, INTERVAL + 1).folder != first.folder


def test_a_training_reads_them(shapes, prepared, tmp_path):
    line = ["--data", shapes, "--list", shapes / "train.txt"]
    line += ["--output", tmp_path / "run", "--flow", "prepared", "--prepared", prepared, "--size", SIZE]
    line += ["--flow-interval", INTERVAL, "--batch-size", 4, "--queue", 16, "--max-steps", 2, "--workers", 1]
    line += ["--log-every", 1]
    for more in ([], ["--no-temporal-jitter", "--gamma", "0", "--overwrite"]):
        assert run(modist.main, MoDistConfig, modist.PRESETS, [*map(str, line), *more]) == 0
    rows = np.genfromtxt(tmp_path / "run" / "metrics.csv", delimiter=",", names=True)
    assert np.isfinite(rows["loss_mv"]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "output"),
        (["--output", "x"], "name the videos with --data or --list"),
        (["--output", "x", "--data", "/no/such/folder"], "/no/such/folder"),
        (["--output", "x", "--data", ".", "--size", "4"], "--size: must be at least 8, got 4"),
        (["--output", "x", "--data", "DATA", "--raft-weights", "w"], "--raft-weights: are of --flow raft, not of tvl1"),
        (["--output", "x", "--data", "DATA", "--list-columns", "path"], "--list-columns: there is no --list"),
        (
            ["--output", "x", "--data", "DATA", "--flow", "raft", "--size", "64"],
            "--flow raft: --size must be a multiple",
        ),
    ],
)
def test_wrong_flags(tmp_path, shapes, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    flags = [str(shapes) if flag == "DATA" else flag for flag in flags]
    assert program.main(["prepare", "flow-edges", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
