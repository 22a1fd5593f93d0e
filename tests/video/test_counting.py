"""What packets tell of a video is what a full decode finds; where they do not tell it, the video is decoded."""

import os
import signal
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from motionops.video import Video, VideoError, check_videos, count_frames, read_frames, read_video
from motionops.video.counting import key_frames
from motionops.video.counting.contents import contents_by_packets, tells
from motionops.video.counting.key_frames import KeyFrame, KeyFrames, Run, runs_by_key_frame
from motionops.video.counting.processes import FEW, asked
from motionops.video.decoder import Decoder, NotThere
from motionops.video.encoding import write_video
from motionops.video.reading import measure
from tests.video.video_files import encode, numbered_frames, numbers_of

COUNT = 60
STAMPS = np.cumsum(np.random.default_rng(0).integers(10, 200, COUNT))
HIDDEN = {"crf": "30", "b": "0", "auto-alt-ref": "1", "lag-in-frames": "25", "deadline": "good", "cpu-used": "8"}

# file, encoder, options, pixel format, times: of each the packets tell
TOLD = {
    "b-frames.mp4": ("libx264", {"crf": "10", "bf": "3", "b-pyramid": "normal"}, None),
    "b-frames.mkv": ("libx264", {"crf": "10", "bf": "3", "b-pyramid": "normal"}, None),
    "open.mp4": ("libx264", {"crf": "10", "bf": "3", "x264-params": "open-gop=1:keyint=18:min-keyint=5"}, None),
    "open.mkv": ("libx264", {"crf": "10", "bf": "3", "x264-params": "open-gop=1:keyint=18:min-keyint=5"}, None),
    "variable.mp4": ("libx264", {"crf": "10", "bf": "2"}, STAMPS),
    "variable.mkv": ("libx264", {"crf": "10", "bf": "2"}, STAMPS),
    "refresh.mp4": ("libx264", {"crf": "10", "x264-params": "intra-refresh=1:keyint=20"}, None),
    "hevc.mp4": ("libx265", {"crf": "10", "x265-params": "open-gop=1:keyint=18:bframes=4:log-level=0"}, None),
    "hidden.webm": ("libvpx-vp9", HIDDEN, None),
    "hidden-8.webm": ("libvpx", {"b": "300k", "auto-alt-ref": "1", "lag-in-frames": "25", "cpu-used": "4"}, None),
    "mpeg4.mp4": ("mpeg4", {"qmin": "2", "qmax": "2", "bf": "2"}, None),
    "av1.mp4": ("libsvtav1", {"preset": "10", "crf": "20", "svtav1-params": "lp=1:keyint=18"}, None),
}


def told(path):
    """What the packets tell of a file, None where they do not."""
    with Decoder(path) as decoder:
        return contents_by_packets(decoder) if tells(decoder) else None


def made(folder: Path, name: str) -> Path:
    encoder, options, stamps = TOLD[name]
    try:
        return encode(folder / name, numbered_frames(COUNT), encoder, options, stamps, gop=18)
    except av.error.FFmpegError:
        pytest.skip(f"this FFmpeg has no {encoder}")


@pytest.mark.parametrize("name", TOLD)
def test_packets_tell_what_a_full_decode_finds(tmp_path, monkeypatch, name):
    """Of each kind; and from every key frame on, clips are those of the whole video to the bit."""
    monkeypatch.setattr(key_frames, "APART", 1)
    path = made(tmp_path, name)
    video, contents = read_video(path), told(path)
    assert contents[:3] == (len(video), *video.shape[1:3]) == (COUNT, 48, 64)
    assert count_frames(path) == COUNT
    starts = [key.number for key in contents.keys.up_to(COUNT)]
    assert len(starts) >= (0 if name == "refresh.mp4" else 2)  # a refresh has no key frame but the first
    for first in starts:
        numbers = [number for number in (first, first + 1, first + 7) if number < COUNT]
        with Decoder(path) as decoder:  # not by way of the beginning
            keys = contents.keys.up_to(first)
            got = {
                number: frame.to_ndarray(format="rgb24")
                for number, frame in _some(decoder.frames_from(keys), min(8, COUNT - first))
            }
        assert min(got) == first
        assert all(np.array_equal(got[number], video[number].numpy()) for number in numbers)
    wanted = torch.tensor([[55, 3, 40, 41], [19, 59, 0, 33]])
    assert torch.equal(read_frames(path, wanted, contents.keys), video[wanted])


def _some(frames, most):
    for number, (place, frame) in enumerate(frames):
        yield place, frame
        if number + 1 == most:
            return


def remuxed(source: Path, target: Path, keep) -> Path:
    """A copy of the packets that `keep(place)` wants."""
    with av.open(str(source)) as container, av.open(str(target), "w") as copy:
        stream = container.streams.video[0]
        template = copy.add_stream_from_template(stream)
        place = 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if keep(place):
                packet.stream = template
                copy.mux(packet)
            place += 1
    return target


