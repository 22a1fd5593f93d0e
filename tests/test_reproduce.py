"""Every command in docs/reproduce.md is one that the programs, as they are, would run."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("tyro")
pytest.importorskip("lightning")
from motionops.commandline import parse

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "reproduce.md").read_text()
CONFIGS = {"fima.py": "FIMAConfig", "mcl.py": "MCLConfig", "modist.py": "MoDistConfig"}
CONFIGS |= {"controllable.py": "ControllableConfig", "context_motion.py": "ContextMotionConfig"}
COMMANDS = re.findall(r"`(python trainers/[^`]+)`", TEXT)


def program(name):
    spec = importlib.util.spec_from_file_location(f"reproduce_{Path(name).stem}", ROOT / "trainers" / name)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up to resolve annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def programs():
    return {name: program(name) for name in ("evaluate.py", *CONFIGS)}


def test_there_are_commands():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_command_parses(command, programs, tmp_path):
    _, script, *argv = shlex.split(command)
    module = programs[Path(script).name]
    if Path(script).name == "evaluate.py":
        config = parse(module.COMMANDS[argv[0]][1], None, argv[1:])
        assert config.output != type(config).output
    else:
        config = parse(getattr(module, CONFIGS[Path(script).name]), module.PRESETS, argv)
        assert config.preset == argv[argv.index("--preset") + 1]
        if getattr(config, "init", None) is not None:
            config.init = tmp_path / config.init.name  # a file that others distribute
            config.init.touch()
        module.check(config)  # and the flags do not contradict each other


def test_every_row_has_all_its_columns():
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block.splitlines()[0]


TABLES = {
    "FIMA": ["1", "2", "3a", "3b", "3c", "3d", "3e", "3f", "4", "5", "6", "7", "8", "9", "10", "11"],
    "MCL": ["1", "2", "3", "4", "5"],
    "MoDist": ["2", "3a", "3b", "3c", "3d", "4", "5", "6"],  # 1 is the network
    "Controllable Augmentations": ["1", "2", "3", "4", "5", "6", "7"],
    "Context-Motion Decoupling": ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
}


@pytest.mark.parametrize("method", TABLES)
def test_every_table_of_the_paper_is_there(method):
    section = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{method}\n")]
    assert re.findall(r"^### Table (\w+)", text, flags=re.MULTILINE) == TABLES[method]
