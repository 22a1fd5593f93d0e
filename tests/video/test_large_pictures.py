"""Small files of very large pictures, refused before they fill the memory; pictures too small to cut views out of."""

import numpy as np
import pytest
import torch

from motionops.motion import read_coded_clip
from motionops.video import (
    Plan,
    Video,
    VideoDataset,
    VideoError,
    check_videos,
    count_frames,
    decoder,
    read_frames,
    reading,
)
from motionops.video.encoding import write_video
from motionops.video.reading import read_pieces
from tests.video.video_files import encode, numbered_frames


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(12))  # 48 x 64
    return tmp_path / "v.mp4"


def test_pictures_of_too_many_pixels(video, monkeypatch):
    monkeypatch.setattr(decoder, "MOST_PIXELS", 48 * 64 - 1)
    for read in (count_frames, lambda path: read_frames(path, [0]), lambda path: list(read_pieces(path, 4))):
        with pytest.raises(VideoError, match="has pictures of 64x48 pixels; 3071 at most are decoded"):
            read(video)
    assert [video.reason.split(";")[0] for video in check_videos([Video(str(video))], progress=False)[1]] == [
        "has pictures of 64x48 pixels"
    ]
    monkeypatch.setattr(decoder, "MOST_PIXELS", 48 * 64)
    assert count_frames(video) == 12


def test_a_stream_that_grows(tmp_path, monkeypatch):
    """Its first pictures are small; later ones are refused by FFmpeg before it makes room for them."""
    small, large = (
        encode(tmp_path / f"{side}.m2v", np.zeros((6, side, side, 3), np.uint8), "mpeg2video", {}) for side in (32, 128)
    )
    (tmp_path / "both.m2v").write_bytes(small.read_bytes() + large.read_bytes())
    assert count_frames(tmp_path / "both.m2v") >= 11
    monkeypatch.setattr(decoder, "MOST_PIXELS", 64 * 64)
    with pytest.raises(VideoError, match="is damaged after"):
        count_frames(tmp_path / "both.m2v")


def test_clips_of_too_many_bytes(video, monkeypatch):
    monkeypatch.setattr(reading, "MOST_READ", 3 * 48 * 64 * 4)
    assert len(read_frames(video, [0, 3, 5, 7, 7, 0])) == 6  # of four frames
    for read in (lambda: read_frames(video, range(5)), lambda: read_coded_clip(video, range(5), [])):
        with pytest.raises(VideoError, match=r"is too large: 5 frames of 64x48 pixels take 0\.0 GiB decoded"):
            read()


def test_pieces_of_large_pictures_are_short(video, monkeypatch):
    whole = torch.cat(list(read_pieces(video, 12)))
    monkeypatch.setattr(reading, "PIECE_BYTES", 3 * 48 * 64 * 5)
    pieces = list(read_pieces(video, 12))
    assert [len(piece) for piece in pieces] == [5, 5, 2]
    assert torch.equal(torch.cat(pieces), whole)


def test_memory_that_is_not_there(video, monkeypatch):
    def refuse(*arguments, **named):
        raise MemoryError

    monkeypatch.setattr(decoder.np, "empty", refuse)
    with pytest.raises(VideoError, match=r"is too large: 2 frames of 64x48 pixels"):
        read_frames(video, [0, 1])


@pytest.mark.parametrize("side", [1, 4])
def test_too_small_to_cut_a_view_out_of(tmp_path, side):
    """A picture of one pixel; and one of which a method's view would be less than a pixel. Others are read instead."""
    frames = np.zeros((12, side, side, 3), np.uint8)
    encode(tmp_path / "small.mkv", frames, "ffv1" if side == 1 else "libvpx", {})
    write_video(tmp_path / "v.mp4", numbered_frames(12))

    def draw(video, generator):
        if video.height < 8:
            raise ValueError("sample_extents: height must be >= 1, got 0.8")
        return Plan(torch.arange(4)[None])

    videos = [Video(str(tmp_path / name), None, 12) for name in ("small.mkv", "v.mp4")]
    dataset = VideoDataset(videos, draw)
    failed = dataset[0, 0].failed
    assert {(video.path, video.reason.split(" (")[0]) for video in failed} == {
        (str(tmp_path / "small.mkv"), f"is too small: {side}x{side} pixels")
    }
    assert not dataset[0, 1].failed
    with pytest.raises(ValueError, match="a mistake"):
        VideoDataset(videos[1:], lambda *_: (_ for _ in ()).throw(ValueError("a mistake")))[0]
