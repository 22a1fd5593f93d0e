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
* ``--row NAME`` likewise, for a program that is given rows: a preset and flags in one name.
* A mistake of the user (a bad flag, a missing file, a :class:`~motionops.errors.UserError`, an operator's complaint
  about a value that came from a flag, a full disk) is one line ``error: ...`` on stderr and exit status 2. Anything
  else is a defect and keeps its traceback; ``MOTIONOPS_TRACEBACK=1`` keeps all of them.
* Ctrl-C ends with exit status 130, without a traceback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shutil
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from motionops.errors import UserError
from motionops.extras import require

Config = TypeVar("Config")
Rows = Callable[[str], Sequence[str]]

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
    return guarded(lambda: main(parse(config_type, presets, argv, prog, rows)))


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
    return None


def parse(
    config_type: type[Config],
    presets: Mapping[str, Config] | None = None,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    rows: Rows | None = None,
) -> Config:
    """Return the ``config_type`` that ``argv`` describes; arguments as in :func:`run`. Raises UserError in one line."""
    try:
        import tyro
    except ImportError as error:
        raise UserError("the trainers need tyro: pip install 'motionops[train]'") from error

    arguments = list(sys.argv[1:] if argv is None else argv)
    default = description = None
    if presets is not None:
        name, arguments = _take(arguments, "--preset")
        row, arguments = (None, arguments) if rows is None else _take(arguments, "--row")
        if row is None:
            name = _default_of(config_type, "preset") if name is None else name
            if name not in presets:
                raise UserError(f"--preset: unknown preset {name!r}; choose one of: {', '.join(presets)}")
            default = dataclasses.replace(presets[name], preset=name)
        else:
            if name is not None:
                raise UserError(f"--preset {name}: --row {row} has a preset of its own, give one of the two")
            default = dataclasses.replace(parse(config_type, presets, rows(row)), row=row)
        description = f"{config_type.__doc__}\n\nPresets: {', '.join(presets)}."
    arguments = _split_commas(config_type, arguments)

    def command_line() -> Config:
        return tyro.cli(
            config_type,
            prog=prog,
            description=description,
            args=arguments,
            # FlagCreatePairsOff: a switch has one spelling, --resume or --no-NAME, not both.
            config=(tyro.conf.FlagCreatePairsOff,),
            **({} if default is None else {"default": default}),
        )

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return command_line()
    except SystemExit as stop:
        if not stop.code:
            raise
    # tyro frames its message to the width of the terminal; a second try on a very wide one gives it unbroken.
    framed = io.StringIO()
    with contextlib.redirect_stderr(framed), contextlib.suppress(SystemExit), _wide_terminal():
        command_line()
    raise UserError(f"{_unframed(framed.getvalue())} (see --help)")


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


def _default_of(config_type: type, field: str) -> str:
    return next(f.default for f in dataclasses.fields(config_type) if f.name == field)


def _take(arguments: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Split ``--preset NAME`` or ``--row NAME`` (the last one rules) off the arguments; None without one."""
    name, rest, position = None, [], 0
    while position < len(arguments):
        argument = arguments[position]
        if argument.startswith(f"{flag}="):
            name = argument.partition("=")[2]
        elif argument == flag:
            position += 1
            if position == len(arguments) or arguments[position].startswith("--"):
                raise UserError(f"{flag}: a name must follow")
            name = arguments[position]
        else:
            rest.append(argument)
        position += 1
    return name, rest


def _split_commas(config_type: type, arguments: list[str]) -> list[str]:
    """Write ``--losses vv,pix`` as ``--losses vv pix`` for the fields that hold several values."""
    several = {f"--{name}" for name, hint in typing.get_type_hints(config_type).items() if _holds_several(hint)}
    split, current = [], None
    for argument in arguments:
        if argument.startswith("--"):
            current, equals, value = argument.partition("=")
            current = current.replace("-", "_").replace("__", "--", 1)
            if equals and current in several:
                split += [argument.partition("=")[0], *value.split(",")]
            else:
                split.append(argument)
        else:
            split += argument.split(",") if current in several else [argument]
    return split


def _holds_several(hint: object) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_holds_several(part) for part in typing.get_args(hint))
    return typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is Ellipsis


@contextlib.contextmanager
def _wide_terminal():
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "4000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _unframed(text: str) -> str:
    """The first paragraph of tyro's framed message, as one line."""
    words = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith(("╭", "╰")):
            continue
        line = line.strip("│ ")
        if line and not line.strip("─"):
            break
        words += line.split()
    return " ".join(words)


def _is_public(name: str) -> bool:
    """Whether a module of the library that is in use has a function of this name."""
    return not name.startswith("_") and any(
        hasattr(module, name) for key, module in list(sys.modules.items()) if key.split(".")[0] == "motionops"
    )
