"""Prepared motion: what is stored, what is found, continuing after a cut, and other people's files."""

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import motionops
from motionops.commands import program
from motionops.errors import UserError
from motionops.flow.clip_flow import clip_flow
from motionops.motion import MotionFile
from motionops.motion.find_or_prepare import find_or_prepare
from motionops.motion.motion_file import MotionWriter
from motionops.motion.prepare import motion as preparing
from motionops.video import Video, moving_shapes, read_list, read_video
from motionops.video.checking import UnusableVideos
from motionops.video.encoding import write_video

# What is prepared in two ways is compared exactly.
pytestmark = pytest.mark.usefixtures("no_gpu")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=8, test=8, progress=False)


@pytest.fixture(scope="module")
def prepared(shapes, tmp_path_factory):
    """The motion of the training videos, whole pixels."""
    path = tmp_path_factory.mktemp("motion") / "shapes.sqlite"
    config = preparing.MotionConfig(output=path, list=shapes / "train.txt", cells=40, workers=2)
    assert preparing.main(config) == 0
    return path


def test_maps_are_those_of_the_frames(shapes, prepared):
    video = read_list(shapes / "train.txt")[3]
    motion = MotionFile(prepared).read(video.path)
    expected = motionops.motion_map(clip_flow(read_video(video.path)[None]))[0]
    assert motion.shape == expected.shape
    assert motion.dtype == torch.float32
    # The square root is stored in steps of 1/255 of the largest.
    largest = float(expected.max())
    torch.testing.assert_close(motion.div(largest).sqrt(), expected.div(largest).sqrt(), atol=0.003, rtol=0)
    means = MotionFile(prepared).means(video.path)
    torch.testing.assert_close(means, motion.flatten(1).sum(dim=1) / motion[0].numel())


def test_coarse_maps_are_means_and_long_videos_go_piece_by_piece(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (24, 48, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    frames = np.stack([np.roll(picture, t % 5, axis=1) for t in range(preparing.FRAMES_AT_ONCE + 1)])
    write_video(tmp_path / "long.mp4", frames)
    whole = preparing.video_motion(str(tmp_path / "long.mp4"), 96, 0)
    flow = clip_flow(read_video(tmp_path / "long.mp4")[None])
    torch.testing.assert_close(whole, motionops.motion_map(flow)[0])
    coarse = preparing.video_motion(str(tmp_path / "long.mp4"), 16, 0)
    assert coarse.shape == (65, 8, 16)
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(whole, 6))
    assert preparing.video_motion(str(tmp_path / "long.mp4"), 32, 48).shape == (65, 16, 32)
    for length in (1, 13, 64, 65, 66):
        monkeypatch.setattr(preparing, "FRAMES_AT_ONCE", length)
        assert torch.equal(preparing.video_motion(str(tmp_path / "long.mp4"), 96, 0), whole)


def test_a_video_of_one_frame_has_no_motion(tmp_path):
    write_video(tmp_path / "one.mp4", np.full((1, 4, 32, 3), 7, dtype=np.uint8))
    assert not preparing.video_motion(str(tmp_path / "one.mp4"), 32, 96).any()


def test_what_is_missing_names_the_command(shapes, prepared, tmp_path):
    with pytest.raises(UserError, match=r"no motion file .*none; python -m motionops prepare motion .*none makes"):
        MotionFile(tmp_path / "none")
    other = read_list(shapes / "test.txt")[0]
    with pytest.raises(UserError, match=r"holds no motion of .*; python -m motionops prepare motion .* adds it"):
        MotionFile(prepared).read(other.path)
    with pytest.raises(UserError, match=r"--motion-file: .*holds no motion of"):
        find_or_prepare(prepared, [other])
    (tmp_path / "text").write_text("no data base, but long enough to be read as one" * 20)
    with pytest.raises(UserError, match="is not a motion file"):
        MotionFile(tmp_path / "text")
    with pytest.raises(UserError, match=r"--output: .*text"):
        MotionWriter(tmp_path / "text", {})


def test_data_that_moved_are_found_by_folder_and_name(shapes, prepared, tmp_path):
    video = Path(read_list(shapes / "train.txt")[0].path)
    elsewhere = tmp_path / "elsewhere" / video.parent.name / video.name
    motion = MotionFile(prepared)
    assert torch.equal(motion.read(elsewhere), motion.read(video))


def test_a_set_is_looked_up_at_one_look_a_video_and_under_one_lock(tmp_path, monkeypatch):
    """Sets have hundreds of thousands of videos, and disks of networks answer each question in milliseconds."""
    (tmp_path / "below" / "a").mkdir(parents=True)
    videos = [Video(str(tmp_path / "below" / "a" / f"{number}.mp4"), None, 2) for number in range(40)]
    videos.append(Video(str(tmp_path / "link.mp4"), None, 2))
    for video in videos[:-1]:
        Path(video.path).write_bytes(b"1234")
    Path(videos[-1].path).symlink_to("below/a/7.mp4")
    writer = MotionWriter(tmp_path / "motion.sqlite", {})
    for video in videos[:-1]:
        writer.write(video.path, torch.zeros(2, 1, 1))
    looks, said = [], []
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, **k: looks.append(a) or real(*a, **k))
    held = MotionFile(tmp_path / "motion.sqlite")
    held.connection().set_trace_callback(said.append)
    depth = len(tmp_path.parts)
    for ask in (held.require, writer.missing):
        looks.clear()
        ask(videos)
        assert len(looks) <= len(videos) + 6 * depth
    assert [line.split()[0] for line in said] == ["BEGIN", *["SELECT"] * len(videos), "ROLLBACK"]
    assert writer.missing([*videos, Video(str(tmp_path / "gone.mp4"))]) == [Video(str(tmp_path / "gone.mp4"))]
    Path(videos[3].path).write_bytes(b"12345")
    with pytest.raises(UserError, match=r"3\.mp4 has 5 bytes and had 4 bytes"):
        held.require(videos)
    assert writer.missing(videos) == [videos[3]]


