"""What the commands that prepare videos share."""

import threading
from pathlib import Path

import pytest

from motionops.errors import UserError
from motionops.motion.prepare.videos import Finished, PrepareConfig, Written, as_finished, prepare_videos
from motionops.video import Video, VideoError


@pytest.fixture
def videos(tmp_path):
    videos = [Video(str(tmp_path / str(number)), None) for number in range(6)]
    for number, video in enumerate(videos):
        Path(video.path).write_bytes(bytes(number))
    return videos


def test_videos_come_as_they_finish(videos):
    release = threading.Event()

    def work(path):
        if path == videos[0].path:
            assert release.wait(60)
        return path

    order = []
    for video, finished in as_finished(videos, work, workers=2):
        assert finished.result == video.path
        assert finished.state[0] == int(Path(video.path).name)  # bytes
        order.append(video)
        if len(order) == 5:
            release.set()
    assert order[-1] == videos[0]
    assert set(order) == set(videos)


def test_a_video_that_is_gone_is_said_to_be(videos):
    Path(videos[2].path).unlink()
    found = dict(as_finished(videos, lambda path: 1, workers=3))
    assert isinstance(found[videos[2]], VideoError)
    assert "no such file" in str(found[videos[2]])
    assert all(isinstance(found[video], Finished) for video in videos if video is not videos[2])


def test_what_is_done_already_is_said_and_totals_are_of_this_run(videos, capsys):
    done = []

    def write(path, finished):
        done.append(path)
        return Written(frames=25, bytes=2**20)

    prepare_videos(videos, videos[4:], lambda path: 1, write, what="something", workers=1)
    error = capsys.readouterr().err
    assert done == [video.path for video in videos[4:]]
    assert "4 of 6 videos are done already" in error
    assert "something of 50 frames" in error
    assert "2097152 bytes: 3600.0 MiB an hour" in error  # 2 MiB for 2 seconds


def test_flags_below_their_least_value(tmp_path):
    with pytest.raises(UserError, match="--workers: must be at least 0, got -1"):
        PrepareConfig(output=tmp_path, workers=-1).require_at_least()
