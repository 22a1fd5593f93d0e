"""Files that are written whole."""

import fcntl
import os

import pytest

from motionops.files import replace_text, written_beside


def write_half(file):
    with written_beside(file) as partial:
        partial.write_text("half")
        partial.write_text(None)


def test_the_place_changes_when_all_is_written(tmp_path):
    file = tmp_path / "v.mp4"
    file.write_text("before")
    with written_beside(file) as partial:
        assert partial.suffix == ".mp4"
        assert partial.name.startswith(".")
        partial.write_text("after")
        assert file.read_text() == "before"
    assert file.read_text() == "after"
    with pytest.raises(TypeError):
        write_half(file)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
    assert file.read_text() == "after"


def test_what_a_killed_process_left_is_written_over(tmp_path):
    file = tmp_path / "v.mp4"
    with written_beside(file) as partial:
        left = partial
    left.write_text("half of a copy")
    replace_text(file, "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_what_a_living_process_writes_is_not_touched(tmp_path):
    file = tmp_path / "v.mp4"
    with written_beside(file) as other:
        other.write_text("of another process")
        with written_beside(file) as partial:
            assert partial != other
            partial.write_text("first")
        assert file.read_text() == "first"
        assert other.read_text() == "of another process"
    assert file.read_text() == "of another process"
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with written_beside(tmp_path / "v.mp4") as partial:
        assert str(os.getpid()) in partial.name
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_names_that_are_no_utf_8_are_written_as_they_are(tmp_path):
    replace_text(tmp_path / "a.csv", "jos\udce9.mp4,走\n")
    assert (tmp_path / "a.csv").read_bytes() == b"jos\xe9.mp4," + "走\n".encode()
