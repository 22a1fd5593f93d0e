"""Runs of MoDist: flow while training, videos without motion, real videos."""

import json

import numpy as np
import pytest
import torch

from motionops.commandline import run
from motionops.errors import UserError
from motionops.methods.modist import PRESETS, MoDistConfig
from motionops.video.encoding import write_video
from tests.methods.tiny import tiny as tiny_run
from tests.runs.runs import DATA, logged
from trainers.modist import main


def tiny(shapes, output, **changes):
    return tiny_run("modist", shapes, output, **changes)


def losses(folder):
    return logged(folder, ("loss", "low_motion"))


@pytest.mark.parametrize("motion", ["flow-edges", "flow"])
def test_flow_while_training(shapes, tmp_path, motion):
    config = tiny(shapes, tmp_path / "run", max_steps=2, motion=motion, flow="tvl1", motion_frames=3)
    assert main(config) == 0
    assert len(losses(config.output)) == 2


def test_a_set_without_motion_says_so_and_stops(shapes, tmp_path):
    with pytest.raises(UserError, match=r"--gamma 0.9: of the 16 videos drawn so far none has a clip of frame-diff"):
        main(tiny(shapes, tmp_path / "run", gamma=0.9))


@pytest.mark.parametrize("prepared", [False, True])
def test_a_video_without_motion_is_counted_and_used_for_its_visual_loss(shapes, tmp_path, monkeypatch, prepared):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    lines = (shapes / "train.txt").read_text().splitlines()[:6]
    stills = []
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
        write_video(tmp_path / f"still{number}.mp4", picture.repeat(24, axis=0), codec="mpeg4")
        stills.append(f"{tmp_path}/still{number}.mp4 0")
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join([*(f"{shapes}/{line}" for line in lines), *stills]))
    motion = {"motion": "flow-edges", "gamma": 0.02} if prepared else {"gamma": 0.003}
    config = tiny(shapes, tmp_path / "run", data=None, list=listing, epochs=2, batch_size=8, **motion)
    assert main(config) == 0
    assert [float(row["low_motion"]) for row in losses(config.output)] == [2, 4]
    assert json.loads((config.output / "metrics.json").read_text())["training"]["low_motion"] == 4
    state = torch.load(config.output / "last.ckpt", weights_only=True)["state_dict"]
    assert set(range(8)) == set(state["queues.visual.ids"].tolist()) - {-1}
    assert set(range(6)) == set(state["queues.motion.ids"].tolist()) - {-1}


@pytest.mark.parametrize("folder", ["weizmann4", pytest.param("surv_fight", marks=pytest.mark.slow)])
def test_real_videos(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    if not (DATA / folder).is_dir():
        pytest.skip(f"the videos of {folder} are not here")
    line = ["--data", str(DATA / folder), "--output", str(tmp_path / "run"), "--max-steps", "2", "--batch-size", "4"]
    line += ["--queue", "16", "--size", "32", "--workers", "0"]
    line += ["--flow", {"weizmann4": "prepared", "surv_fight": "tvl1"}[folder]]
    assert run(main, MoDistConfig, PRESETS, line) == 0
