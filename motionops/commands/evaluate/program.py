"""The commands of ``motionops evaluate`` and of ``trainers/evaluate.py``."""

from __future__ import annotations

from motionops.commandline import run_commands
from motionops.commands.evaluate.compare import Compare, compare
from motionops.commands.evaluate.features import Features, write_features
from motionops.commands.evaluate.finetune import Finetune, measure_finetune
from motionops.commands.evaluate.linear import SVM, Linear, measure_linear, measure_svm
from motionops.commands.evaluate.lowshot import LowShot, measure_lowshot
from motionops.commands.evaluate.pictures import Pictures, draw_pictures
from motionops.commands.evaluate.retrieval import Retrieval, measure_retrieval

COMMANDS = {
    "retrieval": (measure_retrieval, Retrieval),
    "linear": (measure_linear, Linear),
    "svm": (measure_svm, SVM),
    "finetune": (measure_finetune, Finetune),
    "lowshot": (measure_lowshot, LowShot),
    "pictures": (draw_pictures, Pictures),
    "features": (write_features, Features),
    "compare": (compare, Compare),
}


def main(arguments: list[str] | None = None, program: str = "motionops evaluate") -> int:
    """Run the command that the first argument names; by default the arguments of the process."""
    return run_commands(COMMANDS, "Measure what a backbone has learnt.", arguments, program)
