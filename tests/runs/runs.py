"""What tests of whole runs share: command lines, logged numbers, a run that is killed, one of several processes."""

import csv
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import torch

from motionops.commandline import EXIT_USER_ERROR, run
from motionops.flags import idle
from tests.several_ranks import ready_to_fork

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
WITHOUT_BATCHNORM = "tests/runs/run_without_batchnorm.py"


def logged(folder, names):
    """The rows of metrics.csv, those of the columns that are there."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: row[name] for name in names if name in row} for row in csv.DictReader(file)]


def command(config, trainer, *more):
    """The command line of a configuration: what it has otherwise than the trainer without flags, and what counts."""
    usual, line, silent = import_module(f"trainers.{trainer}").PRESETS["demo"], [], idle(config)
    for name, value in ((each.name, getattr(config, each.name)) for each in fields(config)):
        if value != getattr(usual, name) and name not in silent:
            no = "no-" if value is False else ""
            values = value if isinstance(value, tuple) else (value,) if not isinstance(value, bool) else ()
            line += [f"--{no}{name.replace('_', '-')}", *map(str, values)]
    return [sys.executable, str(ROOT / "trainers" / f"{trainer}.py"), *line, *more]


def environment(**more):
    """What a run is started with. Exact comparisons are the CPU's, and one GPU is too few for two processes."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def finished(line):
    """Run a command line to its end, which must be a good one."""
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def run_script(line, environment, errors):
    """In a process that has imported torch already: what `python script …` would do in a session of its own."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    sys.argv = line
    runpy.run_path(line[0], run_name="__main__")


def interrupted(line, output, steps, number=signal.SIGKILL, group=False, moment=lambda done: True):
    """Start a run, send it a signal when it has logged so many steps, and return its exit status and text.

    `group`: to all processes, its workers too, as a terminal's Ctrl-C and a batch system do.
    `moment`: whether it is time, of the steps that are logged.
    """
    errors = output.with_name(f"{output.name}.errors")
    given = (line[1:], environment(OMP_WAIT_POLICY="passive"), errors)
    process = ready_to_fork().Process(target=run_script, args=given)
    process.start()
    metrics, end = output / "metrics.csv", time.monotonic() + 240
    while time.monotonic() < end and process.is_alive():
        done = len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0
        if done >= steps and moment(done):
            break
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process.pid, number)
    process.join(240)
    assert not process.is_alive()
    return process.exitcode, errors.read_text()


def refused(capsys, trainer, *arguments):
    """The one line with which a trainer refuses a command line."""
    line = [str(argument) for argument in arguments]
    status = run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS, line)
    text = capsys.readouterr().err
    assert status == EXIT_USER_ERROR
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, text
    assert "Traceback" not in text
    return errors[0]
