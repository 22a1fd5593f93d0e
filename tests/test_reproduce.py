"""The papers' tables: each row is a command that the programs would run, as they are, and docs/reproduce.md says it."""

import re
import shlex
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("tyro")
pytest.importorskip("lightning")
from setuptools import Distribution

from build_support.reproduce_page import PAGE, page
from motionops.commandline import guarded, parse
from motionops.commands.evaluate.program import COMMANDS
from motionops.commands.paper_tables import METHODS, NAME, read_paper, rows_of
from motionops.commands.train import exported, main
from motionops.training.config import TrainConfig
from motionops.training.run_folder import start_folder

ROOT = Path(__file__).parent.parent
TEXT = PAGE.read_text()
PAPERS = {file.parent.name: read_paper(file) for file in sorted(METHODS.glob(f"*/{NAME}"))}
TABLES = {
    "fima": "1 2 3a 3b 3c 3d 3e 3f 4 5 6 7 8 9 10 11",
    "mcl": "1 2 3 4 5",
    "modist": "2 3a 3b 3c 3d 4 5 6",  # 1 is the network
    "controllable": "1 2 3 4 5 6 7",
    "context_motion": "1 2 3 4 5 6 7 8 9",
}


def trainer(method):
    """The configuration and the presets of a method."""
    package = import_module(f"motionops.methods.{method}")
    return exported(package, TrainConfig), package.PRESETS


def row(method, name, *argv):
    config, presets = trainer(method)
    return parse(config, presets, ["--row", name, *argv], rows=rows_of(method))


def test_the_page_is_what_the_tables_say():
    assert page() == TEXT, "docs/reproduce.md is old: make reproduce"


def test_every_table_of_the_papers_is_there():
    assert set(PAPERS) == set(TABLES)
    for method, keys in TABLES.items():
        titles = [table.title for table in PAPERS[method].tables.values()]
        assert re.findall(r"^Table (\w+)", "\n".join(titles), flags=re.MULTILINE) == keys.split()
        numbered = {key: table.title for key, table in PAPERS[method].tables.items() if key in keys.split()}
        assert all(title.startswith(f"Table {key}: ") for key, title in numbered.items())


def test_every_row_has_all_its_numbers():
    for method, paper in PAPERS.items():
        for key, table in paper.tables.items():
            for name, each in table.rows.items():
                assert len(each.paper) == len(table.columns), f"{method} {key}/{name}"
                assert re.fullmatch(r"[a-z0-9.-]+", name), f"{method} {key}/{name} cannot be typed"


# As the page showed them when each row was a command in full.
COMMANDS_IN_FULL = [
    ("fima", "10/1568", "--preset ucf101 --data UCF-101 --list trainlist01.txt --losses vv pix"
        " --pixel-negatives batch --pixel-queue 784"),
    ("fima", "4/r2plus1d-k400", "--preset kinetics400 --data kinetics400 --list train.csv --backbone r2plus1d_18"
        " --size 112"),
    ("mcl", "1/i2d-sa", "--preset ucf101 --data UCF-101 --list trainlist01.txt --backbone i2d --frames 1"
        " --init moco_googlenet.pth --seco intra order --no-temporal-sampling --weight-alignment 0"),
    ("modist", "3a/rgb-mini", "--preset kinetics400-mini --data kinetics400 --list mini.csv --losses v"),
    ("controllable", "4/k1-t2", "--preset ucf101 --data UCF-101 --list trainlist01.txt --epochs 150 --clips 1"
        " --global-cells 2 --losses rc mi"),
    ("context_motion", "4/i-frames", "--preset ucf101 --data UCF-101-mpeg4 --list trainlist01.txt --alpha 0"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "name", "command"), COMMANDS_IN_FULL)
def test_a_row_stands_for_its_command(method, name, command):
    assert row(method, name) == replace(parse(*trainer(method), shlex.split(command)), row=name)


def command_and_flags(text):
    """The command of evaluate.py that a cell begins with, or none, and the words behind it."""
    words = shlex.split(text)
    return (words[:1], words[1:]) if words and not words[0].startswith("--") else ([], words)