def test_hidden_pictures_in_packets_of_their_own_are_none(tmp_path):
    """VP8 refers to them; here one is made so, by the bit of its header that shows it (RFC 6386, 9.1)."""
    path = encode(tmp_path / "v.webm", numbered_frames(COUNT), "libvpx", {"b": "1M", "deadline": "realtime"}, gop=18)
    with av.open(str(path)) as container:
        packet = bytes([packet for packet in container.demux(video=0) if packet.size][25])
    data = bytearray(path.read_bytes())
    place = data.index(packet)
    assert data[place] & 0x11 == 0x11  # no key frame, shown
    data[place] ^= 0x10
    path.write_bytes(data)
    contents = told(path)
    assert contents.frames == count_frames(path) == COUNT - 1
    assert numbers_of(read_frames(path, [24, 25, 50], contents.keys)) == [24, 26, 51]


def test_where_packets_do_not_tell_the_video_is_decoded(tmp_path, originals):
    """A reference that is lost, a beginning in the middle, packed and dropped frames, fields, other containers."""
    whole, opened = made(tmp_path, "b-frames.mkv"), made(tmp_path, "open.mkv")
    files = [
        remuxed(whole, tmp_path / "lost.mp4", lambda place: place != 28),
        remuxed(opened, tmp_path / "middle.mkv", lambda place: place > 10),
        remuxed(originals / "v_BaseballPitch_g01_c03.avi", tmp_path / "dropped.mp4", lambda place: True),
        encode(tmp_path / "fields.mp4", numbered_frames(20), "libx264", {"x264-params": "interlaced=1"}),
        encode(tmp_path / "packed.avi", numbered_frames(20), "mpeg4", {"bf": "2"}),
        encode(tmp_path / "stream.ts", numbered_frames(20), "libx264", {"bf": "2"}),
    ]
    for path in files:
        assert told(path) is None, path
        assert measure(path)[:3] == (len(read_video(path)), *read_video(path).shape[1:3])
    assert count_frames(files[0]) < COUNT - 1  # without a reference FFmpeg shows nothing until the next key frame
    assert count_frames(files[2]) == 103
    assert told(remuxed(whole, tmp_path / "whole.mp4", lambda place: True)).frames == COUNT


def test_all_real_files(shared):
    paths = sorted(path for path in shared.rglob("*.mp4") if "surv_fight" not in path.parts)
    for path in paths[::3]:
        if (contents := told(path)) is not None:
            assert contents.frames == count_frames(path), path


@pytest.mark.parametrize("name", ["b-frames.mp4", "hevc.mp4", "mpeg4.mp4", "hidden.webm"])
def test_what_is_damaged_at_the_beginning_or_the_end_is_found(tmp_path, name):
    """The first picture, and the last key frame."""
    path = made(tmp_path, name)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [packet for packet in packets if packet.is_keyframe]
    data = path.read_bytes()
    for number, packet in enumerate((keys[0], keys[-1])):
        place = data.index(bytes(packet))
        damaged = tmp_path / f"{number}-{name}"
        damaged.write_bytes(data[:place] + bytes(packet.size) + data[place + packet.size :])
        assert told(damaged) is None
        with pytest.raises(VideoError):
            measure(damaged)


def damaged_in_the_middle(folder: Path) -> Path:
    """A byte of a picture that no packet tells, of a file that packets tell."""
    path = encode(folder / "v.mp4", numbered_frames(COUNT), "libx264", {"crf": "10", "bf": "0"}, gop=60)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][30]
    data = bytearray(path.read_bytes())
    place = data.index(bytes(packet)) + packet.size // 2
    data[place : place + 8] = bytes(byte ^ 0xFF for byte in data[place : place + 8])
    path.write_bytes(data)
    return path


def test_whoever_wants_it_has_every_frame_decoded(tmp_path):
    """Damage within a picture; and what was counted by packets alone is not known well enough then."""
    path, known = str(damaged_in_the_middle(tmp_path)), tmp_path / "counts.jsonl"
    usable, skipped = check_videos([Video(path)], progress=False, known=known)
    assert [video.frames for video in usable] == [COUNT]
    usable, skipped = check_videos([Video(path)], progress=False, known=known, decode=True)
    assert not usable
    assert skipped[0].reason.startswith("is damaged")
    write_video(path, numbered_frames(30))
    assert check_videos([Video(path)], progress=False, known=known, decode=True)[0][0].frames == 30
    assert measure(path, decode=True) == measure(path)._replace(decoded=True)


# Key frames.


def test_key_frames_as_text():
    keys = KeyFrames.of([KeyFrame(0, 0, 0), KeyFrame(20, -5, -5), KeyFrame(30, 9, 12), KeyFrame(36, 50, 62)])
    assert keys == "20:-5 36:50+12"  # 30 is too near to 20
    assert keys.up_to(19) == []
    assert keys.up_to(36) == [KeyFrame(20, -5, -5), KeyFrame(36, 50, 62)]
    assert KeyFrames.read(str(keys)) == keys
    assert KeyFrames.read("") == ""
    for wrong in ("x", "3", "3:", "3:4 ", "3:4+", None, [3]):
        with pytest.raises(ValueError, match="names no key frames"):
            KeyFrames.read(wrong)


