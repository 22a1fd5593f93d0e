"""Whole runs, for which FIMA stands: learning, parts of a step, signals, resumption, odd lists."""

import json
import signal
from pathlib import Path

import pytest
import torch

from motionops.contrast.momentum_encoder import MomentumEncoder
from motionops.errors import UserError
from motionops.video import read_list
from motionops.video.lists.folders import video_paths
from tests.runs.conftest import UNINTERRUPTED
from tests.runs.runs import command, interrupted, logged
from tests.video.shard_files import in_shards
from trainers import fima

SAME = ("step", "epoch", "loss", "loss_vv", "accuracy", "learning_rate")


def losses(folder):
    return logged(folder, SAME)


def test_its_loss_falls(tiny):
    """Readers, views, schedule and optimizer together; each method's own losses: tests/methods."""
    config = tiny(losses=("vv", "pix", "fra"), epochs=12)
    assert fima.main(config) == 0
    pixels = [float(row["loss_pix"]) for row in logged(config.output, ("loss_pix",))]
    assert len(pixels) == 48
    assert sum(pixels[-8:]) < sum(pixels[:8]) - 8 * 0.2


def test_momentum_encoders_move_once_a_step(tiny, monkeypatch):
    moved, update = [], MomentumEncoder.update
    monkeypatch.setattr(MomentumEncoder, "update", lambda self, network: moved.append(self) or update(self, network))
    assert fima.main(tiny(accumulate=2, max_steps=3)) == 0
    assert len(moved) == 3 * 2  # of the backbone and of its head


def test_a_resumed_run_in_parts_equals_an_uninterrupted_one(tiny, tmp_path):
    whole = tiny(output=tmp_path / "whole", accumulate=2, losses=("vv", "pix"))
    assert fima.main(whole) == 0
    cut = {"output": tmp_path / "cut", "accumulate": 2, "losses": ("vv", "pix")}
    assert fima.main(tiny(**cut, max_steps=5)) == 0
    assert fima.main(tiny(**cut, resume=True)) == 0
    assert logged(cut["output"], (*SAME, "loss_pix")) == logged(whole.output, (*SAME, "loss_pix"))


def test_a_run_on_shards_is_the_run_on_files_also_when_it_was_cut(whole, tiny, shapes, tmp_path):
    """The same losses to the last digit: order, clips and resumption do not depend on where the bytes lie."""
    in_shards(tmp_path / "shards", read_list(shapes / "train.txt"), 3, shapes)
    members = {name.split(".tar/")[1]: name for name in map(str, video_paths(str(tmp_path / "shards")))}
    lines = [line.split() for line in (shapes / "train.txt").read_text().splitlines()]
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{members[name]} {label}\n" for name, label in lines))
    changes = {"data": tmp_path / "shards" / "*.tar", "list": listing, "output": tmp_path / "cut", **UNINTERRUPTED}
    assert fima.main(tiny(**changes, workers=2, max_steps=9)) == 0
    assert fima.main(tiny(**changes, resume=True)) == 0
    assert losses(tmp_path / "cut") == losses(whole)


def test_what_cannot_be_divided_is_said(tiny):
    with pytest.raises(UserError, match="--accumulate: 4 videos of a process cannot be computed in 3 parts"):
        fima.main(tiny(accumulate=3))


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGTERM, 2), (signal.SIGINT, 2), (signal.SIGKILL, 2)]
)
def test_a_signal_in_the_middle_loses_nothing(whole, tiny, tmp_path, number, workers):
    cut = tiny(output=tmp_path / "cut", **UNINTERRUPTED, workers=workers)
    line = command(cut, "fima", "--checkpoint-every", "3")
    status, text = interrupted(line, cut.output, 7, number, group=workers > 0)
    steps = len(losses(cut.output))
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == 128 + number, text
        assert "--resume continues" in text
        assert "Traceback" not in text
        assert torch.load(cut.output / "last.ckpt", weights_only=True)["motionops"]["step"] == steps
    assert 7 <= steps < 24
    assert fima.main(tiny(output=tmp_path / "cut", **UNINTERRUPTED, resume=True)) == 0
    assert losses(cut.output) == losses(whole)


def test_resume_without_a_checkpoint_starts_and_with_other_flags_is_refused(tiny, capsys):
    assert fima.main(tiny(max_steps=2, resume=True)) == 0
    assert "there is no" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"last.ckpt was made with --queue 16, now it is 32"):
        fima.main(tiny(max_steps=4, resume=True, queue=32))
    short = Path(tiny().output / "short.txt")
    short.write_text("\n".join((tiny().data / "train.txt").read_text().splitlines()[:15]))
    with pytest.raises(UserError, match=r"was made of 16 videos, \w+; now they are 15 videos"):
        fima.main(tiny(max_steps=4, resume=True, list=short))


def test_bad_videos_are_skipped_named_and_counted(tiny, shapes, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    lines = (shapes / "train.txt").read_text().splitlines()
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join([*lines, f"{broken} 0"]))
    config = tiny(list=listing, max_steps=1)
    assert fima.main(config) == 0
    assert f"skipped {broken}" in capsys.readouterr().err
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert metrics["skipped"] == 1
    assert metrics["skipped_videos"][0]["path"] == str(broken)
    assert metrics["skipped_videos"][0]["reason"]
    with pytest.raises(UserError, match=r"broken.mp4"):
        fima.main(tiny(list=listing, max_steps=1, strict=True, output=tmp_path / "other"))


def test_videos_of_several_sizes(tiny, shapes, tmp_path):
    from motionops.video import moving_shapes

    other = moving_shapes.generate(tmp_path / "other", train=8, test=8, size=48, progress=False)
    listing = tmp_path / "list.txt"
    lines = [
        f"{folder}/{line}" for folder in (shapes, other) for line in (folder / "train.txt").read_text().split("\n")
    ]
    listing.write_text("\n".join(line for line in lines if line.endswith(tuple("0123456789"))))
    assert fima.main(tiny(data=None, list=listing, max_steps=2, losses=("vv", "pix", "fra"))) == 0


def test_epochs_that_end_before_max_steps_are_said(tiny, capsys):
    assert fima.main(tiny(epochs=1, max_steps=1000)) == 0
    assert "--max-steps 1000: 1 epochs of" in capsys.readouterr().err
