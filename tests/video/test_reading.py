"""Exact frames, counts and reasons: generated files whose frames show their numbers, and real files."""

import os
import pickle

import av
import numpy as np
import pytest
import torch

from motionops.video import VideoError, count_frames, key_frame_numbers, read_frames, read_video
from motionops.video.decoder import Decoder
from motionops.video.encoding import write_video
from motionops.video.reading import read_pieces, read_video_if_small
from tests.video.video_files import encode, numbered_frames, numbers_of, plain_decode

# File name, encoder, options, whether time stamps are irregular.
KINDS = {
    "h264-b-frames.mp4": ("libx264", {"crf": "10", "bf": "3", "b-pyramid": "normal"}, False),
    "h264-one-key-frame.mp4": ("libx264", {"crf": "10", "g": "250"}, False),
    "h264-open-gop.mkv": ("libx264", {"crf": "10", "bf": "2", "x264-params": "open-gop=1:keyint=12"}, False),
    "mpeg4-b-frames.avi": ("mpeg4", {"qmin": "2", "qmax": "2", "bf": "2"}, False),
    "variable-rate.mp4": ("libx264", {"crf": "10", "bf": "2"}, True),
    "variable-rate.mkv": ("libx264", {"crf": "10", "bf": "2"}, True),
    "mpeg2.mpg": ("mpeg2video", {"qmin": "2", "qmax": "2", "bf": "2"}, False),
}
COUNT = 40


@pytest.fixture(params=KINDS)
def numbered(request, tmp_path):
    encoder, options, irregular = KINDS[request.param]
    stamps = np.cumsum(np.random.default_rng(0).integers(10, 200, COUNT)) if irregular else None
    return encode(tmp_path / request.param, numbered_frames(COUNT), encoder, options, stamps)


def test_frames_are_named_by_their_order(numbered):
    video = read_video(numbered)
    assert video.dtype == torch.uint8
    assert video.shape == (COUNT, 48, 64, 3)
    assert numbers_of(video) == list(range(COUNT))
    assert count_frames(numbered) == COUNT
    for wanted in ([0], [39], [17, 3, 3, 38], list(range(5, 25, 2)), []):
        frames = read_frames(numbered, wanted)
        assert torch.equal(frames, video[wanted])
        assert numbers_of(frames) == wanted
    assert np.array_equal(video.numpy(), plain_decode(numbered))


def test_pieces_make_up_the_whole(numbered):
    whole = read_video(numbered)
    for frames in (1, 7, len(whole), len(whole) + 1):
        pieces = list(read_pieces(numbered, frames))
        assert [len(piece) for piece in pieces[:-1]] == [frames] * (len(pieces) - 1)
        assert 1 <= len(pieces[-1]) <= frames
        assert torch.equal(torch.cat(pieces), whole)


def test_indices_of_any_shape(numbered):
    wanted = torch.tensor([[4, 6, 8], [5, 5, 1]])
    frames = read_frames(numbered, wanted)
    assert frames.shape == (2, 3, 48, 64, 3)
    assert [numbers_of(row) for row in frames] == wanted.tolist()
    assert numbers_of(read_frames(numbered, np.array([2, 1]))) == [2, 1]
    assert numbers_of(read_frames(numbered, range(3))) == [0, 1, 2]


def test_random_access_of_real_files_equals_a_full_decode(originals):
    generator = torch.Generator().manual_seed(0)
    for name, count in (("v_BaseballPitch_g01_c03.avi", 103), ("R6llTwEh07w.mp4", 303)):
        path = originals / name
        whole = torch.from_numpy(plain_decode(path))
        assert len(whole) == count == count_frames(path)
        assert torch.equal(read_video(path), whole)
        for _ in range(5):
            wanted = torch.randint(0, count, (6,), generator=generator)
            assert torch.equal(read_frames(path, wanted), whole[wanted])
        with pytest.raises(VideoError, match=f"has {count} frames, frame {count} was asked for"):
            read_frames(path, [0, count])


def test_real_files_equal_another_decoder(originals):
    cv2 = pytest.importorskip("cv2", reason="OpenCV (its own FFmpeg) is not installed")
    for name in ("v_BaseballPitch_g01_c03.avi", "R6llTwEh07w.mp4"):
        ours = read_video(originals / name).numpy()
        capture = cv2.VideoCapture(str(originals / name))
        for number, frame in enumerate(ours):
            there, theirs = capture.read()
            assert there
            assert np.abs(theirs[..., ::-1].astype(int) - frame).max() <= 2, (name, number)
        assert not capture.read()[0]
        capture.release()


