"""What the person who types sees: presets, one line for each mistake, exit statuses."""

import dataclasses
import errno
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch

pytest.importorskip("tyro")
from motionops.commandline import existing_file, existing_folder, parse, run, run_commands, writable_folder
from motionops.errors import UserError
from motionops.flags import NOT_NEGATIVE, AtLeast, AtMost


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


@dataclasses.dataclass
class Ranged:
    """Flags with ranges."""

    name: str
    """Needed."""
    batch_size: Annotated[int, AtLeast(2), AtMost(9)] = 4
    """Videos."""
    decay: Annotated[float, NOT_NEGATIVE] = 0.0
    """Rate of
    decay."""
    cache: bool = True
    """Keep features."""
    shares: tuple[float, ...] | None = None
    """Parts."""
    sides: tuple[int, int] = (1, 2)
    """Two."""
    output: Path = Path("runs/ranged")
    """Folder."""
    overwrite: bool = False
    """Replace."""


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


def help_text(capsys, config, *argv):
    with pytest.raises(SystemExit):
        parse(config, None, [*argv, "--help"], prog="program.py")
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_says_the_range_and_what_a_switch_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    text = help_text(capsys, Ranged)
    assert "Needed. (required)" in text
    assert "Videos. (at least 2; at most 9; default: 4)" in text
    assert "Rate of decay. (not negative; default: 0.0)" in text
    assert "--no-cache Do not: Keep features." in text
    assert "--config FILE" in text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--learning-rat", "1"], "; did you mean --learning-rate?"),
        (["--lossess=vv", "--resum"], "; did you mean --losses, --resume?"),
        (["--no_shuffled-nrm"], "; did you mean --no-shuffled-norm?"),
        (["--wholly-other", "1"], ""),
    ],
)
def test_a_mistyped_flag_names_the_one_that_was_meant(typed, meant):
    with pytest.raises(UserError) as error:
        parsed(*typed)
    assert str(error.value).startswith("Unrecognized options: ")
    assert str(error.value).endswith(f"{meant} (see --help)")
    assert str(error.value).count("did you mean") == bool(meant)


def test_flags_from_a_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: ucf101\nlearning-rate: 5e-2\nlosses: [vv, fra]\nshuffled_norm: false\ndata: null\n")
    expected = Config(preset="ucf101", learning_rate=0.05, losses=("vv", "fra"), shuffled_norm=False)
    assert parsed("--config", str(file)) == expected
    # What is typed wins, wherever it stands.
    expected = dataclasses.replace(expected, learning_rate=0.1, data=Path("d"))
    assert parsed("--learning-rate", "0.1", "--config", str(file), "--data", "d") == expected
    with pytest.raises(UserError, match=r"--preset demo: --config .* has a preset of its own"):
        parsed("--config", str(file), "--preset", "demo")
    file.write_text("losses: pix\n")
    assert parsed("--config", str(file), "--preset", "ucf101") == dataclasses.replace(
        PRESETS["ucf101"], losses=("pix",)
    )
    file.write_text("name: x\nshares: [1, 2.5]\nsides: [3, 4]\nbatch_size: 5\n")
    found = parse(Ranged, None, ["--config", str(file), "--batch-size", "6"])
    assert found == Ranged("x", batch_size=6, shares=(1.0, 2.5), sides=(3, 4))
    file.write_text("batch_size: 5\n")
    assert parse(Ranged, None, ["--name", "y", "--config", str(file)]) == Ranged("y", batch_size=5)
    file.write_text("name: x\noverwrite: true\ncache: false\n")
    for again in ([], ["--overwrite", "--no-cache"]):
        assert parse(Ranged, None, ["--config", str(file), *again]) == Ranged("x", cache=False, overwrite=True)
    assert parse(Ranged, None, ["--config", str(file), "--no-overwrite", "--cache"]) == Ranged("x")
    file.write_text("batch_size: 5\n")
    with pytest.raises(UserError, match="--name"):
        parse(Ranged, None, ["--config", str(file)])


def test_the_file_of_a_run_does_not_lead_back_into_its_folder(tmp_path):
    file = tmp_path / "run" / "config.yaml"
    file.parent.mkdir()
    file.write_text(f"name: x\noverwrite: true\noutput: {file.parent}\n")
    assert parse(Ranged, None, ["--config", str(file)]) == Ranged("x")
    assert parse(Ranged, None, ["--config", str(file), "--overwrite"]).output == file.parent
    file.write_text(f"name: x\noutput: {tmp_path / 'other'}\n")
    assert parse(Ranged, None, ["--config", str(file)]).output == tmp_path / "other"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "No such file"),
        ("[1, 2", "is not YAML"),
        ("- 1\n", "expected lines of a flag and its value"),
        ("batch_sise: 3\n", "there is no flag batch_sise; did you mean batch_size?"),
        ("batch_size: many\n", "batch_size cannot be 'many'"),
        ("batch_size: 2.5\n", "batch_size cannot be 2.5"),
        ("batch_size: true\n", "batch_size cannot be True"),
        ("batch_size: null\n", "batch_size cannot be None"),
        ("cache: 3\n", "cache cannot be 3"),
        ("sides: [1, 2, 3]\n", "sides cannot be"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(tmp_path, text, line):
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as error:
        parse(Ranged, None, ["--name", "x", "--config", str(file)])
    assert str(error.value).startswith(f"--config: {file}")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_who_gives_own_videos_and_no_preset_is_told_which_it_is(capsys, monkeypatch):
    monkeypatch.setattr(Config, "in_short", lambda self: f"rate {self.learning_rate}", raising=False)
    for argv in (["--data", "d"], ["--data=d", "--preset", "demo"], [], ["--preset=ucf101", "--data", "d"]):
        assert run(lambda config: 0, Config, PRESETS, argv) == 0
    assert capsys.readouterr().err == "--preset demo: rate 0.5; for others --preset ucf101\n"
