"""What each row of the papers' tables composes to, beside what its paper says (tests/paper_settings.py)."""

from dataclasses import fields
from importlib import import_module

import pytest

pytest.importorskip("tyro")
pytest.importorskip("lightning")
from motionops.commandline import parse
from motionops.commands.evaluate.program import COMMANDS
from motionops.commands.evaluate.settings import merged_settings
from motionops.commands.train import exported
from motionops.evaluation.protocols.papers import protocol_settings
from motionops.training.config import TrainConfig
from tests.paper_settings import CHANGES, MEASURED_CHANGES, PAPERS, ROWS, of_file, of_measurement, of_training


def measuring(method, command, flags):
    """What a measurement goes by: the flags over the protocol's, over what the backbone's file says."""
    config = parse(COMMANDS[command][1], None, flags)
    stated = protocol_settings(config.protocol, command)
    found = merged_settings(config, stated, of_file(method, config.backbone))
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    return config, {**given, **found, **{name: value for name, value in given.items() if value is not None}}


@pytest.mark.parametrize(("method", "key", "row"), ROWS)
def test_a_row_is_the_papers_experiment(method, key, row):
    command = PAPERS[method].command(key, row)
    if command[1] == "trainers/evaluate.py":
        config, found = measuring(method, command[2], command[3:])
        expected = of_measurement(method, key, row, command[2], config.protocol, config.backbone)
    else:
        package = import_module(f"motionops.methods.{method}")
        found = vars(parse(exported(package, TrainConfig), package.PRESETS, command[2:]))
        expected = of_training(method, key, row, found["preset"])
    wrong = {name: (found[name], value) for name, value in expected.items() if found[name] != value}
    assert not wrong, f"{method} {key}/{row}: (composed, paper) {wrong}"


def test_what_changes_is_of_rows_that_there_are():
    rows = {f"{method} {key}/{row}" for method, key, row in ROWS}
    tables = {name.partition("/")[0] for name in rows}
    assert CHANGES.keys() <= rows | tables
    assert MEASURED_CHANGES.keys() <= rows