def test_corrupted_real_file(originals):
    path = originals / "decord_corrupted.mp4"
    for read in (
        read_video,
        count_frames,
        lambda path: read_frames(path, [45]),
        lambda path: list(read_pieces(path, 8)),
    ):
        with pytest.raises(VideoError, match=r"is damaged after 28 frames \(Invalid data found") as caught:
            read(path)
        assert caught.value.path == str(path)
        assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert len(read_frames(path, [0, 20])) == 2  # whole frames before the damage can be had


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "is empty", "a.mp4: is empty")


def reason_of(path) -> str:
    reasons = set()
    for read in (read_video, count_frames, lambda path: read_frames(path, [10_000])):
        with pytest.raises(VideoError) as caught:
            read(path)
        reasons.add(caught.value.reason)
    assert len(reasons) == 1, reasons
    return reasons.pop()


def test_reasons(tmp_path):
    assert reason_of(tmp_path / "missing.mp4") == "no such file"
    assert reason_of(tmp_path) == "is not a file"
    (tmp_path / "empty.mp4").touch()
    assert reason_of(tmp_path / "empty.mp4") == "is empty (0 bytes)"
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    assert reason_of(tmp_path / "text.mp4").startswith("is not a video (")
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert reason_of(tmp_path / "noise.avi").startswith("is not a video (")


def test_sound_without_pictures(tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    assert reason_of(tmp_path / "sound.mp4") == "holds no video stream"


@pytest.mark.parametrize("suffix", ["mp4", "front.mp4", "avi", "mkv", "webm", "mov"])
@pytest.mark.parametrize("kept", [0.97, 0.6, 0.2])
def test_truncated(tmp_path, suffix, kept):
    encoder = {"avi": "mpeg4", "webm": "libvpx"}.get(suffix, "libx264")
    path = tmp_path / f"whole.{suffix}"
    frames = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    if suffix == "front.mp4":  # the index before the pictures: a cut file opens and begins to decode
        import av

        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    else:
        encode(path, frames, encoder, {})
    assert count_frames(path) == 30
    data = path.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(len(data) * kept)])
    for read in (read_video, count_frames, lambda path: read_frames(path, [29])):
        with pytest.raises(VideoError, match=rf"is truncated \({os.path.getsize(cut)} of at least \d+ bytes\)"):
            read(cut)


def test_one_frame(tmp_path):
    write_video(tmp_path / "one.mp4", numbered_frames(1))
    assert count_frames(tmp_path / "one.mp4") == 1
    assert read_video(tmp_path / "one.mp4").shape == (1, 48, 64, 3)


def test_wrong_indices(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(4))
    with pytest.raises(ValueError, match=r"^read_frames: indices must be >= 0, got -1"):
        read_frames(tmp_path / "v.mp4", [0, -1])
    with pytest.raises(ValueError, match=r"^read_frames: indices must be integers, got torch.float32"):
        read_frames(tmp_path / "v.mp4", [0.5])


def test_names_with_spaces_colons_and_accents(tmp_path):
    for name in ("a b.mp4", "http:c.mp4", "é 日本.mp4", "concat:x|y.mp4", "%d.mp4"):
        write_video(tmp_path / name, numbered_frames(3))
        assert count_frames(tmp_path / name) == 3
        assert count_frames(str(tmp_path / name)) == 3


def test_a_header_that_lies_about_the_count(tmp_path):
    path = encode(tmp_path / "lie.avi", numbered_frames(20), "mpeg4", {"qmin": "2", "qmax": "2"})
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 24), (b"strh", 40)):  # total frames of the file, length of the stream
        place = data.index(tag) + offset
        assert int.from_bytes(data[place : place + 4], "little") == 20
        for count in (3, 5000):
            data[place : place + 4] = count.to_bytes(4, "little")
            path.write_bytes(data)
            assert numbers_of(read_video(path)) == list(range(20))
            assert count_frames(path) == 20


def test_whole_files_that_state_odd_sizes(tmp_path):
    path = encode(tmp_path / "v.avi", numbered_frames(20), "mpeg4", {"qmin": "2", "qmax": "2"})
    data = path.read_bytes()
    stated = int.from_bytes(data[4:8], "little")
    for other in (0, stated + 8, stated + 1, 0x7FFFFFFF, 0xFFFFFFFF):
        path.write_bytes(data[:4] + other.to_bytes(4, "little") + data[8:])
        assert count_frames(path) == 20
    path = tmp_path / "v.mp4"
    write_video(path, numbered_frames(20))
    path.write_bytes(path.read_bytes() + b"<html>an error page of the server that sent the file</html>")
    assert count_frames(path) == 20


