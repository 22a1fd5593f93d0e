"""Wrong flags: one clear line, a non-zero exit status, no traceback; found before anything is trained."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from motionops.commandline import run
from tests.runs.runs import refused
from trainers import fima


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["--losses", "nonsense"], "losses"),
        (["--losses", "vv", "vv"], "--losses: each loss once"),
        (["--queue", "31"], "--queue: 31 negatives are fewer than the --batch-size of 32"),
        (["--temperature", "0"], "--temperature: must be positive, got 0.0"),
        (["--temperature", "nan"], "--temperature: must be positive, got nan"),
        (["--crop-area", "0.5", "0.2"], "--crop-area: must be two rising shares in (0, 1], got 0.5 0.2"),
        (["--decoder-width", "30"], "--decoder-width: must be even and a multiple of --decoder-heads 4, got 30"),
        (["--motion-decoder", "none", "--losses", "fra"], "--motion-decoder none has none"),
        (["--losses", "fra", "--stride", "4"], "--stride 2 makes them equal"),
        (["--pixel-queue", "31"], "--pixel-queue: 31 is less than the --batch-size 32"),
        (["--group", "1"], "--group: one sample has no BatchNorm statistics"),
        (["--batch-size", "33", "--queue", "64", "--devices", "2"], "--batch-size: 33 videos cannot be shared by 2"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
        (["--size", "abc"], "size"),
        (["--backbone", "vgg"], "backbone"),
    ],
)
def test_wrong_flags(capsys, tmp_path, flags, message):
    assert message in refused(capsys, fima, "--output", tmp_path / "run", *flags)
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_lists(capsys, tmp_path, shapes):
    output = ["--output", tmp_path / "run"]
    assert "no such list" in refused(capsys, fima, *output, "--list", tmp_path / "none.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    assert "names no video" in refused(capsys, fima, *output, "--list", empty)
    one = tmp_path / "one.txt"
    one.write_text(f"{shapes}/{(shapes / 'train.txt').read_text().splitlines()[0]}")
    assert "too few to learn from" in refused(capsys, fima, *output, "--list", one)
    missing = tmp_path / "missing.txt"
    missing.write_text("not_there.mp4 0\n")
    assert "not_there.mp4" in refused(capsys, fima, *output, "--list", missing)
    assert "error: " in refused(
        capsys, fima, *output, "--list", shapes / "train.txt", "--test-list", tmp_path / "none.txt"
    )


def test_output_that_cannot_be_written(capsys, tmp_path, shapes):
    file = tmp_path / "file"
    file.write_text("")
    line = refused(capsys, fima, "--output", file / "run", "--list", shapes / "train.txt")
    assert "--output: cannot write in" in line


def test_full_disk_is_found_before_training(capsys, tmp_path, shapes, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**20))
    line = refused(capsys, fima, "--output", tmp_path / "run", "--list", shapes / "train.txt")
    assert "1 MiB are free on this disk" in line


@pytest.mark.parametrize("program", ["fima", "evaluate"])
def test_a_missing_part_is_one_line_that_names_the_extra(program):
    script = str(Path(fima.__file__).with_name(f"{program}.py"))
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['lightning', 'torchvision', 'tyro']))\n"
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: trainers/{program}.py needs ")
    assert "torchvision" in done.stderr
    assert done.stderr.endswith(": pip install 'motionops[train]'\n")
    assert done.stderr.count("\n") == 1


def test_a_loss_that_is_lost_ends_the_run_and_spares_the_checkpoint(capsys, tmp_path, shapes):
    flags = ["--data", shapes, "--list", shapes / "train.txt", "--size", "16", "--batch-size", "4", "--queue", "16"]
    flags += ["--workers", "0", "--losses", "vv", "--log-every", "1", "--learning-rate", "1e30", "--warmup-epochs", "0"]
    line = refused(capsys, fima, "--output", tmp_path / "run", *flags)
    assert "is not finite" in line
    assert "--learning-rate" in line
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_gradient_that_is_lost_ends_the_run_before_its_update(capsys, tmp_path, shapes, monkeypatch):
    """The losses are well."""

    def lose(module):
        if module.step == 2:
            module.backbone.stem[0].weight.grad[0, 0, 0, 0, 0] = math.inf

    monkeypatch.setattr(fima.FIMA, "on_after_backward", lose)
    flags = ["--data", shapes, "--list", shapes / "train.txt", "--size", "16", "--batch-size", "4", "--queue", "16"]
    flags += ["--workers", "0", "--losses", "vv", "--log-every", "1", "--checkpoint-every", "1"]
    line = refused(capsys, fima, "--output", tmp_path / "run", *flags)
    assert line.startswith("error: step 3: the gradient of path.backbone.stem.0.weight of ")
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert checkpoint["motionops"]["step"] == 2
    assert all(x.isfinite().all() for x in checkpoint["state_dict"].values())


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        run(fima.main, fima.FIMAConfig, fima.PRESETS, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--losses", "--radius", "--decoder-depth", "--mask-source", "--resume", "--max-steps", "--precision"):
        assert flag in text
