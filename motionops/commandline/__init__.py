"""The command line that all trainers and ``trainers/evaluate.py`` share.

A program is one typed dataclass, one function and a table of presets::

    @dataclass
    class Config:
        '''What the program does: the first lines of --help.'''

        preset: str = "demo"
        '''Named set of defaults.'''
        row: str = ""
        '''Row of a table whose flags are the defaults.'''
        data: Path | None = None
        '''Folder of videos.'''
        resume: bool = False
        '''Continue from last.ckpt.'''
        losses: tuple[Literal["vv", "pix", "fra"], ...] = ("vv", "pix", "fra")
        '''Losses that are trained.'''

    PRESETS = {"demo": Config(), "ucf101": Config(preset="ucf101", losses=("vv",))}

    def main(config: Config) -> None: ...

    if __name__ == "__main__":
        sys.exit(run(main, Config, PRESETS))

What it promises to the person who types:

* ``--preset NAME`` chooses the defaults, wherever it stands on the line; other flags override them, and ``--help``
  shows the defaults of the preset that was named. A boolean that is off by default is a bare flag (``--resume``),
  one that is on by default is switched off with ``--no-NAME``. Flags that take several values take them with spaces
  or commas (``--losses vv pix``, ``--losses vv,pix``). A docstring under a field is its help text.
* ``--row NAME`` likewise, for a program that is given rows: a preset and flags in one name. ``--config FILE`` likewise:
  the config.yaml of a run, or any YAML file of flags and values.
* ``--help`` says of each flag what it takes: the range that its annotation holds (:mod:`motionops.flags`).
* Where ``--data`` comes without ``--preset``, a line says which preset that is, if the config has ``in_short()``.
* A mistake of the user (a bad flag, a missing file, a :class:`~motionops.errors.UserError`, an operator's complaint
  about a value that came from a flag, a full disk) is one line ``error: ...`` on stderr and exit status 2. Anything
  else is a defect and keeps its traceback; ``MOTIONOPS_TRACEBACK=1`` keeps all of them.
* Ctrl-C ends with exit status 130, without a traceback.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from motionops.commandline.parsing import PRESET_FLAGS, Rows, parse
from motionops.errors import UserError
from motionops.extras import require
from motionops.ranks import environment_rank, lost_rank

__all__ = [
    "EVALUATION_PARTS",
    "EXIT_INTERRUPTED",
    "EXIT_USER_ERROR",
    "LARGEST_SEED",
    "TRAINER_PARTS",
    "existing_file",
    "existing_folder",
    "flag",
    "guarded",
    "lacking",
    "parse",
    "run",
    "run_commands",
    "say",
    "usage",
    "user_message",
    "warn",
    "writable_folder",
]

Config = TypeVar("Config")

# How torch's DataLoader begins the text of an error that a worker process raised; a traceback follows, its last line
# is the error.
FROM_WORKER = "Caught "

# What the trainers are built on beside torch and NumPy.
TRAINER_PARTS = ("av", "lightning", "matplotlib", "safetensors", "tensorboard", "torchvision", "tqdm", "tyro", "yaml")

EVALUATION_PARTS = ("av", "safetensors", "torchvision", "tyro")  # likewise evaluations of frozen features

LARGEST_SEED = 2**32 - 1  # that NumPy and Lightning take

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # what shells report for SIGINT: 128 + 2


def run(
    main: Callable[[Config], int | None],
    config_type: type[Config],
    presets: Mapping[str, Config] | None = None,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    rows: Rows | None = None,
) -> int:
    """Parse the command line, call ``main(config)`` and turn the user's errors into one line each.

    Args:
        main: the program. Its return value is the exit status (None counts as 0).
        config_type: a dataclass, one field a flag.
        presets: name -> config. The default preset is the default of the field ``preset``. None: no presets.
        argv: arguments without the program's name; by default those of the process.
        prog: the program's name in --help; by default the script's file name.
        rows: name -> the flags that ``--row NAME`` stands for, among them ``--preset``; UserError for an unknown name.

    Returns:
        The exit status, for ``sys.exit``. ``--help`` raises SystemExit(0), as argparse does.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)

    def program() -> int | None:
        config = parse(config_type, presets, arguments, prog, rows)
        if presets and not any(word.partition("=")[0] in PRESET_FLAGS for word in arguments):
            _say_preset(config, presets)
        return main(config)

    return guarded(program)


