"""What --help says of a flag: the text below its field, the range that its annotation holds, its default."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from contextlib import AbstractContextManager
from functools import partial
from typing import Annotated, Any


def help_of(config_type: type) -> AbstractContextManager:
    """While it lasts, tyro describes the flags of a config as this module says."""
    import tyro
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

    registry, hints = ConstructorRegistry(), typing.get_type_hints(config_type, include_extras=True)
    texts = field_texts(config_type)

    @registry.struct_rule
    def rule(info: Any) -> StructConstructorSpec | None:
        if info.type is not config_type:
            return None
        fields = []
        for field in dataclasses.fields(config_type):
            default = getattr(info.default, field.name, field.default)
            switch = default is True
            said = tyro.conf.arg(
                help=f"Do not: {texts.get(field.name, '')}" if switch else texts.get(field.name),
                help_behavior_hint=partial(behaviour, hints[field.name]),
            )
            default = tyro.MISSING_NONPROP if default is dataclasses.MISSING else default
            fields.append(StructFieldSpec(name=field.name, type=Annotated[hints[field.name], said], default=default))
        return StructConstructorSpec(instantiate=config_type, fields=tuple(fields))

    return registry


def behaviour(hint: Any, default: str) -> str:
    """The range of a flag and its default, in brackets. A switch that is on is called by its "--no-" form."""
    words = [mark.words for mark in getattr(hint, "__metadata__", ()) if hasattr(mark, "words")]
    ranges = [word.removeprefix("must be ").replace("must not be", "not") for word in words]
    default = "on" if default == "True" else default
    return f"({'; '.join([*ranges, f'default: {default}'])})"


def field_texts(config_type: type) -> dict[str, str]:
    """The docstrings under the fields of a dataclass and of those that it is made from, each as one line."""
    texts: dict[str, str] = {}
    for kind in reversed(config_type.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, TypeError):  # typed into an interpreter
            continue
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                texts[field.target.id] = " ".join(text.value.value.split())
    return texts
