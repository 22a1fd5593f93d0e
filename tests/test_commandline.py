"""What the person who types sees: presets, one line for each mistake, exit statuses."""

import dataclasses
import errno
from pathlib import Path
from typing import Literal

import pytest
import torch

pytest.importorskip("tyro")
from motionops.commandline import existing_file, existing_folder, parse, run, run_commands, writable_folder
from motionops.errors import UserError


@dataclasses.dataclass
class Config:
    """A program for these tests."""

    preset: str = "demo"
    """Named set of defaults."""
    data: Path | None = None
    """Folder."""
    resume: bool = False
    """Continue."""
    shuffled_norm: bool = True
    """On by default."""
    losses: tuple[Literal["vv", "pix", "fra"], ...] = ("vv", "pix", "fra")
    """Losses."""
    learning_rate: float = 0.5
    """Rate."""


PRESETS = {"demo": Config(), "ucf101": Config(preset="ucf101", learning_rate=0.25, losses=("vv",))}


def parsed(*argv: str) -> Config:
    return parse(Config, PRESETS, argv, prog="program.py")


def test_presets_choose_defaults_and_flags_override_them():
    assert parsed() == PRESETS["demo"]
    assert parsed("--preset", "ucf101") == PRESETS["ucf101"]
    assert parsed("--learning-rate", "3", "--preset=ucf101") == dataclasses.replace(
        PRESETS["ucf101"], learning_rate=3.0
    )
    assert parsed("--preset", "ucf101", "--preset", "demo").preset == "demo"


def test_switches_and_lists():
    config = parsed("--resume", "--no-shuffled-norm")
    assert config.resume
    assert not config.shuffled_norm
    assert parsed("--losses", "vv", "pix").losses == ("vv", "pix")
    assert parsed("--losses", "vv,pix", "--resume").losses == ("vv", "pix")
    assert parsed("--losses=pix,fra").losses == ("pix", "fra")
    assert parsed("--data", "a,b").data == Path("a,b")
    assert parsed("--learning_rate", "2").learning_rate == 2.0


def test_help_shows_the_defaults_of_the_preset(capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda config: None, Config, PRESETS, ["--preset", "ucf101", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "default: 0.25" in text
    assert "default: ucf101" in text
    assert "Presets: demo, ucf101." in text
    assert "Named set of defaults." in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--preset", "nope"], ["unknown preset 'nope'", "demo, ucf101"]),
        (["--preset"], ["--preset", "name"]),
        (["--lerning-rate", "1"], ["--lerning-rate"]),
        (["--learning-rate", "fast"], ["--learning-rate", "fast"]),
        (["--learning-rate"], ["--learning-rate"]),
        (["--losses", "vv", "moco"], ["--losses", "moco", "pix"]),
        (["stray"], ["stray"]),
        (["--resume", "yes"], ["yes"]),
    ],
)
def test_a_bad_line_gives_one_line_and_status_2(argv, words, capsys):
    assert run(lambda config: pytest.fail("ran"), Config, PRESETS, argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def raising(error: BaseException):
    def main(config):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("the list\nis empty"), "error: the list is empty"),
        (OSError(errno.ENOSPC, "No space left on device", "last.ckpt"), "error: last.ckpt: No space left on device"),
        (ValueError("extract_features: clips must be at least 1, got 0"), "error: extract_features: clips must be"),
    ],
)
def test_the_users_errors_are_one_line(error, line, capsys):
    import motionops.evaluation  # noqa: F401  the function that is named must be known

    assert run(raising(error), Config, PRESETS, []) == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("16 videos in a row cannot be read: a.mp4: is empty")


def test_the_users_errors_of_a_worker_process_are_one_line_too(capsys):
    loader = torch.utils.data.DataLoader(Failing(), num_workers=1)
    assert run(lambda config: next(iter(loader)), Config, PRESETS, []) == 2
    assert capsys.readouterr().err == "error: 16 videos in a row cannot be read: a.mp4: is empty\n"


def test_defects_keep_their_traceback(monkeypatch):
    for error in (KeyError("x"), ValueError("cannot reshape"), RuntimeError("nobody: is to blame")):
        with pytest.raises(type(error)):
            run(raising(error), Config, PRESETS, [])
    monkeypatch.setenv("MOTIONOPS_TRACEBACK", "1")
    with pytest.raises(UserError):
        run(raising(UserError("x")), Config, PRESETS, [])


def test_exit_statuses(capsys):
    assert run(lambda config: None, Config, PRESETS, []) == 0
    assert run(lambda config: 3, Config, PRESETS, []) == 3
    assert run(raising(KeyboardInterrupt()), Config, PRESETS, []) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_commands(capsys):
    seen = []
    commands = {"measure": (seen.append, Config)}
    assert run_commands(commands, "Measure.", ["measure", "--resume"]) == 0
    assert seen[0].resume
    assert run_commands(commands, "Measure.", ["--help"]) == 0
    assert "measure" in capsys.readouterr().out
    for argv in ([], ["weigh"], ["measure", "--bad"]):
        assert run_commands(commands, "Measure.", argv) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_paths(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    assert existing_folder(tmp_path) == tmp_path
    assert existing_file(file, "--list") == file
    with pytest.raises(UserError, match="--output: cannot write in"):
        writable_folder(file / "below")
    with pytest.raises(UserError, match="are free on this disk"):
        writable_folder(tmp_path, minimum_free=1 << 60)
    with pytest.raises(UserError, match="--data: there is no folder"):
        existing_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a folder"):
        existing_folder(file)
    with pytest.raises(UserError, match="--list: there is no file"):
        existing_file(tmp_path / "nowhere", "--list")
    with pytest.raises(UserError, match="is not a file"):
        existing_file(tmp_path, "--list")
