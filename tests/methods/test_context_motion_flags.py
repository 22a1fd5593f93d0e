"""Flags of Context-Motion Decoupling: presets are the paper's, wrong ones are one line."""

import pytest

from motionops.commandline import parse, run
from motionops.methods.context_motion import PRESETS, ContextMotionConfig
from trainers.context_motion import main


def parsed(*line):
    return parse(ContextMotionConfig, PRESETS, list(line))


def test_presets_are_the_papers():
    """Section 4.1."""
    ucf101, kinetics = parsed("--preset", "ucf101"), parsed("--preset", "kinetics400")
    for preset, batch in ((ucf101, 64), (kinetics, 512)):
        assert preset.batch_size == batch
        assert preset.learning_rate == pytest.approx(0.0005 * batch)
        assert (preset.epochs, preset.optimizer, preset.weight_decay) == (120, "sgd", 0.005)
        assert (preset.frames, preset.stride, preset.size, preset.motion_frames) == (16, 4, 112, 8)
        assert (preset.alpha, preset.hard_negatives, preset.period, preset.predictor) == (
            0.5,
            3,
            "future",
            "transformer",
        )
        assert (preset.encoder_layers, preset.decoder_layers, preset.width) == (2, 4, 512)
        assert (preset.hidden, preset.dim, preset.group) == (2048, 512, 16)
        assert (preset.backbone, preset.image_backbone, preset.motion_backbone) == ("c3d", "r2d_10", "r3d_10")
        assert preset.window() == 61 + 8
        assert preset.motion_map_shape() == (2, 7, 7)  # Section 4.1: 16 x 2 x 112 x 112 goes in


def test_windows():
    assert parsed("--alpha", "0").window() == 15
    assert parsed("--period", "current").window() == 16
    assert parsed("--short", "hold").least_frames() == 1


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        run(main, ContextMotionConfig, PRESETS, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--alpha", "--period", "--hard-negatives", "--predictor", "--motion-loss", "--motion-steps", "--cell"):
        assert flag in text
    assert "--classes" not in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["--temperature", "0"], "--temperature: must be positive, got 0.0"),
        (["--width", "30"], "--width: must be even and a multiple of --heads 4, got 30"),
        (["--period", "current", "--frames", "2"], "--period current: the clip spans 3 frames, fewer than"),
        (["--motion-steps", "4"], "--motion-steps: 4 are fewer than the 8 --motion-frames"),
        (["--negatives", "group"], "--negatives group: --group says how many"),
        (["--alpha", "0", "--cell", "4"], "--cell: says something with --motion vectors alone"),
        (["--period", "past"], "period"),
        (["--init", "/no/such/file.pth"], "there is no file /no/such/file.pth"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_wrong_flags(capsys, tmp_path, shapes, monkeypatch, flags, message):
    line = ["--output", str(tmp_path / "run"), *flags]
    if "--data" not in flags:
        line += ["--data", str(shapes), "--list", str(shapes / "train.txt")]
    assert run(main, ContextMotionConfig, PRESETS, line) != 0
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
