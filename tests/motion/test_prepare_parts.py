"""A set that several machines prepare in parts is the set that one prepares."""

import os
from pathlib import Path

import pytest
import torch

from motionops.errors import UserError
from motionops.motion import EdgesFolder, MotionFile
from motionops.motion.prepare import count, flow_edges, motion, reencode
from motionops.motion.prepare.join import JoinConfig, join, main
from motionops.motion.prepare.parts import Part
from motionops.motion.prepared_file import PreparedWriter
from motionops.video import UnusableVideos, check_videos, checking, moving_shapes, read_list
from motionops.video.known_counts import default_file

pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=5, test=8, progress=False)


def in_parts(command, config, count):
    for number in range(1, count + 1):
        assert command.main(config(part=f"{number}/{count}")) == 0


def test_every_video_is_in_one_part():
    parts = [Part.read(f"{number}/3").of(range(8)) for number in (1, 2, 3)]
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]
    for wrong in ("0/3", "4/3", "3", "1/0", "a/b", "1/3/5", "-1/3", ""):
        with pytest.raises(UserError, match="--part: must be I/N with I from 1 to N"):
            Part.read(wrong)
    with pytest.raises(UserError, match="--output: must have a name"):
        Part(1, 2).place(Path("."))


def test_motion_in_parts(shapes, tmp_path):
    def config(**changes):
        own = {"output": tmp_path / "in [parts].sqlite", "list": shapes / "train.txt", "cells": 4, "side": 24}
        return motion.MotionConfig(**{**own, "workers": 1, **changes})

    videos = read_list(shapes / "train.txt")
    assert motion.main(config(output=tmp_path / "whole.sqlite")) == 0
    assert motion.main(config(part="2/2")) == 0
    with pytest.raises(UserError, match=r"of 2 parts of .*in \[parts\]\.sqlite these are not there yet: 1$"):
        join(config().output)
    assert motion.main(config(part="1/2")) == 0
    assert not config().output.exists()
    assert main(JoinConfig(config().output)) == 0
    whole, joined = MotionFile(tmp_path / "whole.sqlite"), MotionFile(config().output)
    assert joined.settings == whole.settings
    for video in videos:
        assert torch.equal(joined.read(video.path), whole.read(video.path))
    assert join(config().output, progress=False) == 0  # nothing is new
    with pytest.raises(UserError, match="5 videos cannot be 6 parts"):
        config(part="1/6").videos()
    assert motion.main(config(part="1/3")) == 0
    with pytest.raises(UserError, match="lie parts of 2 and of 3"):
        join(config().output)


def test_flow_edges_in_parts_and_a_join_that_was_killed(shapes, tmp_path, monkeypatch):
    def config(**changes):
        own = {"output": tmp_path / "edges", "list": shapes / "train.txt", "size": 16, "shards": 2, "workers": 1}
        return flow_edges.FlowEdgesConfig(**{**own, **changes})

    assert flow_edges.main(config(output=tmp_path / "whole")) == 0
    in_parts(flow_edges, config, 3)
    take, calls = PreparedWriter.take, []

    def killed(self, part):
        calls.append(part)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return take(self, part)

    with monkeypatch.context() as patched:
        patched.setattr(PreparedWriter, "take", killed)
        with pytest.raises(KeyboardInterrupt):
            join(tmp_path / "edges", progress=False)
    assert 0 < join(tmp_path / "edges", progress=False) < 5
    whole, joined = EdgesFolder(tmp_path / "whole"), EdgesFolder(tmp_path / "edges")
    for video in read_list(shapes / "train.txt"):
        assert torch.equal(joined.means(video.path), whole.means(video.path))
        frames = torch.arange(whole.interval, len(whole.means(video.path)))
        assert torch.equal(joined.read(video.path, frames), whole.read(video.path, frames))


def test_a_part_that_was_made_anew_takes_the_place_of_the_old_one(shapes, tmp_path):
    """Of a video that changed since, the pieces of its former state are gone."""
    config = {"output": tmp_path / "edges", "list": shapes / "train.txt", "size": 16, "shards": 1, "workers": 1}
    for number in (1, 2):
        flow_edges.main(flow_edges.FlowEdgesConfig(**config, part=f"{number}/2"))
    assert join(tmp_path / "edges", progress=False) == 5
    changed = read_list(shapes / "train.txt")[0].path
    os.utime(changed, ns=(1, 1))
    flow_edges.main(flow_edges.FlowEdgesConfig(**config, part="1/2"))
    assert join(tmp_path / "edges", progress=False) == 1
    edges = EdgesFolder(tmp_path / "edges")
    assert len(edges.read(changed, torch.arange(5, len(edges.means(changed))))) == len(edges.means(changed)) - 5


def test_parts_of_other_settings_are_not_joined(shapes, tmp_path):
    for number in (1, 2):
        config = motion.MotionConfig(tmp_path / "m", list=shapes / "train.txt", cells=2 + number, part=f"{number}/2")
        assert motion.main(config) == 0
    with pytest.raises(UserError, match=r"part-2-of-2 was made with .*'cells': 4.*m with .*'cells': 3"):
        join(tmp_path / "m", progress=False)
    with pytest.raises(UserError, match=r"there are no parts .*n\.part-1-of-N"):
        join(tmp_path / "n")
    for number in (1, 2):
        (tmp_path / f"o.part-{number}-of-2").write_bytes(b"no database")
    with pytest.raises(UserError, match=r"o\.part-1-of-2 is not a motion file"):
        join(tmp_path / "o")


def test_counts_in_parts(shapes, tmp_path, monkeypatch, capsys):
    """And the trainings' check of what was joined into the cache folder reads no video."""
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path))
    file = tmp_path / "frame_counts.jsonl"
    in_parts(count, lambda part: count.CountConfig(list=shapes / "train.txt", workers=1, part=part), 2)
    assert not file.exists()
    assert join(file, progress=False) == 5
    assert join(file, progress=False) == 0  # nothing is new
    assert len(file.read_text().splitlines()) == 5
    videos = read_list(shapes / "train.txt")
    expected = check_videos(videos, progress=False)
    monkeypatch.setattr(checking, "measure", None)
    assert check_videos(videos, progress=False, known=default_file()) == expected
    assert len(expected[0]) == 5
    capsys.readouterr()
    assert count.main(count.CountConfig(list=shapes / "train.txt")) == 0
    assert "5 of 5 videos can be used, 120 frames" in capsys.readouterr().err
    monkeypatch.undo()
    (tmp_path / "none.mp4").touch()
    with pytest.raises(UnusableVideos, match="1 of 1 videos cannot be used"):
        count.main(count.CountConfig(tmp_path / "c.jsonl", data=tmp_path, workers=1, part="1/1"))
    assert join(tmp_path / "c.jsonl", progress=False) == 0  # the part is there, and empty


def test_copies_in_parts_are_known_when_they_are_joined(shapes, tmp_path, capsys):
    def config(**changes):
        own = {"output": tmp_path / "copies", "data": shapes, "list": shapes / "train.txt", "workers": 1}
        return reencode.ReencodeConfig(**{**own, **changes})

    in_parts(reencode, config, 2)
    assert join(tmp_path / "copies", progress=False) == 5
    capsys.readouterr()
    assert reencode.main(config()) == 0
    assert "5 of 5 videos are done already" in capsys.readouterr().err
