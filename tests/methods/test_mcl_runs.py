"""Runs of MCL: presets, given weights, odd and real videos."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from motionops.errors import UserError
from motionops.methods.mcl import MCL, PRESETS
from motionops.models import build_backbone, save_backbone
from motionops.video.encoding import write_video
from tests.methods.tiny import tiny as tiny_run
from tests.runs.runs import DATA, logged
from trainers.mcl import main

LOSSES = ("loss", "loss_nce", "loss_st", "loss_s", "loss_t")


def tiny(shapes, output, **changes):
    return tiny_run("mcl", shapes, output, **changes)


def test_presets_are_the_papers():
    paper = PRESETS["ucf101"]
    assert (paper.frames, paper.stride, paper.size, paper.epochs) == (16, 2, 224, 200)
    assert (paper.batch_size, paper.queue, paper.momentum, paper.temperature) == (64, 131072, 0.999, 0.1)
    assert (paper.learning_rate, paper.hidden, paper.dim, paper.backbone) == (0.01, 2048, 128, "r2plus1d_50")
    assert (paper.alignment_variant, paper.alignment_form, paper.seco) == ("v3", "paper", ())
    assert PRESETS["kinetics400"].epochs == 400
    released = PRESETS["ucf101-released"]
    assert (released.batch_size, released.warmup_epochs, released.alignment_form) == (32, 5.0, "released")
    assert (released.temporal_probability, released.crop_probability) == (0.7, 1.0)  # in space motion always decides
    assert (released.alignment_boost, released.alignment_boost_epochs) == (2.0, 5)
    for name, preset in PRESETS.items():
        assert preset.preset == name or name == "demo"
        preset.check()


def test_training_starts_from_given_weights(shapes, tmp_path):
    torch.manual_seed(5)
    backbone = build_backbone("r3d_small")
    save_backbone(backbone, tmp_path / "start.safetensors")
    module = MCL(tiny(shapes, tmp_path / "run", init=tmp_path / "start.safetensors"))
    for network in (module.backbone, module.path.key_backbone.network):
        assert torch.equal(network.stem[0].weight, backbone.stem[0].weight)


def odd_videos(folder):
    """Videos that have something the matter, and a list of them."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (20, 48, 48, 3), dtype=np.uint8)
    still = np.broadcast_to(noise[:1], (20, 48, 48, 3))
    shifted = np.stack([np.roll(noise[0], 2 * t, axis=1) for t in range(20)])
    made = {
        "still": still,
        "moving": shifted,
        "black": np.zeros((20, 48, 48, 3), dtype=np.uint8),
        "flat": np.stack([np.roll(noise[0, :4], 2 * t, axis=1) for t in range(20)]),
        "other": np.stack([np.roll(noise[1], 2 * t, axis=0) for t in range(20)]),
        "wide": np.stack([np.roll(noise[2, :16], t, axis=1) for t in range(20)]),
    }
    short = {"single": noise[:1], "short": noise[:3]}
    folder.mkdir()
    for name, frames in {**made, **short}.items():
        write_video(folder / f"{name}.mp4", np.ascontiguousarray(frames))
    (folder / "good.txt").write_text("".join(f"{name}.mp4\n" for name in made))
    (folder / "all.txt").write_text("".join(f"{name}.mp4\n" for name in [*made, *short]))


@pytest.mark.parametrize("source", ["prepared", "on-the-fly"])
def test_videos_without_motion_and_of_four_rows(tmp_path, source):
    odd_videos(tmp_path / "odd")
    flags = {"data": tmp_path / "odd", "list": tmp_path / "odd" / "good.txt", "epochs": 2, "motion_source": source}
    config = replace(tiny(tmp_path, tmp_path / "run"), batch_size=3, **flags)
    assert main(config) == 0
    rows = logged(config.output, LOSSES)
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    with pytest.raises(UserError, match=r"(single|short)\.mp4: .*frames"):
        main(replace(config, list=tmp_path / "odd" / "all.txt", output=tmp_path / "other"))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("weizmann4", "on-the-fly"),
        ("surv_fight", "prepared"),
        pytest.param("weizmann4", "prepared", marks=pytest.mark.slow),
        pytest.param("surv_fight", "on-the-fly", marks=pytest.mark.slow),
    ],
)
def test_real_videos(tmp_path, name, source):
    listing = DATA / name / "train.txt"
    if not listing.exists():
        pytest.skip(f"{listing} is not there")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{DATA / name}/{line}\n" for line in listing.read_text().splitlines()[:3]))
    config = tiny(tmp_path, tmp_path / "run", max_steps=1, motion_source=source, batch_size=2)
    assert main(replace(config, data=DATA / name, list=few)) == 0
    assert len(logged(config.output, LOSSES)) == 1
