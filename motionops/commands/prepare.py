"""``motionops prepare COMMAND``: one file a command."""

from __future__ import annotations

from motionops.commandline import run_commands
from motionops.commands.split import Split, write_split
from motionops.motion.prepare import count, flow, flow_edges, join, motion, reencode

COMMANDS = {
    "count": (count.main, count.CountConfig),
    "motion": (motion.main, motion.MotionConfig),
    "flow": (flow.main, flow.FlowConfig),
    "flow-edges": (flow_edges.main, flow_edges.FlowEdgesConfig),
    "reencode": (reencode.main, reencode.ReencodeConfig),
    "join": (join.main, join.JoinConfig),
    "split": (write_split, Split),
}


def main(arguments: list[str]) -> int:
    """Run the command that the first argument names."""
    about = "Compute what a training reads of a set of videos once."
    return run_commands(COMMANDS, about, arguments, "motionops prepare")
