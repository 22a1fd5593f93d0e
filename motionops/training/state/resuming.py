"""Whether a run may go on from a checkpoint, and its beginning or going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motionops.commandline import flag, say
from motionops.errors import UserError
from motionops.flags import free_to_change, idle
from motionops.ranks import is_first
from motionops.training.checkpoint import NAME, PREVIOUS, read_checkpoint
from motionops.training.config import TrainConfig
from motionops.training.data.first_process import has_what_the_first_has
from motionops.training.data.manifest import MANIFEST, TrainingVideos, fingerprint, write_manifest
from motionops.training.method import Method
from motionops.training.run_folder import plain, start_folder


def begin(config: TrainConfig, module: Method, videos: TrainingVideos) -> str:
    """Take up last.ckpt where --resume says so and there is one; write what a run writes at its beginning.

    Returns:
        The fingerprint of the videos.
    """
    note = {"config": plain(config), "videos": fingerprint(videos.usable)}
    module.note_for_resume(note)
    checkpoint = config.output / NAME
    resumed = has_what_the_first_has(checkpoint, config.resume) and config.resume and resume(module, checkpoint, note)
    if is_first():
        start_folder(config.output, config, resumed)
        if not (resumed and (config.output / MANIFEST).exists()):
            write_manifest(config.output / MANIFEST, videos)
    return note["videos"]


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
