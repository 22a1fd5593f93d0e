"""Wrong flags of MCL: one clear line, exit status 2, no traceback; found before anything is trained."""

import subprocess
import sys

import pytest
import torch

from motionops.commandline import run
from motionops.methods.mcl import PRESETS, MCLConfig
from tests.runs.runs import ROOT, refused
from trainers import mcl
from trainers.mcl import main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["--alignment", "nonsense"], "alignment"),
        (["--alignment"], "--alignment: name at least one of st, s, t"),
        (["--alignment", "s", "s"], "--alignment: each part once"),
        (["--alignment-variant", "v4"], "alignment-variant"),
        (["--motion-source", "nonsense"], "motion-source"),
        (["--queue", "31"], "--queue: 31 negatives are fewer than the 32 keys of a step"),
        (["--queue", "64", "--seco", "intra"], "--queue: 64 negatives are fewer than the 96 keys of a step"),
        (["--temperature", "0"], "--temperature: must be positive, got 0.0"),
        (["--weight-nce", "0", "--no-motion"], "nothing is left to learn"),
        (["--group", "1"], "--group: one sample has no BatchNorm statistics"),
        (["--frames", "2", "--backbone", "r2plus1d_50"], "r2plus1d_50 cannot take clips of --frames 2"),
        (["--frames", "1", "--stride", "1", "--motion-source", "on-the-fly"], "a clip of one frame shows no motion"),
        (
            ["--motion-source", "on-the-fly", "--motion-file", "x.motion"],
            "--motion-file: says something with motion that is read",
        ),
        (["--data", "/no/such/folder"], "/no/such/folder"),
        (["--init", "/no/such/file.pth"], "there is no file /no/such/file.pth"),
    ],
)
def test_wrong_flags(capsys, tmp_path, shapes, flags, message):
    where = [] if "--data" in flags else ["--data", shapes, "--list", shapes / "train.txt"]
    if "--batch-size" not in flags and "--init" in flags:
        where += ["--batch-size", "4"]
    assert message in refused(capsys, mcl, "--output", tmp_path / "run", *where, *flags)
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_weights_of_another_network(capsys, tmp_path, shapes):
    torch.save({"module.encoder_q.conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "moco.pth.tar")
    flags = ["--data", shapes, "--list", shapes / "train.txt", "--init", tmp_path / "moco.pth.tar"]
    line = refused(capsys, mcl, "--output", tmp_path / "run", *flags)
    assert "moco.pth.tar does not fit r3d_small; keys" in line


def test_weights_that_are_missing_are_said_to_be_before_videos_are_read(capsys, tmp_path):
    line = refused(capsys, mcl, "--output", tmp_path / "run", "--init", "/no/such/moco.pth.tar")
    assert line == "error: --init: there is no file /no/such/moco.pth.tar"


def test_a_motion_file_that_is_missing_names_the_command(capsys, tmp_path, shapes):
    flags = ["--data", shapes, "--list", shapes / "train.txt", "--motion-file", tmp_path / "none.motion"]
    line = refused(capsys, mcl, "--output", tmp_path / "run", *flags)
    assert "none.motion" in line
    assert "motionops prepare motion" in line


def test_a_missing_part_is_one_line_that_names_the_extra():
    script = str(ROOT / "trainers" / "mcl.py")
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['lightning', 'torchvision', 'tyro']))\n"
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: trainers/mcl.py needs ")
    assert done.stderr.count("\n") == 1


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        run(main, MCLConfig, PRESETS, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    flags = "--no-motion --motion-source --motion-file --no-temporal-sampling --no-spatial-crop --crop-form --alignment"
    for flag in (*flags.split(), "--alignment-variant", "--alignment-form", "--seco", "--init", "--resume"):
        assert flag in text
    for preset in ("demo", "ucf101", "ucf101-released", "kinetics400"):
        assert preset in text