def test_wrong_frames_to_write(tmp_path):
    with pytest.raises(ValueError, match=r"write_video: frames must be uint8"):
        write_video(tmp_path / "v.mp4", np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"write_video: H and W must be even, got 9x8"):
        write_video(tmp_path / "v.mp4", np.zeros((2, 9, 8, 3), dtype=np.uint8))
    assert not list(tmp_path.iterdir())


def test_files_are_closed(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(20))
    (tmp_path / "bad.mp4").write_bytes(b"nothing" * 100)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "v.mp4").read_bytes()[:-200])
    opened = "/proc/self/fd"
    if not os.path.isdir(opened):
        pytest.skip("this system does not list open files")
    before = len(os.listdir(opened))
    for _ in range(30):
        read_frames(tmp_path / "v.mp4", [3])
        count_frames(tmp_path / "v.mp4")
        for bad in ("bad.mp4", "cut.mp4"):
            with pytest.raises(VideoError):
                read_video(tmp_path / bad)
    assert len(os.listdir(opened)) == before


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_key_frames_are_where_the_encoder_puts_them(tmp_path, codec):
    """Every 12 frames at the latest: the packets that a player may start from."""
    write_video(tmp_path / "v.mp4", numbered_frames(30), codec=codec)
    with av.open(str(tmp_path / "v.mp4")) as container:
        expected = [
            place for place, packet in enumerate(container.demux(video=0)) if packet.size and packet.is_keyframe
        ]
    assert key_frame_numbers(tmp_path / "v.mp4").tolist() == expected
    assert max(np.diff([*expected, 30])) <= 12
    with pytest.raises(VideoError, match="no such file"):
        key_frame_numbers(tmp_path / "none.mp4")


def test_a_small_video_is_read_and_a_large_one_is_not(tmp_path, monkeypatch):
    frames = numbered_frames(10)
    write_video(tmp_path / "v.mp4", frames)
    for known in (10, -1):
        assert torch.equal(
            read_video_if_small(tmp_path / "v.mp4", known, frames.nbytes), read_video(tmp_path / "v.mp4")
        )
        assert read_video_if_small(tmp_path / "v.mp4", known, frames.nbytes - 1) is None
    assert read_video_if_small(tmp_path / "v.mp4", 4, frames.nbytes - 1) is None  # it has become longer
    monkeypatch.setattr(Decoder, "frames", lambda _: pytest.fail("what is too large is not decoded"))
    assert read_video_if_small(tmp_path / "v.mp4", 11, frames.nbytes) is None


def test_a_stream_that_begins_in_the_middle(tmp_path):
    """As a broadcast that was switched on: from somewhere in the middle, all frames to the last, in order."""
    whole = encode(
        tmp_path / "whole.ts", numbered_frames(60), "mpeg2video", {"qmin": "2", "qmax": "2", "bf": "0"}, gop=12
    )
    data = whole.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[len(data) // 2 // 188 * 188 :])  # at a packet
    numbers = numbers_of(read_video(cut))
    assert numbers == list(range(numbers[0], 60))
    assert 12 < len(numbers) <= 36


def test_metadata_that_are_no_text(tmp_path):
    """HMDB51's files hold such."""
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        container.metadata["title"] = "caf@"
        stream = container.add_stream("mpeg4", rate=25, options={"qmin": "2", "qmax": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in numbered_frames(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    data = (tmp_path / "v.avi").read_bytes()
    assert data.count(b"caf@") == 1
    (tmp_path / "v.avi").write_bytes(data.replace(b"caf@", b"caf\x8c"))
    assert numbers_of(read_video(tmp_path / "v.avi")) == list(range(12))


def test_a_stream_whose_size_changes_keeps_the_first_one(tmp_path):
    small, large = (
        encode(tmp_path / f"{side}.m2v", numbered_frames(12, side, 2 * side), "mpeg2video", {"qmin": "2", "qmax": "2"})
        for side in (32, 64)
    )
    (tmp_path / "both.m2v").write_bytes(small.read_bytes() + large.read_bytes())
    video = read_video(tmp_path / "both.m2v")
    assert video.shape[1:] == (32, 64, 3)
    numbers = numbers_of(video)
    assert numbers[:11] == list(range(11))
    assert numbers[-11:] == list(range(1, 12))
