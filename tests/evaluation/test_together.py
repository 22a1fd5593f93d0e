"""Features that several processes extract together are those of one, and so is what is measured of them."""

import json

import numpy as np
import pytest
import torch
from torch import distributed, nn

pytest.importorskip("lightning")
from motionops.commandline import run_commands
from motionops.commands.evaluate import program
from motionops.errors import UserError
from motionops.evaluation import extract_features
from motionops.evaluation.features import together
from motionops.evaluation.features.frozen_features import frozen_features
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.written.results import read_results
from motionops.ranks import copy_from_first, from_first, gather_to_first
from motionops.training.data.manifest import in_folder
from motionops.video import Video
from motionops.video.encoding import write_video
from tests.several_ranks import as_torchrun_does, on_ranks

SETTINGS = {"clips": 2, "frames": 4, "stride": 2, "size": 16}
FLAGS = ["--clips", "2", "--frames", "4", "--size", "16", "--workers", "0"]


class Small(nn.Module):
    """A small network that counts the clips it has seen, and ends after some, as a killed one does."""

    channels = 4

    def __init__(self, most=10**9):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv3d(3, 4, 3, padding=1)
        self.clips, self.most = 0, most

    def forward(self, clip):
        self.clips += len(clip)
        if self.clips > self.most:
            raise KeyboardInterrupt
        return self.convolution(clip)


def extracted(rank, videos, settings, most=10**9):
    skipped, network = [], Small(most)
    try:
        features = extract_features(network, videos, over_ranks=True, skipped=skipped, **SETTINGS, **settings)
    except KeyboardInterrupt:
        return "killed"
    return features, skipped, network.clips


@pytest.mark.parametrize("settings", [{}, {"shuffle_frames": True, "seed": 3}, {"batch_size": 3}])
def test_features_of_two_ranks_are_those_of_one(counting_videos, tmp_path, settings):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    videos = [*counting_videos, Video(str(broken), "a"), *counting_videos[:2]]
    skipped = []
    alone = extract_features(Small(), videos, skipped=skipped, **SETTINGS, **settings)
    assert (len(alone), len(skipped)) == (6, 1)
    (features, named, clips), (none, nothing, others) = on_ranks(extracted, tmp_path, videos, settings)
    torch.testing.assert_close(features, alone, rtol=1e-6, atol=1e-7)
    assert named == skipped
    assert (len(none), nothing) == (0, [])
    assert min(clips, others) > 0
    assert clips + others == 2 * 6 if not settings.get("shuffle_frames") else clips + others > 0


def test_what_a_killed_rank_had_is_there_for_the_next(counting_videos, tmp_path):
    """As where a time limit ends the end of a run: all ranks have written what they had."""
    settings = {"cache": str(tmp_path / "cache"), "batch_size": 2}
    alone = extract_features(Small(), counting_videos, **SETTINGS)
    assert on_ranks(extracted, tmp_path, counting_videos, settings, 2) == ["killed", "killed"]
    (features, _, clips), (_, _, others) = on_ranks(extracted, tmp_path, counting_videos, settings)
    assert (clips, others) == (2, 2)  # of two videos with two clips each, one was there
    torch.testing.assert_close(features, alone, rtol=1e-6, atol=1e-7)


def refused(rank, videos, strict):
    try:
        labelled_features(Small(), videos, strict=strict, over_ranks=True, **SETTINGS)
    except UserError as error:
        return str(error)
    return "none"


@pytest.mark.parametrize(("strict", "said"), [(True, "is not a video"), (False, "2 of 4 videos cannot be used")])
def test_an_error_of_the_first_is_raised_in_all(counting_videos, tmp_path, strict, said):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    videos = [*counting_videos[:2], Video(str(broken), "a"), Video(str(tmp_path / "gone.mp4"), "a")]
    first, second = on_ranks(refused, tmp_path, videos, strict)
    assert first == second
    assert said in first


