"""``docs/reference.md``: every public name, its signature and its docstring, behind what is written there by hand."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
MARK = "<!-- `make reference` writes what follows. -->\n"

PACKAGES = (
    "motionops",
    *(f"motionops.{name}" for name in ("views", "flow", "contrast", "geometry", "layers", "codec", "ranks")),
    *(f"motionops.{name}" for name in ("video", "video.moving_shapes", "motion", "models")),
    *(f"motionops.{name}" for name in ("evaluation", "evaluation.pictures", "methods")),
    *(f"motionops.methods.{name}" for name in ("context_motion", "controllable", "fima", "mcl", "moco", "modist")),
)

# What has no docstring of its own.
DATA = {
    "BACKBONES": "The backbones by name: what `build_backbone` takes.",
    "BackboneName": "The names of `BACKBONES` as a type.",
    "CLASSES": "The classes of MovingShapes.",
    "ACTS": "The motions of a set of several acts, each of which looks the same at any time.",
    "COLUMNS": "The columns of packed records, as `pack_records` makes them.",
    "IMAGENET_MEAN": "Mean of red, green and blue in 0..1, for networks that began with weights of pictures.",
    "IMAGENET_STD": "The deviations that go with `IMAGENET_MEAN`.",
    "KINETICS_MEAN": "Mean of red, green and blue in 0..1: torchvision's for video, and this library's own default.",
    "KINETICS_STD": "The deviations that go with `KINETICS_MEAN`.",
    "PRESETS": "Name -> configuration: the presets of the command line.",
}


def public_names(package: str) -> list[str]:
    """What a package hands out, constants first."""
    return list(importlib.import_module(package).__all__)


def homes() -> dict[int, str]:
    """Of each public object the first package that hands it out, by identity."""
    first: dict[int, str] = {}
    for package in PACKAGES:
        for name in public_names(package):
            first.setdefault(id(getattr(importlib.import_module(package), name)), f"{package}.{name}")
    return first


def page() -> str:
    """What is written by hand, and the reference."""
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return head + MARK + "\n" + "\n".join(sections())


def sections() -> Iterator[str]:
    first = homes()
    for package in PACKAGES:
        module = importlib.import_module(package)
        yield f"## {package}\n"
        yield f"{inspect.getdoc(module)}\n"
        elsewhere = []
        for name in public_names(package):
            value, whole = getattr(module, name), f"{package}.{name}"
            if inspect.ismodule(value):
                continue  # has a section
            if first[id(value)] == whole:
                yield from entry(whole, value)
            else:
                elsewhere.append(f"`{name}`")
        if elsewhere:
            yield f"Also here, described above: {', '.join(elsewhere)}.\n"


def entry(whole: str, value: Any) -> Iterator[str]:
    """A name's heading, signature and docstring; of a class its methods too."""
    name = whole.rpartition(".")[2]
    yield f"### {whole}\n"
    if name in DATA:
        shown = "" if isinstance(value, dict) or len(repr(value)) > 80 else f" `{value!r}`"
        yield f"{DATA[name]}{shown}\n"
        return
    yield f"```python\n{signature(name, value)}\n```\n"
    yield f"```text\n{inspect.getdoc(value)}\n```\n"
    if inspect.isclass(value):
        for method, function in vars(value).items():
            inner = getattr(function, "__func__", function)
            if method.startswith("_") or not (inspect.isfunction(inner) or isinstance(inner, property)):
                continue
            text = inspect.getdoc(getattr(value, method))
            if text is None or inner.__doc__ is None:
                continue  # torch's or Lightning's own
            said = method if isinstance(inner, property) else signature(method, inner)
            yield f"```python\n{name}.{said}\n```\n"
            yield f"```text\n{text}\n```\n"


def signature(name: str, value: Any) -> str:
    """As it is called. A configuration's fields are flags, which `--help` explains."""
    if dataclasses.is_dataclass(value) and name.endswith("Config"):
        return f"{name}(...)"
    if inspect.isclass(value) and issubclass(value, Exception):
        return name
    said = inspect.signature(value)
    parameters, named = [], False
    for parameter in said.parameters.values():
        if not parameters and parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            parameters.append("*")
        named = named or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parameters.append(written(parameter))
    result = (
        ""
        if inspect.isclass(value) or said.return_annotation is said.empty
        else f" -> {annotation(said.return_annotation)}"
    )
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) <= 116:
        return line
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){result}"])


def written(parameter: inspect.Parameter) -> str:
    """A parameter as it stands in the source."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name
    typed = parameter.annotation is not parameter.empty
    if typed:
        text += f": {annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = getattr(
            parameter.default, "__name__", repr(parameter.default)
        )  # a function's own text has its address
        text += f" = {default}" if typed else f"={default}"
    return text


def annotation(value: Any) -> str:
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return text.replace("torch.nn.modules.module.Module", "nn.Module").replace("torch.Tensor", "Tensor")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
