"""Every flag of every program is looked at somewhere. What a method's steps ask for: tests/methods/watched.py."""

import ast
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

pytest.importorskip("tyro")
pytest.importorskip("lightning")
import motionops.methods
from motionops.commands import prepare
from motionops.commands.evaluate import program
from motionops.commands.train import exported
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.training.config import TrainConfig

ROOT = Path(__file__).parent.parent / "motionops"
METHODS = [import_module(f"motionops.methods.{each.name}") for each in iter_modules(motionops.methods.__path__)]
PROGRAMS = [exported(method, TrainConfig) for method in METHODS]
PROGRAMS += [config for commands in (program.COMMANDS, prepare.COMMANDS) for _, config in commands.values()]


class Asked(ast.NodeVisitor):
    """Names that are read of an object, or are an argument's or a setting's; those of a check are none."""

    def __init__(self):
        self.names = set()

    def visit_FunctionDef(self, node):
        if node.name != "check":
            self.generic_visit(node)

    def visit_AnnAssign(self, node):
        """A field's declaration: what its annotation says of others is no use of it."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Attribute(self, node):
        if isinstance(node.ctx, ast.Load):
            self.names.add(node.attr)
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.names.add(node.value)

    def visit_keyword(self, node):
        self.visit(node.value)


@pytest.fixture(scope="module")
def asked():
    visitor = Asked()
    for file in ROOT.rglob("*.py"):
        visitor.visit(ast.parse(file.read_text()))
    return visitor.names


@pytest.mark.parametrize("config", [*PROGRAMS, FinetuneConfig], ids=lambda config: config.__name__)
def test_every_flag_is_looked_at(asked, config):
    names = [
        field.name for field in fields(config) if not field.name.startswith("weight_")
    ]  # Method.weight makes those
    silent = [name for name in names if name not in asked]
    assert not silent, f"nothing looks at {silent}"
