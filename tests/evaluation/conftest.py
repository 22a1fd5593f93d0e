"""A few small encoded videos, and a MovingShapes set of one video a class and split."""

import numpy as np
import pytest

pytest.importorskip("av")
from motionops.video import Video, moving_shapes
from motionops.video.encoding import write_video


def grey_frames(length, height=32, width=48, offset=0):
    """Frame t is uniformly grey with value offset + 8 t: a frame tells its own number."""
    levels = (offset + 8 * np.arange(length)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (length, height, width, 3)).copy()


@pytest.fixture
def counting_frames():
    return grey_frames


@pytest.fixture(scope="session")
def counting_videos(tmp_path_factory):
    """Four readable videos (24, 24, 20 and 9 frames), labelled."""
    folder = tmp_path_factory.mktemp("counting")
    videos = []
    for number, length in enumerate((24, 24, 20, 9)):
        path = folder / f"video{number}.mp4"
        write_video(path, grey_frames(length, offset=10 * number))
        videos.append(Video(str(path), "ab"[number % 2]))
    return videos


@pytest.fixture(scope="session")
def tiny_shapes(tmp_path_factory):
    """MovingShapes with 32 training and 16 test videos."""
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=32, test=16, workers=1, progress=False)


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu(no_gpu):
    """Features and scores are compared exactly."""