class OverVectors(nn.Module):
    """A small network over motion vectors that counts the videos it has seen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv3d(2, 4, 3, padding=1)
        self.videos = 0

    def forward(self, motion):
        self.videos += 1
        return self.convolution(motion)


def of_vectors(rank, videos, strict=False):
    network, settings = OverVectors(), {"clips": 2, "frames": 4, "size": 16}
    try:
        made = frozen_features(network, videos, strict=strict, vectors={"steps": 2}, over_ranks=True, **settings)
    except UserError as error:
        return str(error)
    return made.features, made.videos, made.skipped, network.videos


def test_motion_features_of_two_ranks_are_those_of_one(tmp_path):
    generator = np.random.default_rng(0)
    videos = []
    for number in range(11):
        picture = generator.integers(0, 256, (32, 48, 3), dtype=np.uint8)
        frames = np.stack([np.roll(picture, (number - 5) * time, axis=1) for time in range(8)])
        write_video(tmp_path / f"{number}.mp4", frames, codec="mpeg4")
        videos.append(Video(str(tmp_path / f"{number}.mp4"), "ab"[number % 2]))
    (tmp_path / "4.mp4").write_bytes(b"no video")
    alone, used, skipped, _ = of_vectors(0, videos)
    assert (len(alone), len(used), len(skipped)) == (10, 10, 1)
    assert alone.std(dim=0).min() > 1e-3  # they differ from video to video
    (features, of, named, seen), (none, nothing, no_name, others) = on_ranks(of_vectors, tmp_path, videos)
    assert torch.equal(features, alone)
    assert (of, named) == (used, skipped)
    assert (len(none), nothing, no_name) == (0, [], [])
    assert (seen, others) == (5, 5)
    strict = tmp_path / "strict"
    strict.mkdir()
    first, second = on_ranks(of_vectors, strict, videos, True)
    assert first == second
    assert "4.mp4: is not a video" in first


def evaluated(argv):
    assert run_commands(program.COMMANDS, "Measure.", argv, "evaluate.py") == 0
    assert distributed.get_world_size() == 2
    distributed.destroy_process_group()


def test_a_command_under_torchrun_measures_what_one_process_does(tiny_shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    argv = ["linear", "--backbone", "random", "--data", str(tiny_shapes), *FLAGS, "--no-cache"]
    as_torchrun_does(evaluated, [*argv, "--output", str(tmp_path / "two" / "run")])
    assert run_commands(program.COMMANDS, "Measure.", [*argv, "--output", str(tmp_path / "one" / "run")]) == 0
    one, two = (json.loads((tmp_path / name / "run" / "metrics.json").read_text()) for name in ("one", "two"))
    assert one == two
    _, rows = read_results(tmp_path / "two" / "results.csv")
    assert len(rows) == 1


def told(rank):
    network = Small()
    with torch.no_grad():
        network.convolution.bias.fill_(float(rank + 1))
    copy_from_first(network)
    return from_first(f"from {rank}"), gather_to_first([rank, -rank]), network.convolution.bias.tolist()


def test_what_goes_to_and_from_the_first(tmp_path):
    assert on_ranks(told, tmp_path) == [("from 0", [0, 0, 1, -1], [1.0] * 4), ("from 0", [], [1.0] * 4)]
    assert (from_first(3), gather_to_first([3])) == (3, [3])


def test_which_processes_were_started_together(monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_NODEID", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (together.started_together(), together.join_processes(), together.machine()) == (1, 1, 0)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert together.started_together() == 1  # a script of several tasks that srun did not start
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NODEID", "3")
    assert (together.started_together(), together.machine()) == (8, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("GROUP_RANK", "1")
    assert (together.started_together(), together.machine()) == (4, 1)


def test_the_first_machine_s_videos_are_found_in_another_one_s_folder():
    videos = [Video("/a/x/1.mp4", "x"), Video("/elsewhere/2.mp4", "y")]
    moved = in_folder(videos, "/a", "/b/c")
    assert [video.path for video in moved] == ["/b/c/x/1.mp4", "/elsewhere/2.mp4"]
    assert in_folder(videos, None, "/b") == videos