def rows_of_the_page(method, key):
    """As a reader puts them together: row -> its words, those of the table first, so that the row's follow and hold."""
    section = TEXT.split(f"\n## {PAPERS[method].name}\n")[1].split("\n## ")[0]
    goes_with = dict(re.findall(r"^- `(--preset \S+)`: `(.*)`$", section, re.MULTILINE))
    goes_with |= dict(re.findall(r"^\| `(--data \S+)` \| `(.*)` \|$", TEXT, re.MULTILINE))
    pattern = rf"^`(.*)`\n\n\| (`--row {key}/` .*) \|\n\|[-|]*\n((?:\|.*\n)+)"
    ((base, head, table),) = re.findall(pattern, section, re.MULTILINE)
    shared_command, shared = command_and_flags(base)
    head, found = head.split(" | "), {}
    for line in table.splitlines():
        cells = dict(zip(head, map(str.strip, line.strip("|").split("|")), strict=True))
        command, own = command_and_flags(cells["flags"].strip("`"))
        words = own if command and not shared_command else shared + own
        command = command or shared_command
        asked = "--data" if command else "--preset"
        value = words[max(place for place, word in enumerate(words) if word == asked) + 1]
        found[cells[head[0]].strip("`")] = [*command, *words, *shlex.split(goes_with[f"{asked} {value}"])]
    return found


def settled(words):
    """What is left of words of which the later ones hold: flag -> its values, or that it is off."""
    held = {}
    for word in words:
        if word.startswith("--"):
            flag = word.removeprefix("--").removeprefix("no-")
            held[flag] = [word] if word.startswith("--no-") else []
        else:
            held[flag].append(word)
    return held


@pytest.mark.parametrize(("method", "key"), [(method, key) for method, paper in PAPERS.items() for key in paper.tables])
def test_every_row_is_what_the_page_says_and_composes(method, key, tmp_path):
    config_type, presets = trainer(method)
    rows = rows_of_the_page(method, key)
    assert list(rows) == list(PAPERS[method].tables[key].rows)
    for name, words in rows.items():
        command = PAPERS[method].command(key, name)
        if words[0] in COMMANDS:
            assert command[:3] == ["python", "trainers/evaluate.py", words[0]]
            assert settled(command[3:]) == settled(words[1:])
            config = parse(COMMANDS[words[0]][1], None, words[1:])
            assert config.output != type(config).output
            continue
        assert settled(rows_of(method)(f"{key}/{name}")) == settled(words)
        config = parse(config_type, presets, words)
        if getattr(config, "init", None) is not None:
            config = replace(config, init=tmp_path / config.init.name)  # a file that others distribute
            config.init.touch()
        config.check_backbone()  # the flags do not contradict each other


def test_other_flags_override_a_row():
    assert row("fima", "3a/1.4").radius == 1.4
    config = row("fima", "3a/1.4", "--radius", "2", "--data", "elsewhere")
    assert (config.radius, config.data, config.list) == (2.0, Path("elsewhere"), Path("trainlist01.txt"))
    assert config.losses == ("vv", "pix")
    assert not row("mcl", "1/r2plus1d-none").motion
    assert row("mcl", "1/r2plus1d-none", "--motion").motion


def test_the_row_is_noted(tmp_path):
    start_folder(tmp_path, row("fima", "3a/1.4"), resume=False)
    assert "preset: ucf101\nrow: 3a/1.4\n" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("method", "argv", "words"),
    [
        ("fima", ["--row", "3a"], ["3a has several rows", "3a/0.35, 3a/0.7, 3a/1.4, 3a/2.8"]),
        ("fima", ["--row=3a/9"], ["unknown row '3a/9'", "3a/0.35, 3a/0.7, 3a/1.4, 3a/2.8"]),
        ("fima", ["--row", "12/1"], ["unknown table '12'", "1, 2, 3a, 3b"]),
        ("fima", ["--row"], ["--row: a name must follow"]),
        ("fima", ["--row", "3a/1.4", "--preset", "demo"], ["--preset demo", "--row 3a/1.4", "one of the two"]),
        ("fima", ["--row", "6/i3d-ucf101"], ["measures a run", "python trainers/evaluate.py retrieval --data UCF-101"]),
        ("moco", ["--row", "1/a"], ["moco has no tables"]),
        ("fima", ["--row", "3a/1.4", "--data", "/nowhere"], ["there is no folder /nowhere"]),
    ],
)
def test_a_wrong_row_is_one_line(method, argv, words, capsys):
    assert guarded(lambda: main([method, *argv])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(each in error for each in words), error


def test_the_trainers_know_the_rows_too():
    for method in sorted(path.stem for path in (ROOT / "trainers").glob("*.py") if path.stem != "evaluate"):
        assert (
            f'run(main, {trainer(method)[0].__name__}, PRESETS, rows=rows_of("{method}"))'
            in (ROOT / "trainers" / f"{method}.py").read_text()
        )


def test_the_tables_are_installed_with_the_package(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files()
    package = ROOT / "motionops"
    installed = {file for pattern in distribution.package_data["motionops"] for file in package.glob(pattern)}
    assert {METHODS / method / NAME for method in PAPERS} <= installed
