"""`motionops` and its commands: what is typed wrongly is said in one line."""

import subprocess
import sys

import pytest

from motionops.commands import program
from tests.methods.tiny import NAMES
from tests.runs.runs import ROOT, environment


def said(capsys, *arguments):
    status = program.main([*arguments])
    return status, capsys.readouterr()


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "a command is missing; choose one of: train, evaluate, prepare, info"),
        (["learn"], "unknown command 'learn'; choose one of: train, evaluate, prepare, info"),
        (["train"], f"a method is missing; choose one of: {', '.join(sorted(NAMES))}"),
        (["train", "simclr"], f"unknown method 'simclr'; choose one of: {', '.join(sorted(NAMES))}"),
        (["train", "moco", "--momentum", "2"], "--momentum: must be in [0, 1], got 2.0"),
        (["train", "context-motion", "--alpha", "2"], "--alpha: must be in [0, 1], got 2.0"),
        (["evaluate"], "a command is missing; choose one of: retrieval, linear,"),
        (["prepare", "motion", "--output", "x"], "name the videos with --data or --list"),
        (["info", "all"], "motionops info: takes no arguments, got all"),
    ],
)
def test_what_is_typed_wrongly_is_one_line(capsys, arguments, line):
    status, text = said(capsys, *arguments)
    assert status == 2
    assert text.err.startswith(f"error: {line}")
    assert text.err.count("\n") == 1


def test_help_lists_commands_and_methods(capsys):
    status, text = said(capsys, "--help")
    assert status == 0
    assert all(f"  {name} " in text.out for name in program.COMMANDS)
    status, text = said(capsys, "train", "--help")
    assert status == 0
    assert "  moco " in text.out
    assert "He et al., CVPR 2020" in text.out


def test_it_runs_as_a_module_with_threads_that_wait_asleep(tmp_path):
    """OpenMP is told before torch loads it, in this process started anew."""
    code = "import os, motionops.commands.train as t; t.main = lambda a: print(os.environ['OMP_WAIT_POLICY'], a) or 0\n"
    code += "import motionops.commands.program as p; p.main(['train', 'moco', '--seed', '1'])"
    line = [sys.executable, "-c", code]
    unset = {name: value for name, value in environment().items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(line, env=unset, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout == "passive ['moco', '--seed', '1']\n", done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "motionops", "info"], env=unset, cwd=ROOT, capture_output=True, text=True
    )
    assert "built with torch" in done.stdout
