"""Context-Motion Decoupling (Huang et al., CVPR 2021): python trainers/context_motion.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/context_motion.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.paper_tables import rows_of
from motionops.evaluation.monitoring import measure_epoch
from motionops.methods.context_motion import (
    PRESETS,
    ContextMotion,
    ContextMotionConfig,
    conclude,
    find_videos,
    make_dataset,
)
from motionops.training.run import train


def main(config: ContextMotionConfig) -> int:
    """Clips, key frames and motion into the method's losses, and the networks measured when they are learnt from."""
    config.check_backbone()
    return train(config, ContextMotion.for_videos, make_dataset, conclude, find_videos, measure_epoch)


if __name__ == "__main__":
    sys.exit(run(main, ContextMotionConfig, PRESETS, rows=rows_of("context_motion")))