def run_commands(
    commands: Mapping[str, tuple[Callable[[Config], int | None], type[Config]]],
    description: str,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
) -> int:
    """Like :func:`run` for a program with subcommands; ``commands`` maps a name to (main, config type)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prog = prog or Path(sys.argv[0]).name
    names = ", ".join(commands)
    if arguments and arguments[0] in ("-h", "--help"):
        about = {name: (config.__doc__ or "").strip().splitlines()[0] for name, (_, config) in commands.items()}
        print(usage(f"{prog} COMMAND", description, about))
        return 0

    def choose() -> int | None:
        if not arguments:
            raise UserError(f"a command is missing; choose one of: {names}")
        if arguments[0] not in commands:
            raise UserError(f"unknown command {arguments[0]!r}; choose one of: {names}")
        main, config_type = commands[arguments[0]]
        return main(parse(config_type, None, arguments[1:], f"{prog} {arguments[0]}"))

    return guarded(choose)


def usage(line: str, description: str, about: Mapping[str, str]) -> str:
    """The --help of a program with subcommands; ``about`` says what each of them does."""
    width = max(12, *map(len, about))
    listed = [f"  {name:<{width}} {text}" for name, text in about.items()]
    return "\n".join([f"usage: {line} [--help] ...\n\n{description}\n\ncommands:", *listed])


def guarded(program: Callable[[], int | None]) -> int:
    """Call ``program`` and return its exit status; errors that are the user's print one line and give status 2."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names of files may be no text
    try:
        return program() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        message = user_message(error)
        if message is None or os.environ.get("MOTIONOPS_TRACEBACK") == "1":
            raise
        print(f"error: {message}", file=sys.stderr)
        return EXIT_USER_ERROR


def lacking(program: str, *modules: str) -> bool:
    """Whether a module that ``program`` is built on is missing; then one line on stderr says what to install.

    For the top of a script, before the imports that would fail: ``if lacking(...): sys.exit(EXIT_USER_ERROR)``.
    """
    try:
        require(program, *modules)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return True
    return False


def user_message(error: BaseException) -> str | None:
    """The one line that tells the user what to mend, or None where the error is a defect of the program."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    if isinstance(error, UserError):
        if first.startswith(FROM_WORKER):
            lines = [lines[-1].partition(": ")[2]]
        return " ".join(line.strip() for line in lines)
    if isinstance(error, OSError) and error.errno is not None:
        # A folder without permission, a full disk: the system's own words and the path.
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    if isinstance(error, (ValueError, TypeError, RuntimeError)):
        # Operators and public functions name themselves first ("queue_infonce: temperature must be ..."). Where the
        # program makes the tensors, what they complain about came from a flag.
        name = re.match(r"(\w+): ", first)
        if name and _is_public(name.group(1)):
            return first
    if isinstance(error, ImportError) and "pip install" in first:
        return first
    if isinstance(error, RuntimeError) and (said := lost_rank(error)):
        return (
            f"another process of the run has ended or cannot be reached ({said}), and this one ends too: the other one "
            "says why, on its machine; a run is continued by the same command with --resume"
        )
    return None


def writable_folder(folder: str | os.PathLike, flag: str = "--output", minimum_free: int = 0) -> Path:
    """Make ``folder`` and check, by writing, that files can be written in it.

    Args:
        folder: the folder; parents are made.
        flag: the flag that named it, for the error.
        minimum_free: bytes that must be free on its disk.

    Raises:
        UserError: it cannot be made or written, or the disk is too full; one line with flag, path and reason.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable"):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{flag}: cannot write in {folder}: {error.strerror or error}") from error
    if free < minimum_free:
        raise UserError(
            f"{flag}: {folder}: {free / 2**20:.0f} MiB are free on this disk, {minimum_free / 2**20:.0f} MiB are needed"
        )
    return folder


def existing_folder(folder: str | os.PathLike, flag: str = "--data") -> Path:
    """Return ``folder`` as a Path; UserError (one line) where it is missing or no folder."""
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{flag}: there is no folder {folder}")
    if not folder.is_dir():
        raise UserError(f"{flag}: {folder} is not a folder")
    return folder


def existing_file(file: str | os.PathLike, flag: str) -> Path:
    """Return ``file`` as a Path; UserError (one line) where it is missing or no file."""
    file = Path(file)
    if not file.exists():
        raise UserError(f"{flag}: there is no file {file}")
    if not file.is_file():
        raise UserError(f"{flag}: {file} is not a file")
    return file


def warn(message: str) -> None:
    """Print ``warning: message`` on stderr, as one line."""
    print(f"warning: {' '.join(message.split())}", file=sys.stderr)


def flag(name: str) -> str:
    """A field's name as it is typed."""
    return f"--{name.replace('_', '-')}"


def say(text: str) -> None:
    """A line for the person who watches, on stderr, where the bar is."""
    print(text, file=sys.stderr, flush=True)


def _say_preset(config: Any, presets: Mapping[str, Any]) -> None:
    """A line that says what one's own videos are trained with where nobody chose it; the first process says it."""
    if getattr(config, "data", None) is None or not hasattr(config, "in_short") or environment_rank():
        return
    others = ", ".join(name for name in presets if name != config.preset)
    say(f"--preset {config.preset}: {config.in_short()}; for others --preset {others}")


def _is_public(name: str) -> bool:
    """Whether a module of the library that is in use has a function of this name."""
    return not name.startswith("_") and any(
        hasattr(module, name) for key, module in list(sys.modules.items()) if key.split(".")[0] == "motionops"
    )
