"""Trimmed files: phones cut a video by an edit list (ISO/IEC 14496-12, 8.6.6), and leave the frames in the file."""

import numpy as np
import pytest
import torch

from motionops.motion import read_coded_clip, read_motion_vectors
from motionops.motion.prepare.reencode import reencode_video
from motionops.video import count_frames, key_frame_numbers, read_frames, read_video
from motionops.video.dali import EncodedReader, ReadByPyAV
from motionops.video.reading import read_pieces
from tests.video.video_files import encode, numbered_frames, numbers_of, plain_decode, textured_pan

COUNT, RATE, GOP = 40, 25, 12


def cut(path, first, count):
    """Let the one entry of a file's edit list show frames from `first` on."""
    data = bytearray(path.read_bytes())
    times = {}  # units a second of the movie and of the track: the two boxes begin alike (8.2.2, 8.4.2)
    for box in (b"mvhd", b"mdhd"):
        place = data.index(box) + 4
        assert data[place] == 0
        times[box] = int.from_bytes(data[place + 12 : place + 16], "big")
    place = data.index(b"elst") + 4
    assert data[place : place + 8] == b"\0\0\0\0\0\0\0\1"
    length, start = place + 8, place + 12
    frame = times[b"mdhd"] // RATE
    begins = int.from_bytes(data[start : start + 4], "big") + first * frame
    data[length : length + 4] = (count * times[b"mvhd"] // RATE).to_bytes(4, "big")
    data[start : start + 4] = begins.to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.fixture(params=["0", "2"], ids=["P-frames", "B-frames"])
def whole(request, tmp_path):
    options = {"crf": "10", "bf": request.param, "sc_threshold": "0", "refs": "1"}
    return encode(tmp_path / "v.mp4", numbered_frames(COUNT), "libx264", options, gop=GOP, rate=RATE)


@pytest.mark.parametrize(("first", "count"), [(15, 25), (12, 28), (0, 7), (15, 10), (17, 1)])
def test_what_is_shown_is_the_video(whole, first, count):
    """By every reader, from number 0 on; a clip is of those frames, though decoding begins before them."""
    path, shown = cut(whole, first, count), list(range(first, first + count))
    video = read_video(path)
    assert numbers_of(video) == shown
    assert count_frames(path) == count
    assert torch.equal(torch.cat(list(read_pieces(path, 4))), video)
    wanted = [count - 1, 0, count // 2]
    assert numbers_of(read_frames(path, wanted)) == [first + number for number in wanted]
    assert key_frame_numbers(path).tolist() == [frame - first for frame in range(0, COUNT, GOP) if frame in shown]
    assert np.array_equal(plain_decode(path), video.numpy())


@pytest.mark.parametrize(("first", "count"), [(15, 25), (14, 9)])
def test_motion_vectors_are_those_of_the_frames_that_are_shown(tmp_path, first, count):
    """What the same frames have in the whole file; the first one's lead to the frame before it, which is hidden."""
    whole = encode(tmp_path / "v.mp4", textured_pan(30, 48, 64, 3, 1), "mpeg4", {"qmin": "2"}, gop=GOP, rate=RATE)
    before = read_motion_vectors(whole)
    cut(whole, first, min(count, 30 - first))
    maps = read_motion_vectors(whole)
    assert torch.equal(maps, before[first : first + count])
    assert float(maps[0].abs().max()) > 2
    clip = read_coded_clip(whole, [3, 4], [4, 5])
    assert torch.equal(clip.frames, read_video(whole)[[3, 4]])
    assert torch.equal(clip.motion, maps[[4, 5]])


def test_a_copy_holds_what_is_shown(whole, tmp_path):
    reencode_video(cut(whole, 15, 10), tmp_path / "copy.mp4", "h264")
    assert numbers_of(plain_decode(tmp_path / "copy.mp4")) == list(range(15, 25))


def test_a_video_that_begins_late_is_whole(tmp_path):
    """Its sound began before it: the edit list has an empty entry first."""
    path = tmp_path / "late.mp4"
    encode(path, numbered_frames(COUNT), "libx264", {"crf": "10"}, stamps=1000 + 40 * np.arange(COUNT))
    assert int.from_bytes(path.read_bytes().partition(b"elst")[2][4:8], "big") == 2
    assert numbers_of(read_video(path)) == list(range(COUNT))
    assert count_frames(path) == COUNT


def test_dalis_reader_leaves_trimmed_files_to_pyav(whole):
    """It would find frames by the packets, of which there are others."""
    item = EncodedReader(gpu=True).clip(str(cut(whole, 15, 25)), torch.tensor([[3, 4]]), 25)
    assert isinstance(item, ReadByPyAV)
    assert "packets" in item.reason
    assert numbers_of(item.frames[0]) == [18, 19]
