"""Whether a run may go on from a checkpoint, and its going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motionops.commandline import flag, say
from motionops.errors import UserError
from motionops.flags import free_to_change, idle
from motionops.training.checkpoint import PREVIOUS, read_checkpoint
from motionops.training.method import Method


def resume(module: Method, path: Path, note: dict[str, Any]) -> bool:
    """Load last.ckpt into the module; False (and a line that says so) where there is none yet."""
    if not path.exists() and not path.with_name(PREVIOUS).exists():
        say(f"--resume: there is no {path} yet; the run starts")
        return False
    checkpoint = read_checkpoint(path)
    # What says nothing beside the other flags said nothing then, or one of those differs too.
    before, free = checkpoint["motionops"], free_to_change(type(module.config)) | idle(module.config).keys()
    for name, value in note["config"].items():
        former = before["config"].get(name, value)
        if name not in free and former != value:
            raise UserError(f"--resume: {path} was made with {flag(name)} {former}, now it is {value}")
    if before["videos"] != note["videos"]:
        raise UserError(f"--resume: {path} was made of {before['videos']}; now they are {note['videos']}")
    module.resume_from(checkpoint)
    say(f"continuing after step {module.step} of {path}")
    return True
