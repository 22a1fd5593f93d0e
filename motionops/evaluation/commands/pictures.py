"""``evaluate.py pictures``: what a backbone looks at, as PNGs and as one report.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from motionops.commandline import existing_folder
from motionops.errors import UserError
from motionops.evaluation.class_titles import class_titles, titled
from motionops.evaluation.commands.flags import FrozenMeasurement
from motionops.evaluation.commands.inputs import frozen_settings, measurement_inputs
from motionops.evaluation.picture_book import chapters
from motionops.evaluation.picture_subject import PictureSubject
from motionops.evaluation.pictures.page import write_page
from motionops.extras import require


@dataclass
class Pictures(FrozenMeasurement):
    """Draw what a backbone looks at and what it finds alike; one report.html holds all."""

    output: Path = Path("runs/pictures")
    """Folder for report.html and the PNGs."""
    run: Path | None = None
    """Folder of the training's run, for its curves, its own pictures and FIMA's decoder; by default the backbone's."""
    shown: int = 6
    """Test videos whose frames are drawn."""


def draw_pictures(config: Pictures) -> None:
    require("pictures", "matplotlib", "sklearn")
    if config.shown < 1:
        raise UserError(f"--shown: must be at least 1, got {config.shown}")
    run = existing_folder(config.run, "--run") if config.run is not None else _folder_of(config.backbone)
    inputs = measurement_inputs(config, "retrieval")
    # Both lists by name or both by number: their classes are compared.
    named = titled([*inputs.train, *inputs.test], _titles(config))
    subject = PictureSubject(
        inputs.backbone,
        named[: len(inputs.train)],
        named[len(inputs.train) :],
        frozen_settings(config, inputs),
        name=config.backbone,
        run=run,
        shown=config.shown,
        seed=config.seed,
        strict=config.strict,
    )
    sections = chapters(subject, config.output)
    name = "/".join(Path(config.backbone).parts[-2:])
    page = write_page(f"What {name} sees", sections, config.output / "report.html")
    print(f"written: {page} and {sum(len(section.pictures) for section in sections)} pictures beside it")


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