def test_runs_begin_where_a_key_frame_is_between():
    keys = KeyFrames("20:200 40:400")
    first, second = keys.up_to(40)
    assert runs_by_key_frame([3, 5], keys) == [Run([3, 5], [])]
    assert runs_by_key_frame([3, 21, 25, 39], keys) == [Run([3], []), Run([21, 25, 39], [first])]
    assert runs_by_key_frame([45], keys) == [Run([45], [first, second])]
    assert runs_by_key_frame([3, 45], KeyFrames()) == [Run([3, 45], [])]
    assert runs_by_key_frame([], keys) == [Run([], [])]


def test_only_frames_from_the_key_frame_on_are_decoded(tmp_path, monkeypatch):
    path = encode(
        tmp_path / "v.mp4", numbered_frames(200), "libx264", {"crf": "10", "bf": "2", "sc_threshold": "0"}, gop=40
    )
    keys, decoded, frames_from = measure(path).keys, [], Decoder.frames_from

    def counting(decoder, keys):
        for number, frame in frames_from(decoder, keys):
            decoded.append(number)
            yield number, frame

    monkeypatch.setattr(Decoder, "frames", None)  # from the beginning
    monkeypatch.setattr(Decoder, "frames_from", counting)
    assert numbers_of(read_frames(path, [45, 170, 172], keys)) == [45, 170, 172]
    assert decoded == [*range(40, 46), *range(160, 173)]


@pytest.mark.parametrize("keys", ["20:1", "40:20480", "30:20480", "20:99999999"])
def test_what_a_record_says_wrongly_is_decoded_from_the_beginning(tmp_path, keys):
    """Of a file that is another one by now: no such time, or not that of a key frame, or behind the end."""
    path = encode(tmp_path / "v.mp4", numbered_frames(60), "libx264", {"crf": "10", "bf": "2"}, gop=25)
    assert numbers_of(read_frames(path, [41, 59], KeyFrames(keys))) == [41, 59]
    with pytest.raises(VideoError, match="has 60 frames, frame 60 was asked for"):
        read_frames(path, [60], KeyFrames(keys))


def test_pictures_that_grow_are_scaled_to_the_first_ones(tmp_path):
    """From a key frame on the first one's size is not seen."""
    small, large = (
        encode(tmp_path / f"{side}.mkv", numbered_frames(30, side, 2 * side), "libvpx", {"b": "1M"})
        for side in (32, 64)
    )
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as copy:
        stream = None
        for start, source in ((0, small), (1200, large)):
            with av.open(str(source)) as container:
                stream = stream or copy.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, stream
                        copy.mux(packet)
    video, key = read_video(path), KeyFrames("30:1200")
    assert video.shape == (60, 32, 64, 3)
    assert told(path) is None
    assert torch.equal(read_frames(path, [40], key), video[[40]])
    with Decoder(path) as decoder, pytest.raises(NotThere):
        next(decoder.frames_from(key.up_to(40)))


# Processes.


def files(folder: Path, count: int) -> list[str]:
    for number in range(count):
        (folder / f"{number}.mp4").write_text(str(number))
    return [str(folder / f"{number}.mp4") for number in range(count)]


def ask(path: str) -> tuple[int, int]:
    number = int(Path(path).read_text())
    if number == 30:
        raise VideoError(path, "is empty")
    if number in (17, 41):
        os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid()


def test_files_are_asked_by_several_processes(tmp_path):
    """One that cannot be used, and two that end the process that reads them: the others are asked all the same."""
    paths = files(tmp_path, 3 * FEW)
    found = dict(asked(paths, ask, 3))
    assert sorted(found) == list(range(len(paths)))
    reasons = {place: found.pop(place).reason for place in (17, 30, 41)}
    assert reasons == {
        30: "is empty",
        **dict.fromkeys((17, 41), f"ends the process that reads it (exit code {-signal.SIGKILL})"),
    }
    assert all(answer[0] == place for place, answer in found.items())
    processes = {answer[1] for answer in found.values()}
    assert 3 <= len(processes) <= 5
    assert os.getpid() not in processes


def test_few_files_are_asked_here(tmp_path):
    paths = files(tmp_path, 3)
    assert dict(asked(paths, ask, 8)) == {place: (place, os.getpid()) for place in range(3)}
    assert list(asked([], ask, 8)) == []


def test_the_check_by_processes_is_the_check_by_one(tmp_path):
    path = encode(tmp_path / "v.mp4", numbered_frames(20), "libx264", {"crf": "10"})
    videos = []
    for number in range(2 * FEW):
        os.link(path, tmp_path / f"{number}.mp4")
        videos.append(Video(str(tmp_path / f"{number}.mp4"), "x"))
    (tmp_path / "3.mp4").unlink()
    expected = check_videos(videos, 16, workers=1, progress=False)
    known = tmp_path / "counts.jsonl"
    assert check_videos(videos, 16, workers=2, progress=False, known=known) == expected
    assert len(expected[0]) == len(videos) - 1 == len(known.read_text().splitlines())
    assert check_videos(videos, 16, workers=2, progress=False, known=known) == expected
