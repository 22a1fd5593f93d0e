"""Wrong flags of trainers/controllable.py: one clear line, a non-zero exit status; found before anything is trained."""

from dataclasses import replace

import pytest

from motionops.commandline import run
from motionops.errors import UserError
from motionops.methods.controllable import PRESETS, ControllableConfig
from motionops.video.encoding import write_video
from tests.runs.runs import refused
from trainers import controllable
from trainers.controllable import main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["--losses", "nonsense"], "losses"),
        (["--losses", "rc", "rc"], "--losses: each loss once"),
        (["--losses", "mi", "td"], "--losses: name rc or nce"),
        (["--clips", "1"], "--losses td: one local clip has no order; --clips 2 or more, or leave td out"),
        (["--clips", "9"], "--clips: the global clip has 8 frames, too few for 9 segments with a local clip each"),
        (["--clips", "6", "--order-head", "vcop"], "--order-head vcop: has a class for each order of 2 to 5 clips"),
        (["--global-cells", "3"], "--global-cells: r3d_small makes 2 or 4 or 8 temporal cells of --frames 8, not 3"),
        (["--global-cells", "16"], "--global-cells: r3d_small makes 2 or 4 or 8 temporal cells"),
        (["--global-crop-area", "0.9", "0.2"], "--global-crop-area: must be two rising shares in (0, 1]"),
        (["--crop-area", "0", "0.2"], "--crop-area: must be two rising shares in (0, 1]"),
        (["--temperature", "0"], "--temperature: must be positive, got 0.0"),
        (["--drawn-levels", "513"], "--drawn-levels: 513 are more than the 512 intensity levels"),
        (["--jitter", "0.4", "0.4", "0.4", "0.6"], "--jitter, --blur-sigma: jitter must be 4 strengths"),
        (["--blur-sigma", "2", "1"], "--jitter, --blur-sigma: blur_sigma must be (low, high)"),
        (["--backbone", "i3d"], "backbone"),
        (["--estimator", "nonsense"], "estimator"),
    ],
)
def test_wrong_flags(capsys, tmp_path, shapes, flags, message):
    assert message in refused(
        capsys, controllable, "--output", tmp_path / "run", "--list", shapes / "train.txt", *flags
    )
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_videos_that_are_shorter_than_a_local_clip_are_named(capsys, tmp_path, shapes):
    import numpy as np

    picture = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    write_video(tmp_path / "short.mp4", picture.repeat(7, axis=0), codec="mpeg4")
    lines = [f"{shapes}/{line}" for line in (shapes / "train.txt").read_text().splitlines()]
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join([*lines, f"{tmp_path}/short.mp4 0"]))
    line = refused(capsys, controllable, "--output", tmp_path / "run", "--list", listing, "--strict")
    assert "short.mp4" in line
    assert "16" in line


def test_the_whole_length_of_the_clips_may_be_the_video():
    """Local clips as long as the video are all the same one; the run is allowed."""
    replace(ControllableConfig(), stride=3).check()


def test_presets_are_the_papers():
    ucf, kinetics = PRESETS["ucf101"], PRESETS["kinetics400"]
    for preset in (ucf, kinetics):
        preset.check()
        assert (preset.backbone, preset.frames, preset.size, preset.batch_size) == ("r3d_18_pool", 16, 112, 128)
        assert (preset.optimizer, preset.learning_rate, preset.weight_decay) == ("adam", 1e-3, 1e-5)
        assert (preset.clips, preset.global_cells, preset.levels().count, preset.drawn_levels) == (4, 8, 512, 32)
        assert preset.losses == ("rc", "mi", "td")
        assert (preset.weight_rc, preset.weight_mi, preset.weight_td) == (1, 1, 1)
        assert (preset.estimator, preset.order_head, preset.order_temperature) == ("mine", "gru", 1)
        assert (preset.jitter, preset.blur_sigma) == ((0.4, 0.4, 0.4, 0.1), (0.1, 2.0))
    assert (ucf.epochs, ucf.milestones) == (200, (150,))
    assert (kinetics.epochs, kinetics.milestones) == (100, (70,))


def test_a_loss_without_a_head_of_its_own_is_a_users_error():
    with pytest.raises(UserError, match="--losses: name rc or nce"):
        replace(ControllableConfig(), losses=()).check()


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        run(main, ControllableConfig, PRESETS, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in (
        "--losses",
        "--clips",
        "--global-cells",
        "--estimator",
        "--order-head",
        "--blur-levels",
        "--milestones",
    ):
        assert flag in text
