"""``python -m motionops.video.prepare COMMAND``: one file a command."""

from __future__ import annotations

import sys

from motionops.commandline import run_commands
from motionops.video.prepare import flow_edges, motion, reencode

COMMANDS = {
    "motion": (motion.main, motion.MotionConfig),
    "flow-edges": (flow_edges.main, flow_edges.FlowEdgesConfig),
    "reencode": (reencode.main, reencode.ReencodeConfig),
}

if __name__ == "__main__":
    sys.exit(run_commands(COMMANDS, "Compute what a training reads of a set of videos once.", prog="prepare"))
