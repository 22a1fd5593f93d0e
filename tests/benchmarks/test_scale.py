"""What a training costs, from a profile."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import scale

ROOT = Path(__file__).parents[2]

# A process of a run of two: 32 videos, 360 ms of which 60 wait for readers.
PROFILE = {
    "steps": 5,
    "milliseconds": {"wait": 60.0, "networks": 240.0, "backward": 60.0},
    "decoding": {"milliseconds": 640.0, "readers": 4, "decoder": "pyav"},
    "counts": {
        "processes": 2,
        "videos": 32.0,
        "clips": 64.0,
        "file_bytes": 1_500_000.0,
        "gradient_bytes": 40_000_000,
        "key_clip_bytes": 150_000_000.0,
        "key_map_bytes": 10_000_000.0,
        "key_bytes": 1_000_000.0,
    },
    # Of both processes; under torchrun --devices stays 1.
    "run": {"batch_size": 64, "devices": 1, "backbone": "i3d", "frames": 16, "size": 224},
    "machine": {"GPU": "none", "processor": "Processor X"},
}
ROOMY = scale.Machine(cores=1000, network=1e15, storage=1e15)


@pytest.fixture
def step():
    return scale.step_of(PROFILE)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(PROFILE))
    return path


def test_hours():
    # 100 epochs of 64,000 videos are 100,000 steps of 64; at 360 ms each that is 10 hours
    assert scale.hours(0.36, 64_000, 100, 64, 1) == pytest.approx(10.0)
    assert scale.hours(0.36, 64_000, 100, 64, 8) == pytest.approx(1.25)
    # as a training does, the last videos of an epoch that fill no step are left out
    assert scale.hours(0.36, 64_063, 100, 64, 1) == pytest.approx(10.0)


def test_cores_and_reading(step):
    # in the 0.3 s of a step, 32 videos of 20 ms (2.1 cores) and of 1.5 MB (160 MB/s) for each GPU
    assert scale.cores(step) == pytest.approx(32 * 0.02 / 0.3)
    assert scale.read_bytes(step, 1) == pytest.approx(160e6)
    assert scale.read_bytes(step, 8) == pytest.approx(8 * 160e6)
    given = scale.step_of(PROFILE, decode_ms=45, file_kb=300)
    assert scale.cores(given) == pytest.approx(4.8)
    assert scale.read_bytes(given, 1) == pytest.approx(32e6)


def test_bytes_between_gpus_are_those_that_ranks_send_each_other(step):
    """Counted message by message, as the collectives send them."""
    assert scale.exchanged_bytes(step, 1) == 0
    for gpus in (2, 8):
        sent = 0.0
        for _ in range(2 * (gpus - 1)):  # a ring: sums travel G - 1 times, results as often, a G-th part each time
            sent += 40e6 / gpus
        for _ in range(gpus - 1):  # to each other rank its share of the clips and their maps, and all keys
            sent += 150e6 / gpus + 10e6 / gpus + 1e6
        assert scale.exchanged_bytes(step, gpus) == pytest.approx(sent)


@pytest.mark.parametrize(
    ("short", "gpus", "expected"),
    [
        ({"cores": 2}, 1, "decode: 2.1 cores a GPU are needed, 2.0 are there"),
        ({"storage": 1e9}, 8, "storage: 1.28 GB/s are needed, 1.00 are there"),
        # 70 + 140 + 7 MB in 0.3 s
        ({"network": 0.5e9}, 8, "network: 0.72 GB/s a GPU are needed, 0.50 are there"),
        ({"storage": 2.56e9}, 8, "none; storage, when a step is 2 times as fast"),
        # Two are short: the one that is short by more
        ({"cores": 2, "storage": 0.64e9}, 8, "storage: 1.28 GB/s are needed, 0.64 are there"),
    ],
)
def test_the_first_limit(step, short, gpus, expected):
    assert scale.limit(step, scale.Machine(**{**vars(ROOMY), **short}), gpus) == expected


def test_a_batch_is_that_of_a_process_whatever_started_it(file, capsys):
    assert scale.main([str(file), "--videos", "64000", "--gpus", "1", "8"]) == 0
    shown = capsys.readouterr().out
    assert "32 videos a process, 2 of them; measured on no GPU: Processor X" in shown
    assert "| part | ms a step | hours, G = 1 | hours, G = 8 |" in shown
    # 2000 steps of 32 videos an epoch, 250 of 8 x 32
    assert "| all | 360.00 | 20.00 | 2.50 |" in shown
    assert "Reading takes 20 ms of a core and 1500 kB a video; a step without waiting 300.0 ms." in shown
    assert "| 8 | 256 | 2.13 | 1.28 | 217 | 0.723 | none; storage, when a step is 3.91 times as fast |" in shown


def test_what_a_machine_has_is_told_by_flags(file, capsys):
    machine = ["--cores-per-gpu", "11", "--network-gbytes", "1", "--storage-gbytes", "10"]
    assert scale.main([str(file), "--gpus", "8", "--decode-ms", "131.25", *machine]) == 0
    assert "decode: 14.0 cores a GPU are needed, 11.0 are there" in capsys.readouterr().out


def test_hours_of_a_schedule(capsys):
    # 3756 steps of 64 videos an epoch, 375,600 in all; of 0.3 s each on one GPU, of an eighth of it on 8
    assert scale.main(["--step-seconds", "0.3", "--batch-size", "64", "--gpus", "1", "8"]) == 0
    shown = capsys.readouterr().out
    assert "| 0.3 | 31.30 | 3.91 |" in shown
    assert "| videos a GPU | 64 | 8 |" in shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "a profile.json or --step-seconds, one of them"),
        (["--step-seconds", "0"], "argument --step-seconds: must be above 0, got 0"),
        (["--step-seconds", "1", "--gpus", "0"], "argument --gpus: must be at least 1, got 0"),
        (["nowhere.json"], "nowhere.json: [Errno 2] No such file"),
    ],
)
def test_wrong_input(line, said, capsys):
    with pytest.raises(SystemExit):
        scale.main(line)
    assert said in capsys.readouterr().err


def test_a_profile_of_an_earlier_version(file, capsys):
    file.write_text(json.dumps({name: value for name, value in PROFILE.items() if name != "counts"}))
    with pytest.raises(SystemExit):
        scale.main([str(file)])
    assert "does not count what a step moves" in capsys.readouterr().err


def test_the_page_shows_what_its_commands_print(capsys, monkeypatch):
    """Each line of the tables, in docs/scale.md as the command above them prints it."""
    monkeypatch.chdir(ROOT)
    page = Path("docs/scale.md").read_text()
    commands = re.findall(r"^    python -m benchmarks\.scale (.+)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        scale.main(command.split())
        printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert len(printed) > 3
        shown = page[page.index(command) :].splitlines()
        assert [line for line in shown if line.startswith("|")][: len(printed)] == printed
