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
from motionops.errors import UserError
from motionops.learning.clip_flow import clip_flow
from motionops.learning.prepared_motion import find_or_prepare
from motionops.video import MotionFile, Video, moving_shapes, read_list, read_video
from motionops.video.encoding import write_video
from motionops.video.motion_file import MotionWriter
from motionops.video.prepare import motion as prepare_motion

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=8, test=8, progress=False)


@pytest.fixture(scope="module")
def prepared(shapes, tmp_path_factory):
    """The motion of the training videos, whole pixels."""
    path = tmp_path_factory.mktemp("motion") / "shapes.sqlite"
    config = prepare_motion.MotionConfig(output=path, list=shapes / "train.txt", cells=40, workers=2)
    assert prepare_motion.main(config) == 0
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


def test_coarse_maps_are_means_and_long_videos_go_piece_by_piece(tmp_path):
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (24, 48, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    frames = np.stack([np.roll(picture, t % 5, axis=1) for t in range(prepare_motion.FRAMES_AT_ONCE + 1)])
    write_video(tmp_path / "long.mp4", frames)
    whole = prepare_motion.video_motion(str(tmp_path / "long.mp4"), 96, 0)
    flow = clip_flow(read_video(tmp_path / "long.mp4")[None])
    torch.testing.assert_close(whole, motionops.motion_map(flow)[0])
    coarse = prepare_motion.video_motion(str(tmp_path / "long.mp4"), 16, 0)
    assert coarse.shape == (65, 8, 16)
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(whole, 6))
    assert prepare_motion.video_motion(str(tmp_path / "long.mp4"), 32, 48).shape == (65, 16, 32)


def test_a_video_of_one_frame_has_no_motion(tmp_path):
    write_video(tmp_path / "one.mp4", np.full((1, 4, 32, 3), 7, dtype=np.uint8))
    assert not prepare_motion.video_motion(str(tmp_path / "one.mp4"), 32, 96).any()


def test_what_is_missing_names_the_command(shapes, prepared, tmp_path):
    with pytest.raises(
        UserError, match=r"no motion file .*none; python -m motionops.video.prepare motion .*none makes"
    ):
        MotionFile(tmp_path / "none")
    other = read_list(shapes / "test.txt")[0]
    with pytest.raises(UserError, match=r"holds no motion of .*; python -m motionops.video.prepare motion .* adds it"):
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


def test_it_goes_into_workers(shapes, prepared):
    motion, path = MotionFile(prepared), read_list(shapes / "train.txt")[0].path
    first = motion.read(path)
    assert torch.equal(pickle.loads(pickle.dumps(motion)).read(path), first)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(motion.read(path), first) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_killed_run_is_continued(shapes, tmp_path):
    output = tmp_path / "motion.sqlite"
    line = [sys.executable, "-m", "motionops.video.prepare", "motion", "--list", str(shapes / "train.txt")]
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
    finished = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    assert "MiB an hour of video" in finished.stderr
    assert done() == 8
    MotionFile(output).require(read_list(shapes / "train.txt"))


def test_other_settings_are_refused_and_bad_videos_left_out(shapes, prepared, tmp_path, capsys):
    config = prepare_motion.MotionConfig(output=prepared, list=shapes / "train.txt", cells=8)
    with pytest.raises(UserError, match="was made with cells 40"):
        prepare_motion.main(config)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = [Video(str(tmp_path / "broken.mp4"), None), read_list(shapes / "train.txt")[0]]
    prepare_motion.prepare(videos, tmp_path / "motion.sqlite", progress=False)
    assert "broken.mp4" in capsys.readouterr().err
    assert MotionFile(tmp_path / "motion.sqlite").read(videos[1].path).ndim == 3


def test_a_run_without_a_file_makes_one_once(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path))
    videos = read_list(shapes / "train.txt")
    first = find_or_prepare(None, videos[:4])
    changed = first.file.stat().st_mtime_ns
    assert find_or_prepare(None, videos[:4]).file.stat().st_mtime_ns == changed
    both = find_or_prepare(None, videos)
    assert both.file == first.file
    assert both.read(videos[7].path).ndim == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"cells": 0}, "--cells: must be at least 1"), ({"side": -1}, "--side"), ({}, "--data or --list")],
)
def test_wrong_flags(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        prepare_motion.main(prepare_motion.MotionConfig(output=tmp_path / "x", **changes))
