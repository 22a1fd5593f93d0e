"""Measure a backbone: python trainers/evaluate.py retrieval --backbone FILE --data DIR ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that decoding could use.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EVALUATION_PARTS, EXIT_USER_ERROR, lacking

if lacking("trainers/evaluate.py", *EVALUATION_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.evaluate.program import COMMANDS, main

__all__ = ["COMMANDS"]

if __name__ == "__main__":
    sys.exit(main(program="evaluate.py"))
