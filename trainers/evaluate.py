"""Measure a backbone: python trainers/evaluate.py retrieval --backbone FILE --data DIR ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that decoding could use.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, lacking, run_commands

if lacking("trainers/evaluate.py", "av", "safetensors", "torchvision", "tyro"):
    sys.exit(EXIT_USER_ERROR)

from motionops.evaluation.commands.compare import Compare, compare
from motionops.evaluation.commands.finetune import Finetune, measure_finetune
from motionops.evaluation.commands.linear import SVM, Linear, measure_linear, measure_svm
from motionops.evaluation.commands.lowshot import LowShot, measure_lowshot
from motionops.evaluation.commands.pictures import Pictures, draw_pictures
from motionops.evaluation.commands.retrieval import Retrieval, measure_retrieval

COMMANDS = {
    "retrieval": (measure_retrieval, Retrieval),
    "linear": (measure_linear, Linear),
    "svm": (measure_svm, SVM),
    "finetune": (measure_finetune, Finetune),
    "lowshot": (measure_lowshot, LowShot),
    "pictures": (draw_pictures, Pictures),
    "compare": (compare, Compare),
}

if __name__ == "__main__":
    sys.exit(run_commands(COMMANDS, "Measure what a backbone has learnt."))
