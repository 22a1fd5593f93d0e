"""``motionops train METHOD``: the same as ``python trainers/METHOD.py`` from a checkout."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import motionops.methods
from motionops.commandline import run, usage
from motionops.commands.paper_tables import rows_of
from motionops.errors import UserError
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.monitoring import measure_epoch
from motionops.training.config import TrainConfig
from motionops.training.data.two_views import two_views
from motionops.training.data.videos import find_training_videos
from motionops.training.method import Method
from motionops.training.run import train


def main(arguments: list[str]) -> int:
    """Train with the method that the first argument names."""
    names = [module.name for module in iter_modules(motionops.methods.__path__)]
    if arguments and arguments[0] in ("-h", "--help"):
        about = {name: (import_module(f"motionops.methods.{name}").__doc__ or "").strip() for name in names}
        print(usage("motionops train METHOD", "Learn from unlabelled videos.", about))
        return 0
    name = arguments[0].replace("-", "_") if arguments else ""
    if name not in names:
        said = f"unknown method {arguments[0]!r}" if arguments else "a method is missing"
        raise UserError(f"{said}; choose one of: {', '.join(names)}")
    method = import_module(f"motionops.methods.{name}")
    config, prog = exported(method, TrainConfig), f"motionops train {name}"
    return run(main_of(method), config, method.PRESETS, arguments[1:], prog, rows_of(name))


def main_of(method: ModuleType) -> Callable[[TrainConfig], int]:
    """What runs a method, put together from what its package exports: `main(config) -> exit status`."""
    conclude = getattr(method, "conclude", finish)
    find, make_dataset = found_by(method)

    def main(config: TrainConfig) -> int:
        config.check_backbone()
        return train(config, exported(method, Method).for_videos, make_dataset, conclude, find, measure_epoch)

    return main


def found_by(method: ModuleType) -> tuple[Callable, Callable]:
    """What finds a method's videos, and what makes its data set of them; what its package does not say is shared."""
    return getattr(method, "find_videos", find_training_videos), getattr(method, "make_dataset", two_views)


def exported(method: ModuleType, kind: type) -> type:
    """The class of a kind that a method's package exports."""
    classes = [value for name in method.__all__ if inspect.isclass(value := getattr(method, name))]
    return next(each for each in classes if issubclass(each, kind))
