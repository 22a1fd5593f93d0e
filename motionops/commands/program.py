"""``motionops train|evaluate|prepare|info``: what is installed with the package."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module

from motionops.commandline import EVALUATION_PARTS, TRAINER_PARTS, guarded, usage
from motionops.errors import UserError
from motionops.extras import require

# name -> (module with `main(arguments) -> int`, imported when it is asked for; parts that it needs; what it does)
COMMANDS = {
    "train": ("motionops.commands.train", TRAINER_PARTS, "Learn from unlabelled videos with one of the methods."),
    "evaluate": ("motionops.commands.evaluate.program", EVALUATION_PARTS, "Measure what a backbone has learnt."),
    "prepare": ("motionops.commands.prepare", ("av", "tyro"), "Compute what a training reads of a set of videos once."),
    "info": ("motionops.info", (), "Say what this installation is, for a bug report."),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; by default those of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in ("-h", "--help"):
        print(
            usage("motionops COMMAND", "Learn what moves in videos.", {n: text for n, (*_, text) in COMMANDS.items()})
        )
        return 0

    def chosen() -> Callable[[list[str]], int | None]:
        if not arguments or arguments[0] not in COMMANDS:
            said = f"unknown command {arguments[0]!r}" if arguments else "a command is missing"
            raise UserError(f"{said}; choose one of: {', '.join(COMMANDS)}")
        module, parts, _ = COMMANDS[arguments[0]]
        require(f"motionops {arguments[0]}", *parts)
        return import_module(module).main

    if arguments and arguments[0] in ("train", "evaluate"):
        wait_passively()
    return guarded(lambda: chosen()(arguments[1:]))


def wait_passively() -> None:
    """Start this process anew with OpenMP's threads told to sleep while they wait, which must be said before torch
    loads them: spinning, on cores that decoding shares, they made a step five to ten times slower."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
