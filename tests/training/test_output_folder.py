"""Where a run writes: nothing of anybody is lost, and two runs never share a folder."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessRaisedException

from motionops.errors import UserError
from motionops.training import output_folder
from motionops.training.output_folder import CONFIG, MARK, choose_folder, held, remove_run
from tests.several_ranks import in_processes

ROOT = Path(__file__).parents[2]
DEFAULT = Path("elsewhere")


def choose(output, default=DEFAULT, resume=False, overwrite=False):
    return choose_folder(output, default, resume=resume, overwrite=overwrite)


def a_run(folder, steps=30):
    """What a run leaves, with something of somebody else in it."""
    for name in ("report", "tensorboard"):
        (folder / name).mkdir(parents=True)
    (folder / CONFIG).write_text(f"{MARK}\nseed: 0\n")
    for name in ("last.ckpt", "metrics.json", "motion_backbone.safetensors", "report/training.png"):
        (folder / name).write_text("a run's")
    (folder / "tensorboard" / "events.out.tfevents.1").write_text("a run's")
    (folder / "metrics.csv").write_text("step,loss\n" + "".join(f"{step},1.0\n" for step in range(1, steps + 1)))
    (folder / "thesis.tex").write_text("mine")
    (folder / "report" / "thesis.tex").write_text("mine")
    return folder


def test_a_named_folder_that_holds_a_run_is_refused(tmp_path):
    folder = a_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"^--output: .*run holds a run of 30 steps; --resume, --overwrite or another"):
        choose(folder)
    assert choose(folder, resume=True) == choose(folder, overwrite=True) == folder
    with pytest.raises(UserError, match="--resume, --overwrite: one goes on"):
        choose(folder, resume=True, overwrite=True)


def test_a_folder_of_other_files_is_never_taken(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for flags, words in (
        ({}, "--output: .* holds thesis.tex, which no run wrote; name another folder"),
        ({"resume": True}, "--resume: .* holds no run but thesis.tex"),
        ({"overwrite": True}, "--overwrite: .* holds no run but thesis.tex"),
    ):
        with pytest.raises(UserError, match=words):
            choose(tmp_path, **flags)
    with pytest.raises(UserError, match=r"--overwrite: .* holds no run but thesis\.tex"):
        choose(tmp_path, tmp_path, overwrite=True)  # nor as the default


def test_empty_and_missing_folders_are_taken(tmp_path):
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        assert choose(tmp_path / "none", **flags) == tmp_path / "none"
        assert choose(tmp_path, **flags) == tmp_path


def test_beside_a_default_that_is_taken_lies_the_next(tmp_path, capsys):
    default = tmp_path / "fima"
    assert choose(default, default) == default
    a_run(default)
    assert choose(default, default) == tmp_path / "fima-2"
    assert (
        capsys.readouterr().err == f"--output: {default} holds a run of 30 steps; this run is written to {default}-2\n"
    )
    a_run(tmp_path / "fima-2")
    assert choose(default, default) == tmp_path / "fima-3"
    assert choose(default, default, overwrite=True) == default


def test_resume_goes_on_with_the_newest(tmp_path, capsys):
    default = tmp_path / "fima"
    assert choose(default, default, resume=True) == default  # a new run
    for age, name in ((100, "fima"), (0, "fima-2"), (50, "fima-3")):
        for path in a_run(tmp_path / name, steps=age + 1).iterdir():
            os.utime(path, (10**9 - age, 10**9 - age))
    assert choose(default, default, resume=True) == tmp_path / "fima-2"
    assert "going on with" in capsys.readouterr().err
    a_run(tmp_path / "fima-2-mine", steps=1)  # the newest, and no run of the default
    shutil.rmtree(tmp_path / "fima")  # a gap hides none
    assert choose(default, default, resume=True) == tmp_path / "fima-2"


def test_a_run_that_was_killed_before_its_first_checkpoint_is_one(tmp_path):
    (tmp_path / CONFIG).write_text(f"{MARK}\n")
    assert choose(tmp_path, resume=True) == tmp_path
    with pytest.raises(UserError, match="holds a run; --resume"):
        choose(tmp_path)


def test_only_what_a_run_wrote_is_removed(tmp_path):
    folder = a_run(tmp_path / "run")
    remove_run(folder)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {"thesis.tex", "report/thesis.tex"}
    assert not (folder / "tensorboard").exists()


def test_a_config_that_no_run_wrote_marks_nothing(tmp_path):
    (tmp_path / CONFIG).write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"holds no run but config\.yaml"):
        choose(tmp_path, overwrite=True)


def test_a_reader_that_outlives_its_run_holds_nothing(tmp_path):
    """A killed run can be resumed at once, though its readers live some seconds more."""
    code = "import sys, os, time, pathlib, motionops.training.output_folder as folder\n"
    code += "with folder.held(pathlib.Path(sys.argv[1])):\n"
    code += "    if os.fork() == 0: print('there', flush=True); time.sleep(30); os._exit(0)\n"
    code += "    time.sleep(30)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"there\n"
    with pytest.raises(UserError, match="another run is writing"), held(tmp_path):
        pass
    process.kill()
    process.wait()
    with held(tmp_path):
        pass


def test_a_file_system_without_locks_is_written_on(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(output_folder.fcntl, "flock", no_locks)
    with held(tmp_path):
        (tmp_path / "last.ckpt").write_text("")


def test_an_error_inside_is_its_own(tmp_path):
    with pytest.raises(BlockingIOError), held(tmp_path):
        raise BlockingIOError


def test_a_strangers_files_of_like_names_stay(tmp_path):
    folder = a_run(tmp_path / "run")
    (folder / "old_backbone.safetensors").write_text("mine")
    remove_run(folder)
    assert (folder / "old_backbone.safetensors").exists()


def hold(_rank: int, folder: Path) -> None:
    with held(folder):
        pass


def test_two_runs_do_not_share_a_folder(tmp_path):
    refused = pytest.raises(ProcessRaisedException, match=f"UserError: --output: another run is writing in {tmp_path}")
    with held(tmp_path), refused:
        in_processes(hold, tmp_path, size=1)
    in_processes(hold, tmp_path, size=1)
