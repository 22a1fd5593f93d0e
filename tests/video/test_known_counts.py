"""The numbers of frames that are kept between runs: damage costs the lines that it is in, and never gives a number."""

import json
import os

import numpy as np
import pytest

from motionops.video.counting.contents import Contents
from motionops.video.counting.key_frames import KeyFrames
from motionops.video.known_counts import KnownCounts, file_state


@pytest.fixture
def counted(tmp_path):
    """A file of records, and the videos with their frames, heights and widths."""
    keys = KeyFrames("16:8192 40:20480+512")
    videos = {str(tmp_path / f"v{number}.mp4"): Contents(10 + number, 48, 64, keys, number > 5) for number in range(12)}
    counts = KnownCounts(tmp_path / "counts.jsonl")
    for path, shape in videos.items():
        with open(path, "w") as file:
            file.write(path)
        counts.put(path, file_state(path), shape)
    return counts.file, videos


@pytest.mark.parametrize("times", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damaged_bytes_cost_their_lines(counted, times):
    file, videos = counted
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(times):
        data = bytearray(whole)
        places = random.integers(0, len(data), random.integers(1, 4))
        for place in places:
            data[place] = random.integers(0, 256)
        file.write_bytes(data)
        found = KnownCounts(file)
        known = {path: found.get(path) for path in videos}
        assert all(shape in (None, videos[path]) for path, shape in known.items())
        # A changed byte spoils its line; a changed end of a line the next one too.
        assert sum(shape is None for shape in known.values()) <= 2 * len(places)


def test_a_file_with_damage_goes_on_being_used(counted):
    file, videos = counted
    file.write_bytes(b"\xff\xfe\n" + b"[" * 100_000 + b"\n" + file.read_bytes())
    counts = KnownCounts(file)
    assert {path: counts.get(path) for path in videos} == videos


def test_a_number_that_was_changed_is_not_believed(counted):
    file, videos = counted
    lines = file.read_text().splitlines()
    record, check = json.loads(lines[3])
    record[-1][0] = 753
    file.write_text("\n".join([*lines[:3], json.dumps([record, check]), *lines[4:]]) + "\n")
    counts = KnownCounts(file)
    assert [counts.get(path) for path in videos].count(None) == 1


@pytest.mark.parametrize("written", ["another length", "same"])
def test_a_file_that_was_written_anew_is_counted_again(counted, written):
    """Also where it is as long as it was: its time tells."""
    file, videos = counted
    first, *others = videos
    with open(first, "w") as video:
        video.write(first if written == "same" else written)
    os.utime(first, ns=(0, 1))
    counts = KnownCounts(file)
    assert counts.get(first) is None
    assert all(counts.get(path) == videos[path] for path in others)


def test_names_that_are_no_utf_8(tmp_path):
    path = str(tmp_path / "jos\udce9.mp4")
    open(path, "w").close()
    KnownCounts(tmp_path / "counts.jsonl").put(path, file_state(path), Contents(7, 2, 3))
    assert KnownCounts(tmp_path / "counts.jsonl").get(path) == Contents(7, 2, 3)
    assert KnownCounts(tmp_path / "counts.jsonl", [path]).get(path) == Contents(7, 2, 3)


def test_what_is_not_asked_for_takes_no_memory(counted):
    file, videos = counted
    wanted = list(videos)[2:4]
    counts = KnownCounts(file, wanted)
    assert list(counts.records) == wanted
    assert [counts.get(path) for path in videos] == [
        contents if path in wanted else None for path, contents in videos.items()
    ]


def test_a_record_holds_for_the_file_from_before_it_was_read(counted):
    """What changed while it was read was not seen whole."""
    file, videos = counted
    path = next(iter(videos))
    KnownCounts(file).put(path, (1, 2), Contents(3, 4, 5))
    assert KnownCounts(file).get(path) is None
