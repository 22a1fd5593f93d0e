"""From the words of a command line to a config; presets, rows of tables and YAML files are defaults."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from motionops.commandline.config_file import read_config
from motionops.commandline.flag_help import help_of
from motionops.errors import UserError

Config = TypeVar("Config")
Rows = Callable[[str], Sequence[str]]

PRESET_FLAGS = ("--preset", "--row", "--config")  # each names a set of defaults


def parse(
    config_type: type[Config],
    presets: Mapping[str, Config] | None = None,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    rows: Rows | None = None,
) -> Config:
    """Return the ``config_type`` that ``argv`` describes; arguments as in :func:`motionops.commandline.run`.

    Raises:
        UserError: in one line.
    """
    try:
        import tyro
    except ImportError as error:
        raise UserError("the trainers need tyro: pip install 'motionops[train]'") from error

    arguments = list(sys.argv[1:] if argv is None else argv)
    file, arguments = _take(arguments, "--config")
    description = f"{config_type.__doc__}\n\n--config FILE takes its flags from a YAML file, as a run's config.yaml."
    default = None
    if presets is not None:
        default, arguments = _chosen_preset(config_type, presets, arguments, rows, file)
        description += f"\n\nPresets: {', '.join(presets)}."
    if file is not None:
        held = read_config(file, config_type, own_folder={"--resume", "--overwrite"} & set(arguments))
        default = dataclasses.replace(default or _without_defaults(config_type, tyro.MISSING), **held)
    arguments = _split_commas(config_type, _without_what_is_so(default or config_type, arguments))

    def command_line() -> Config:
        with help_of(config_type):
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
            config = command_line()
        if default is not None and hasattr(config, "refuse_idle"):
            config.refuse_idle(default)
        return config
    except SystemExit as stop:
        if not stop.code:
            raise
    # tyro frames its message to the width of the terminal; a second try on a very wide one gives it unbroken.
    framed = io.StringIO()
    with contextlib.redirect_stderr(framed), contextlib.suppress(SystemExit), _wide_terminal():
        command_line()
    message = _unframed(framed.getvalue())
    raise UserError(f"{message}{_meant(config_type, message, arguments)} (see --help)")


def _chosen_preset(
    config_type: type[Config], presets: Mapping[str, Config], arguments: list[str], rows: Rows | None, file: str | None
) -> tuple[Config, list[str]]:
    """The defaults that --preset or --row names, or a file's preset, and the arguments without the two."""
    name, arguments = _take(arguments, "--preset")
    row, arguments = (None, arguments) if rows is None else _take(arguments, "--row")
    held = {} if file is None else read_config(file, config_type)
    for one, other in (("preset", name), ("row", row)):
        if other is not None and held.get("preset"):
            raise UserError(f"--{one} {other}: --config {file} has a preset of its own, give one of the two")
    if row is None:
        usual = next(field.default for field in dataclasses.fields(config_type) if field.name == "preset")
        name = held.get("preset", usual) if name is None else name
        if name not in presets:
            raise UserError(f"--preset: unknown preset {name!r}; choose one of: {', '.join(presets)}")
        return dataclasses.replace(presets[name], preset=name), arguments
    if name is not None:
        raise UserError(f"--preset {name}: --row {row} has a preset of its own, give one of the two")
    return dataclasses.replace(parse(config_type, presets, rows(row)), row=row), arguments


def _without_defaults(config_type: type[Config], missing: object) -> Config:
    """A config with its own defaults, and what has none still to be given."""
    fields = [field for field in dataclasses.fields(config_type) if field.default is dataclasses.MISSING]
    return config_type(**{field.name: missing for field in fields})


def _without_what_is_so(default: object, arguments: list[str]) -> list[str]:
    """The arguments without switches that stand as they are typed: tyro knows the other direction alone."""
    fields = [field.name for field in dataclasses.fields(default)]
    so = {f"--{'' if value else 'no-'}{name.replace('_', '-')}" for name in fields
          if isinstance(value := getattr(default, name, None), bool)}  # fmt: skip
    return [word for word in arguments if word.replace("_", "-") not in so]


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


def _meant(config_type: type, message: str, arguments: Iterable[str]) -> str:
    """What those flags look like that nobody knows."""
    if not message.startswith("Unrecognized"):
        return ""
    known = [f"--{name.replace('_', '-')}" for name in (field.name for field in dataclasses.fields(config_type))]
    known += [f"--no-{name[2:]}" for name in known]
    typed = [word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]
    near = [difflib.get_close_matches(word, known, n=1) for word in typed if word not in known]
    found = ", ".join(dict.fromkeys(name for names in near for name in names))
    return f"; did you mean {found}?" if found else ""
