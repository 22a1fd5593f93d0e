"""A disk that fails for a moment is asked again; one that goes on failing is called what it is."""

import errno
import os

import pytest
import torch

from motionops.video import VideoError, count_frames, decoder, read_frames, read_video
from motionops.video.encoding import write_video
from motionops.video.reading import read_pieces
from motionops.video.sources import faults
from tests.video.video_files import numbered_frames, numbers_of

READS = {
    "count": lambda path: [count_frames(path)],
    "frames": lambda path: numbers_of(read_frames(path, [3, 9])),
    "video": lambda path: numbers_of(read_video(path)),
    "pieces": lambda path: numbers_of(torch.cat(list(read_pieces(path, 4)))),
}


@pytest.fixture
def video(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "WAITS", (0, 0, 0))
    write_video(tmp_path / "v.mp4", numbered_frames(20))
    return tmp_path / "v.mp4"


class FailingDecoder(decoder.Decoder):
    """Gives some frames and then an error of FFmpeg, as many times as it is told."""

    failures: list[OSError]
    after = 6

    def frames(self):
        for number, frame in enumerate(super().frames()):
            if number == self.after and self.failures:
                raise self._failed(self.failures.pop(), f"is damaged after {number} frames")
            yield frame


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_passing_faults(video, monkeypatch, read, number):
    expected = read(video)
    monkeypatch.setattr("motionops.video.reading.Decoder", FailingDecoder)
    FailingDecoder.failures = [OSError(number, "x")] * 3
    assert read(video) == expected
    assert not FailingDecoder.failures
    FailingDecoder.failures = [OSError(number, "x")] * 4
    with pytest.raises(VideoError, match=rf"read error \({errno.errorcode[number]}: {os.strerror(number)}\)"):
        read(video)
    assert not FailingDecoder.failures


def test_damage_that_another_reading_does_not_find(video, monkeypatch):
    """FFmpeg reports faults of the disk within a file's index as invalid data."""
    expected = READS["count"](video)
    monkeypatch.setattr("motionops.video.reading.Decoder", FailingDecoder)
    FailingDecoder.failures = [OSError(1094995529, "Invalid data")]
    assert READS["count"](video) == expected
    FailingDecoder.failures = [OSError(1094995529, "Invalid data")] * 3
    with pytest.raises(VideoError, match=r"is damaged after 6 frames \(Invalid data\)"):
        READS["count"](video)
    assert len(FailingDecoder.failures) == 1  # twice the same is what the file holds


def test_a_file_that_the_system_cannot_look_at(video, monkeypatch):
    stat, failures = os.stat, [errno.EIO, errno.ESTALE]

    def failing(path, *arguments, **named):
        if os.fspath(path) == str(video) and failures:
            number = failures.pop()
            raise OSError(number, os.strerror(number), path)
        return stat(path, *arguments, **named)

    monkeypatch.setattr(decoder.os, "stat", failing)
    assert count_frames(video) == 20
    failures[:] = [errno.EACCES]
    with pytest.raises(VideoError, match=r"cannot be read \(Permission denied\)"):
        count_frames(video)
    failures[:] = [errno.ENOENT]
    with pytest.raises(VideoError, match="no such file"):
        count_frames(video)