def test_it_goes_into_workers(shapes, prepared):
    motion, path = MotionFile(prepared), read_list(shapes / "train.txt")[0].path
    first = motion.read(path)
    assert torch.equal(pickle.loads(pickle.dumps(motion)).read(path), first)
    child = os.fork()
    if child == 0:  # in NumPy: torch's threads do not live through a fork
        os._exit(0 if np.array_equal(motion.read(path).numpy(), first.numpy()) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_killed_run_is_continued(shapes, tmp_path, capsys):
    output = tmp_path / "motion.sqlite"
    line = [sys.executable, "-m", "motionops", "prepare", "motion", "--list", str(shapes / "train.txt")]
    line += ["--output", str(output), "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL)

    def done():
        with sqlite3.connect(output) as connection:
            return connection.execute("SELECT COUNT(*) FROM videos").fetchone()[0]

    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            if output.exists() and done():
                break
        except sqlite3.OperationalError:
            pass  # not made yet
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    before = done()
    assert 1 <= before < 8
    assert program.main(line[3:]) == 0
    assert "MiB an hour of video" in capsys.readouterr().err
    assert done() == 8
    MotionFile(output).require(read_list(shapes / "train.txt"))


def test_other_settings_are_refused(shapes, prepared, tmp_path):
    config = preparing.MotionConfig(output=prepared, list=shapes / "train.txt", cells=8)
    with pytest.raises(UserError, match="was made with cells 40"):
        preparing.main(config)
    with sqlite3.connect(tmp_path / "earlier") as connection:
        connection.execute("CREATE TABLE settings (one INTEGER PRIMARY KEY, value TEXT)")
        connection.execute("CREATE TABLE videos (path TEXT PRIMARY KEY, tail TEXT, shape TEXT, scale REAL, maps BLOB)")
    with pytest.raises(UserError, match="is not a motion file"):
        MotionFile(tmp_path / "earlier")
    with pytest.raises(UserError, match=r"--output: .*earlier"):
        MotionWriter(tmp_path / "earlier", {})


def small_video(path, frames=3, value=7):
    write_video(path, np.full((frames, 16, 16, 3), value, dtype=np.uint8))
    return Video(str(path), None)


def test_broken_videos_are_skipped_up_to_a_tenth(tmp_path, capsys):
    for number in range(10):
        small_video(tmp_path / f"good{number}.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    config = preparing.MotionConfig(output=tmp_path / "motion.sqlite", data=tmp_path, workers=2)
    assert preparing.main(config) == 0
    error = capsys.readouterr().err
    assert "broken.mp4: is not a video" in error
    assert "1 of 11 videos were skipped" in error
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(
        UnusableVideos, match=r"2 of 12 videos cannot be used, at most 10%.*broken.*; .*empty"
    ) as raised:
        preparing.main(config)
    assert len(raised.value.skipped) == 2


def test_strict_stops_at_the_first_broken_video(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = [Video(str(tmp_path / "broken.mp4"), None)] + [small_video(tmp_path / f"{n}.mp4") for n in range(12)]
    with pytest.raises(UnusableVideos, match=r"broken.mp4 cannot be used.*strict"):
        preparing.prepare_motion(videos, tmp_path / "motion.sqlite", workers=1, strict=True, progress=False)
    assert len(MotionWriter(tmp_path / "motion.sqlite", {"cells": 32, "side": 96}).missing(videos)) > 10


def test_a_changed_video_is_computed_again_and_refused_until_then(tmp_path):
    videos = [small_video(tmp_path / f"{n}.mp4") for n in range(2)]
    output = tmp_path / "motion.sqlite"
    preparing.prepare_motion(videos, output, progress=False)
    changed, other = videos
    os.utime(other.path, ns=(0, 5))  # a copy of the data: the same file for a training
    find_or_prepare(output, videos)
    small_video(changed.path, frames=9)
    with pytest.raises(UserError, match=r"--motion-file: .*0.mp4 has .* bytes and had .*; python -m .* again"):
        find_or_prepare(output, videos)
    assert MotionWriter(output, {"cells": 32, "side": 96}).missing(videos) == videos
    preparing.prepare_motion(videos, output, progress=False)
    assert MotionWriter(output, {"cells": 32, "side": 96}).missing(videos) == []
    assert len(find_or_prepare(output, videos).read(changed.path)) == 9
    with pytest.raises(UserError, match="has 8 frames and had 9 frames"):
        find_or_prepare(output, [Video(changed.path, None, 8)])


def test_a_run_without_a_file_makes_one_once(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path))
    videos = read_list(shapes / "train.txt")
    first = find_or_prepare(None, videos[:4])
    changed = first.file.stat().st_mtime_ns
    assert find_or_prepare(None, videos[:4]).file.stat().st_mtime_ns == changed
    shrunk = find_or_prepare(None, videos[:1], 20).read(videos[0].path)
    torch.testing.assert_close(shrunk, preparing.video_motion(videos[0].path, 32, 20), rtol=0.01, atol=0.001)
    assert shrunk.shape != first.read(videos[0].path).shape
    both = find_or_prepare(None, videos)
    assert both.file == first.file
    assert both.read(videos[7].path).ndim == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"cells": 0}, "--cells: must be at least 1"), ({"side": -1}, "--side"), ({}, "--data or --list")],
)
def test_wrong_flags(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        preparing.main(preparing.MotionConfig(output=tmp_path / "x", **changes))


@pytest.fixture
def small(tmp_path):
    """A motion file of two videos, and what it holds of them."""
    videos, file = [tmp_path / f"{name}.mp4" for name in "ab"], tmp_path / "small.sqlite"
    maps = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    writer = MotionWriter(file, {})
    for video, own in zip(videos, maps, strict=True):
        video.write_bytes(b"x" * 40)
        writer.write(video, own)
    writer.close()
    return file, videos, [MotionFile(file).read(video) for video in videos]


@pytest.mark.parametrize("times", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_one_line_or_right(small, times):
    """Random bytes, as a disk that fails leaves them: never a traceback, never other maps."""
    file, videos, expected = small
    held, random = file.read_bytes(), np.random.default_rng(0)
    refused = []
    for _ in range(times):
        spoiled = bytearray(held)
        for place in random.integers(0, len(held), random.integers(1, 9)):
            spoiled[place] = random.integers(256)
        file.write_bytes(spoiled)
        for video, maps in zip(videos, expected, strict=True):
            try:
                assert torch.equal(MotionFile(file).read(video), maps)
            except UserError as error:
                refused.append(str(error))
    assert len(refused) > times // 10
    assert all("python -m motionops prepare motion" in line and "\n" not in line for line in refused)


@pytest.mark.parametrize(
    ("column", "value"),
    [("scale", 1e30), ("scale", None), ("scale", "x"), ("shape", "[5, 4, 3]"), ("shape", "{}"), ("shape", "[60, 1]"),
     ("maps", None), ("maps", b"x"), ("check_sum", 7)],
)  # fmt: skip
def test_a_value_that_was_not_written_is_not_read(small, column, value):
    file, (video, other), (_, maps) = small
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE videos SET {column} = ? WHERE path = ?", (value, str(video)))
    with pytest.raises(UserError, match=r"small.sqlite is damaged at .*a.mp4 \(.*\); delete it, python -m motionops"):
        MotionFile(file).read(video)
    assert torch.equal(MotionFile(file).read(other), maps)
