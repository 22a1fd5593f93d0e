"""``evaluate.py pictures``: what a backbone looks at, as PNGs and as one report.html."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import torch

from motionops.commandline import existing_folder, warn
from motionops.commands.evaluate.flags import FrozenMeasurement
from motionops.commands.evaluate.inputs import Inputs, measurement_inputs, require_frames
from motionops.commands.evaluate.settings import frozen_settings
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.pictures.book.chapters import write_book
from motionops.evaluation.pictures.book.subject import PictureSubject, RunParts
from motionops.evaluation.pictures.drawing import DOTS_PER_INCH, drawn_for
from motionops.evaluation.protocols.class_titles import class_titles, titled
from motionops.extras import require
from motionops.files import damage
from motionops.flags import AtLeast


@dataclass
class Pictures(FrozenMeasurement):
    """Draw what a backbone looks at and what it finds alike; one report.html holds all."""

    output: Path = Path("runs/pictures")
    """Folder for report.html and the PNGs."""
    run: Path | None = None
    """Folder of the training's run, for its curves, its own pictures and FIMA's decoder; by default the backbone's."""
    shown: Annotated[int, AtLeast(1)] = 6
    """Test videos whose frames are drawn."""
    dpi: Annotated[int, AtLeast(20)] = DOTS_PER_INCH
    """Dots per inch of the PNGs; a printed page wants 300."""
    svg: bool = False
    """Write an SVG beside each PNG, for a paper."""
    beside: str | None = None
    """Another backbone, named as --backbone is: where it is active and what its answers rest on is drawn beside."""


def draw_pictures(config: Pictures) -> None:
    require("pictures", "matplotlib", "sklearn")
    run = existing_folder(config.run, "--run") if config.run is not None else _folder_of(config.backbone)
    inputs = measurement_inputs(config, "pictures")
    require_frames(inputs, config.backbone)
    # Both lists by name or both by number: their classes are compared.
    named = titled([*inputs.train, *inputs.test], _titles(config))
    common = {"shown": config.shown, "seed": config.seed, "strict": config.strict}
    lists = named[: len(inputs.train)], named[len(inputs.train) :]

    def subject_of(one: Inputs, name: str, **more: Any) -> PictureSubject:
        settings = frozen_settings(config, one.backbone, one.settings, together=False)
        return PictureSubject(one.backbone, *lists, settings, name=name, **common, **more)

    beside = None
    if config.beside is not None:
        other = measurement_inputs(replace(config, backbone=config.beside), "pictures")
        require_frames(other, config.beside)
        beside = subject_of(other, config.beside)
    parts = None if run is None else _parts_of(run)
    subject = subject_of(inputs, config.backbone, run=run, parts=parts, beside=beside)
    for line in collapse_warnings(subject.train.features, subject.test.features):
        warn(line)
    with drawn_for(config.dpi, config.svg):
        name = "/".join(Path(config.backbone).parts[-2:])
        page, pictures = write_book(subject, config.output, f"What {name} sees")
    print(f"written: {page} and {pictures} pictures beside it")


def _titles(config: Pictures) -> dict[str, str]:
    """The names of classes that lie with the data or beside the list."""
    folders = [config.data, Path(config.train).parent if config.train else None]
    return next((titles for folder in folders if folder is not None and (titles := class_titles(folder))), {})


def _folder_of(backbone: str) -> Path | None:
    """The folder of a backbone's file, where that is the folder of a run."""
    file = Path(backbone.rpartition(":")[2])
    folder = file.parent
    is_run = file.is_file() and any((folder / name).exists() for name in ("metrics.csv", "last.ckpt", "config.yaml"))
    return folder if is_run else None


def _parts_of(run: Path) -> RunParts | None:
    """What the method of a run adds to the pictures; None where it adds nothing, or has left no checkpoint."""
    if (run / "last.ckpt").is_file() and (wrong := damage(run / "last.ckpt")):
        warn(f"{run / 'last.ckpt'} is damaged ({wrong}): the pictures go without what its method adds")
        return None
    try:
        checkpoint = torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)
        method = checkpoint["motionops"]["method"].rpartition(".")[0]
        chapters = f"{method}.chapters"
        found = find_spec(chapters) is not None
    except (OSError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, UnpicklingError):
        return None
    run_parts = getattr(import_module(chapters), "run_parts", None) if found else None
    return None if run_parts is None else run_parts(run)
