"""Videos that are stored on their side, read as FFmpeg's own filters turn them."""

import itertools

import av
import numpy as np
import pytest
import torch

from motionops.motion import read_coded_clip, read_motion_vectors
from motionops.motion.prepare.reencode import reencode_video
from motionops.video import read_frames, read_video
from motionops.video.encoding import write_video
from motionops.video.reading import read_pieces
from tests.video.video_files import plain_decode, textured_pan, turn_header

# A display matrix (a, b, c, d) and the filters that the program ffmpeg inserts for it (fftools/ffmpeg_filter.c).
FILTERS = {
    (1, 0, 0, 1): [],
    (0, 1, -1, 0): [("transpose", "clock")],
    (-1, 0, 0, -1): [("hflip", ""), ("vflip", "")],
    (0, -1, 1, 0): [("transpose", "cclock")],
    (-1, 0, 0, 1): [("hflip", "")],
    (1, 0, 0, -1): [("vflip", "")],
    (0, 1, 1, 0): [("transpose", "cclock_flip")],
    (0, -1, -1, 0): [("transpose", "clock_flip")],
}


def turned_file(path, matrix, frames=None):
    """A file of 44 x 60 pixels, both no multiples of a block, whose track header holds the matrix."""
    if frames is None:
        frames = textured_pan(10, 44, 60, 3, 1)
    write_video(path, frames)
    turn_header(path, matrix)
    return path


def filtered(path, filters) -> np.ndarray:
    """The frames as FFmpeg's filters turn them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=stream)]
        nodes += [graph.add(*each) if each[1] else graph.add(each[0]) for each in [*filters, ("format", "rgb24")]]
        nodes.append(graph.add("buffersink"))
        for before, after in itertools.pairwise(nodes):
            before.link_to(after)
        graph.configure()
        frames = []
        for frame in container.decode(stream):
            graph.push(frame)
            frames.append(graph.pull().to_ndarray(format="rgb24"))
    return np.stack(frames)


@pytest.fixture(params=FILTERS, ids=str)
def turned(request, tmp_path):
    path = turned_file(tmp_path / "v.mp4", request.param)
    return path, filtered(path, FILTERS[request.param]), request.param


def test_frames_are_those_of_ffmpegs_filters(turned):
    path, expected, _ = turned
    video = read_video(path)
    assert np.array_equal(video.numpy(), expected)
    assert torch.equal(read_frames(path, [7, 2]), video[[7, 2]])
    assert torch.equal(torch.cat(list(read_pieces(path, 4))), video)
    clip = read_coded_clip(path, [3, 5], [4])
    assert torch.equal(clip.frames, video[[3, 5]])
    assert torch.equal(clip.key_frame, video[0])


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)], ids=str)
def test_turned_frames_are_opencvs(tmp_path, matrix):
    """Which follows the flag by default."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV (its own FFmpeg) is not installed")
    path = turned_file(tmp_path / "v.mp4", matrix)
    capture = cv2.VideoCapture(str(path))
    for frame in read_video(path).numpy():
        there, theirs = capture.read()
        assert there
        assert np.abs(theirs[..., ::-1].astype(int) - frame).max() <= 2


def test_motion_vectors_turn_with_the_picture(turned):
    """In their places, and in their directions: those that the same file has without the flag, turned by hand."""
    path, expected, matrix = turned
    straight = path.with_name("straight.mp4")
    maps = read_motion_vectors(path, cell=1)
    assert maps.shape == (10, 2, *expected.shape[1:3])
    a, b, c, d = matrix
    turned_file(straight, (1, 0, 0, 1))
    as_stored = read_motion_vectors(straight, cell=1)
    height, width = as_stored.shape[2:]
    y, x = np.mgrid[:height, :width]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    u, v = as_stored.unbind(1)
    by_hand = torch.zeros_like(maps)
    by_hand[:, 0, shown_y, shown_x] = a * u + c * v
    by_hand[:, 1, shown_y, shown_x] = b * u + d * v
    assert float(as_stored.abs().max()) > 2
    assert torch.equal(maps, by_hand)


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
def test_copies_are_upright(turned, tmp_path, codec):
    path, expected, _ = turned
    reencode_video(path, tmp_path / "copy.avi", codec)
    copy = plain_decode(tmp_path / "copy.avi")  # which applies no flag
    assert copy.shape == expected.shape
    assert np.abs(copy.astype(int) - expected).mean() < 6
    upside_down = np.abs(copy[:, ::-1].astype(int) - expected).mean()
    assert upside_down > 20


def test_a_matrix_that_is_no_quarter_turn_is_not_followed(tmp_path):
    path = turned_file(tmp_path / "v.mp4", (1, 0, 0, 1))
    expected = read_video(path)
    with av.open(str(path)) as source, av.open(str(tmp_path / "oblique.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(30)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert torch.equal(read_video(tmp_path / "oblique.mp4"), expected)
