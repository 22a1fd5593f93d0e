"""DALI's frames are PyAV's: by number, by colour, batch by batch; what DALI cannot do is done or said."""

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from motionops.errors import UserError
from motionops.extras import require_av
from motionops.nested import tensors_in
from motionops.training.data import chosen_decoder
from motionops.training.data.chosen_decoder import Rates, cannot_be_dali, choose_decoder, measured_rates
from motionops.training.data.dali_batches import DALIBatches, check_dali, check_reads_frames
from motionops.video import (
    Batch,
    FrameReader,
    KnownVideo,
    Plan,
    Video,
    VideoBatchSampler,
    VideoDataset,
    VideoError,
    collate_videos,
    read_frames,
    read_video,
)
from motionops.video import dali as module
from motionops.video.counting.key_frames import KeyFrames
from motionops.video.dali import (
    DALIDecoder,
    EncodedClip,
    EncodedReader,
    ReadByPyAV,
    bt709_of_bt601,
    misnumbered,
    unsupported,
)
from motionops.video.readers.piece import cut_piece
from motionops.video.reading import Coding, measure, read_coding
from tests.video.video_files import encode, numbered_frames, numbers_of, turn_header

cv2 = pytest.importorskip("cv2")

try:
    import nvidia.dali  # noqa: F401
except ImportError:
    installed = False
else:
    installed = True
needs_dali = pytest.mark.skipif(not installed, reason="DALI is not installed: pip install 'motionops[dali-cuda13]'")

FAST = {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"}
HIDDEN = {"crf": "30", "b": "0", "auto-alt-ref": "1", "lag-in-frames": "25", "deadline": "good", "cpu-used": "8"}
STAMPS = np.cumsum(np.where(np.arange(40) % 3 == 0, 15, 70))

# name of the file, encoder, its options, times of the frames in milliseconds
FILES = [
    pytest.param("vp9.webm", "libvpx-vp9", FAST, None, id="VP9 in WebM"),
    pytest.param("vp9.mp4", "libvpx-vp9", FAST, None, id="VP9 in MP4"),
    pytest.param("hidden.webm", "libvpx-vp9", HIDDEN, None, id="VP9 with hidden frames"),
    pytest.param("vp8.webm", "libvpx", {"b": "2M", "deadline": "realtime"}, None, id="VP8"),
    pytest.param("variable.webm", "libvpx-vp9", FAST, STAMPS, id="variable frame rate"),
    pytest.param("with spaces, ü: 1%.webm", "libvpx-vp9", FAST, None, id="a name with everything"),
]


def coloured(count: int, height: int, width: int) -> np.ndarray:
    """Frames that show their number in the upper half and moving colours in the lower."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    for number in range(count):
        frames[number, ..., 0] = 127 + 90 * np.sin((x + 3 * number) / 9)
        frames[number, ..., 1] = 127 + 90 * np.cos((y - 2 * number) / 7)
        frames[number, ..., 2] = 127 + 90 * np.sin((x + y + 5 * number) / 11)
    frames[:, : height // 2] = numbered_frames(count, height // 2, width)
    return frames


def interpolated(path: Path) -> np.ndarray:
    """Frames as BT.601 video with colour planes that are interpolated linearly: what DALI says it makes."""
    av = require_av()
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            planes, (height, width) = frame.to_ndarray(format="yuv420p").astype(np.float32), (frame.height, frame.width)
            luma = planes[:height]
            colour = planes[height:].reshape(2, height // 2, width // 2)
            u, v = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) - 128 for plane in colour)
            bright = 255 / 219 * (luma - 16)
            u, v = 255 / 224 * u, 255 / 224 * v
            rgb = [bright + 1.402 * v, bright - 0.344136 * u - 0.714136 * v, bright + 1.772 * u]
            frames.append(np.stack(rgb, axis=-1))
    return np.clip(np.stack(frames), 0, 255)


def decode(path: Path, numbers: torch.Tensor, frame_count: int) -> torch.Tensor:
    """Frames by DALI; an assertion fails where it was PyAV that read them."""
    clip = EncodedReader(gpu=False).clip(str(path), numbers, frame_count)
    assert isinstance(clip, EncodedClip), clip
    (frames,) = DALIDecoder(1)([clip])
    assert isinstance(frames, torch.Tensor), frames
    assert frames.shape == clip.shape
    return frames


@needs_dali
@pytest.mark.parametrize(("name", "encoder", "options", "stamps"), FILES)
def test_frames_are_those_of_pyav(tmp_path, name, encoder, options, stamps):
    path = encode(tmp_path / name, coloured(40, 64, 96), encoder, options, stamps)
    numbers = torch.tensor([[39, 0, 7, 7], [3, 20, 21, 38]])
    frames = decode(path, numbers, 40)
    assert frames.dtype == torch.uint8
    assert numbers_of(frames.flatten(0, 1)[:, :32]) == numbers.flatten().tolist()
    assert np.abs(frames.numpy() - interpolated(path)[numbers]).max() <= 1
    # PyAV repeats the colour planes; where there is little colour, little difference is left.
    with_pyav = read_frames(path, numbers)
    assert (frames.float() - with_pyav.float())[..., :24, :, :].abs().mean() < 1


@needs_dali
def test_every_frame_alone_and_all_at_once(tmp_path):
    path = encode(tmp_path / "a.webm", numbered_frames(60), "libvpx-vp9", FAST)
    assert numbers_of(decode(path, torch.arange(60)[None], 60)[0]) == list(range(60))
    reader, decoder = EncodedReader(gpu=False), DALIDecoder(60, threads=2)
    alone = decoder([reader.clip(str(path), torch.tensor([[number]]), 60) for number in range(60)])
    assert numbers_of(torch.cat(alone)[:, 0]) == list(range(60))


@needs_dali
@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, 1, 1, 0)], ids=str)
def test_turned_videos_are_upright(tmp_path, matrix):
    """DALI gives pictures as they are stored; the frames that show their numbers would show others, or none."""
    path = encode(tmp_path / "v.mp4", numbered_frames(20), "libvpx-vp9", FAST)
    turn_header(path, matrix)
    numbers = torch.tensor([[3, 17, 0]])
    frames, expected = decode(path, numbers, 20), read_frames(path, numbers)
    assert frames.shape == expected.shape
    assert (frames.int() - expected.int()).abs().max() < 12


@needs_dali
def test_full_colour_resolution_is_equal_to_the_byte(tmp_path):
    av = require_av()
    path = tmp_path / "444.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options=FAST)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv444p"
        for picture in coloured(10, 64, 96):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert torch.equal(decode(path, torch.arange(10)[None], 10)[0], read_video(path))


@needs_dali
def test_motion_jpeg_in_avi_with_the_full_range_of_values(tmp_path):
    av = require_av()
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"qmin": "2", "qmax": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for picture in numbered_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    frames = decode(path, torch.arange(20)[None], 20)[0]
    assert (frames.int() - read_video(path).int()).abs().max() <= 2


@needs_dali
@pytest.mark.parametrize("colours", [1, 5, 6])
def test_the_files_colour_matrix_is_used(tmp_path, colours):
    av = require_av()
    path = tmp_path / "a.webm"
    drawn = [(200, 60, 60), (60, 200, 60), (60, 60, 200), (180, 170, 40), (128, 128, 128)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options=FAST)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.colorspace = colours
        for colour in drawn:
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, dtype=np.uint8), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace=colours)
            picture.colorspace = colours
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert read_coding(path).colours == colours
    frames = decode(path, torch.arange(5)[None], 5)[0]
    assert (frames.int() - read_video(path).int()).abs().max() <= 3
    assert (frames[:, 24, 32].int() - torch.tensor(drawn)).abs().max() <= 5


def test_correction_of_colours_against_the_coefficients_of_the_standards():
    """RGB made with BT.601's coefficients becomes that made with BT.709's, each as the standard prints them."""
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(2000, generator=generator) * 120 + 70
    u, v = ((torch.rand(2000, generator=generator) - 0.5) * 60 for _ in range(2))
    bt601 = torch.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], dim=1)
    bt709 = torch.stack([y + 1.5748 * v, y - 0.187324 * u - 0.468124 * v, y + 1.8556 * u], dim=1)
    corrected = bt709_of_bt601(bt601.round().to(torch.uint8)).float()
    assert (corrected - bt709).abs().max() <= 1.6  # two roundings, the first up to 1.1 times larger
    grey = torch.arange(256, dtype=torch.uint8)[:, None].expand(-1, 3)
    assert torch.equal(bt709_of_bt601(grey), grey)


# Which files are DALI's.


def coding(**changes) -> Coding:
    usual = Coding("mov,mp4,m4a,3gp,3g2,mj2", "h264", "yuv420p", colours=2, height=240, width=320, stamps=[0, 1, 2])
    return usual._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "gpu", "reason"),
    [
        ({}, True, None),
        ({}, False, "DALI on the CPU does not decode h264"),
        ({"codec": "vp9"}, False, None),
        ({"codec": "vp9", "pixel_format": "yuv444p"}, False, None),
        ({"codec": "vp9", "pixel_format": "yuv444p"}, True, "DALI on the GPU does not decode yuv444p"),
        ({"codec": "hevc", "pixel_format": "yuv420p10le"}, True, "DALI on the GPU does not decode yuv420p10le"),
        ({"codec": "wmv2"}, True, "DALI on the GPU does not decode wmv2"),
        ({"codec": "vp9", "height": 100}, True, "the GPU decodes vp9 from 128x128 pixels on"),
        ({"width": 321}, True, "DALI on the GPU decodes pictures of even height and width"),
        ({"codec": "vp9", "width": 321}, False, None),
        ({"colours": 1}, True, None),
        ({"colours": 9}, True, "DALI does not know the colour matrix 9"),
    ],
)
def test_what_the_devices_decode(changes, gpu, reason):
    assert unsupported(coding(**changes), gpu) == reason


@pytest.mark.parametrize(
    ("changes", "frames", "reason"),
    [
        ({"stamps": [0, 3, 1, 2]}, 4, None),
        ({"stamps": [0, 1, 1, 2]}, 4, "has packets of the same time, by which DALI finds frames"),
        ({"stamps": [-1, 0, 1]}, 3, "has packets without a time, by which DALI finds frames"),
        ({"stamps": [0, None]}, 2, "has packets without a time, by which DALI finds frames"),
        ({}, 4, "has 3 packets for 4 frames"),
        ({"container": "avi", "codec": "mjpeg"}, 3, None),
    ],
)
def test_files_whose_frames_dali_could_number_otherwise(changes, frames, reason):
    assert misnumbered(coding(**changes), frames) == reason


def test_frames_that_are_reordered_need_stored_times(tmp_path):
    packed = encode(tmp_path / "b.avi", numbered_frames(30), "mpeg4", {"bf": "2"})
    assert misnumbered(read_coding(packed), 30).startswith("mpeg4 in avi, where frames have no stored times")
    ordered = read_coding(encode(tmp_path / "b.mp4", numbered_frames(30), "libx264", {"bf": "2"}))
    assert ordered.stamps != sorted(ordered.stamps)
    assert misnumbered(ordered, 30) is None


@pytest.mark.parametrize("gpu", [False, True])
def test_other_files_are_read_with_pyav_and_say_so(tmp_path, gpu):
    numbers = torch.tensor([[4, 9, 2]])
    path = encode(tmp_path / "a.avi", numbered_frames(30), "mpeg4", {"bf": "2"})
    item = EncodedReader(gpu).clip(str(path), numbers, 30)
    assert isinstance(item, ReadByPyAV)
    assert torch.equal(item.frames, read_frames(path, numbers))
    assert item.shape == (1, 3, 48, 64, 3)


def test_large_files_are_read_with_pyav(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1 << 10)
    path = encode(tmp_path / "a.webm", coloured(20, 64, 96), "libvpx-vp9", FAST)
    item = EncodedReader(gpu=False).clip(str(path), torch.tensor([[1]]), 20)
    assert isinstance(item, ReadByPyAV)
    assert "is larger than" in item.reason


def test_unusable_files_are_errors_as_with_pyav(tmp_path):
    reader, numbers = EncodedReader(gpu=False), torch.tensor([[0, 1]])
    whole = encode(tmp_path / "whole.webm", coloured(30, 64, 96), "libvpx-vp9", FAST)
    (tmp_path / "empty.webm").touch()
    (tmp_path / "text.webm").write_text("no video" * 100)
    (tmp_path / "cut.webm").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for name, reason in [("none.webm", "no such file"), ("empty.webm", "is empty"), ("text.webm", "is not a video")]:
        with pytest.raises(VideoError, match=reason):
            reader.clip(str(tmp_path / name), numbers, 30)
    with pytest.raises(VideoError, match="is truncated"):
        reader.clip(str(tmp_path / "cut.webm"), torch.tensor([[28]]), 30)


# Parts of files.


@pytest.mark.parametrize(
    ("name", "encoder", "options"),
    [
        ("h264.mp4", "libx264", {"crf": "10", "bf": "3", "b-pyramid": "normal"}),
        ("open.mp4", "libx264", {"crf": "10", "bf": "2", "x264-params": "open-gop=1:keyint=20"}),
        ("hevc.mp4", "libx265", {"crf": "10", "x265-params": "keyint=20:log-level=0"}),
        ("mpeg4.mkv", "mpeg4", {"qmin": "2", "qmax": "2", "bf": "2"}),
        ("hidden.webm", "libvpx-vp9", HIDDEN),
        ("hidden-8.webm", "libvpx", {"b": "300k", "auto-alt-ref": "1", "lag-in-frames": "25", "cpu-used": "4"}),
    ],
)
def test_a_part_of_a_file_decodes_to_the_frames_of_the_whole(tmp_path, name, encoder, options):
    """To the bit, and it holds the packets of those frames and few others."""
    path = encode(tmp_path / name, coloured(120, 64, 96), encoder, options, gop=20)
    keys = measure(path).keys
    assert keys
    for wanted in ([70, 71, 75], [43, 64, 66], [119]):
        piece = cut_piece(str(path), wanted, keys)
        (tmp_path / "piece.mkv").write_bytes(piece.data)
        assert torch.equal(read_frames(tmp_path / "piece.mkv", piece.numbers), read_frames(path, wanted))
        assert len(piece.data) < 0.7 * path.stat().st_size
    assert cut_piece(str(path), [0, 3], keys) is None
    assert cut_piece(str(path), [70], KeyFrames("60:123456789")) is None


@needs_dali
@pytest.mark.parametrize(
    ("encoder", "options", "name"), [("libvpx-vp9", HIDDEN, "a.webm"), ("libvpx", {"b": "2M"}, "b.webm")]
)
def test_dali_decodes_a_part_of_a_file(tmp_path, encoder, options, name):
    path = encode(tmp_path / name, coloured(120, 64, 96), encoder, options, gop=20)
    contents, numbers = measure(path), torch.tensor([[70, 72, 74], [99, 80, 80]])
    clip = EncodedReader(gpu=False).clip(str(path), numbers, 120, contents.keys)
    assert isinstance(clip, EncodedClip), clip
    assert len(clip.data) < 0.7 * path.stat().st_size
    (frames,) = DALIDecoder(1)([clip])
    assert numbers_of(frames.flatten(0, 1)[:, :32]) == numbers.flatten().tolist()
    (whole,) = DALIDecoder(1)([EncodedReader(gpu=False).clip(str(path), numbers, 120)])
    assert torch.equal(frames, whole)


def test_a_long_file_needs_no_room_for_all_of_it(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.webm", coloured(120, 64, 96), "libvpx-vp9", FAST, gop=20)
    monkeypatch.setattr(module, "MOST_BYTES", path.stat().st_size // 2)
    reader, numbers = EncodedReader(gpu=False), torch.tensor([[100, 101]])
    assert isinstance(reader.clip(str(path), numbers, 120), ReadByPyAV)
    assert isinstance(reader.clip(str(path), numbers, 120, measure(path).keys), EncodedClip)


# Sessions.


def encoded(height: int, place: int = 0) -> EncodedClip:
    return EncodedClip(f"{place}.webm", torch.zeros(1), torch.zeros(1, 1), torch.zeros(1, 1), "vp9", (height, 64))


@needs_dali
def test_clips_of_a_size_stay_with_their_session():
    decoder = DALIDecoder(6, sessions=3)
    clips = [encoded(height) for height in (96, 64, 32, 64, 96, 32)]
    shares = decoder.shared_out(clips)
    heights = [{clips[place].picture[0] for place in share} for share in shares]
    assert sorted(place for share in shares for place in share) == list(range(6))
    assert [len(share) for share in shares] == [2, 2, 2]
    assert sorted(map(tuple, heights)) == [(32,), (64,), (96,)]
    for session, share in zip(decoder.sessions, shares, strict=True):
        session.kind = clips[share[-1]].kind
    again = [encoded(height) for height in (32, 96, 64)]
    assert [{again[place].picture[0] for place in share} for share in decoder.shared_out(again)] == heights
    # Sizes within one macroblock are two.
    near = [encoded(height) for height in (530, 532, 530, 532)]
    by_size = [{near[place].picture[0] for place in share} for share in DALIDecoder(4, sessions=2).shared_out(near)]
    assert sorted(map(tuple, by_size)) == [(530,), (532,)]
    # More of a size than a session has room for: the others help.
    assert [len(share) for share in decoder.shared_out([encoded(64)] * 6)] == [2, 2, 2]
    assert DALIDecoder(2, sessions=7).shared_out([encoded(64)] * 2) == [[0], [1]]


@needs_dali
@pytest.mark.parametrize("sessions", [1, 2])
def test_sizes_within_one_macroblock_are_not_confused(tmp_path, sessions):
    """530 and 532 rows are both 34 macroblocks high; decoders that are kept see them by turns."""
    read = {}
    for height in (530, 532):
        path = encode(tmp_path / f"{height}.webm", coloured(8, height, 64), "libvpx-vp9", FAST)
        read[height] = EncodedReader(gpu=False).clip(str(path), torch.arange(8)[None], 8), read_video(path)
    decoder = DALIDecoder(4, sessions=sessions)
    for heights in ([530, 532], [532, 530], [532, 532, 530, 530], [530]):
        for height, frames in zip(heights, decoder([read[height][0] for height in heights]), strict=True):
            assert frames.shape == (1, 8, height, 64, 3)
            assert (frames[0].float() - read[height][1].float()).abs().mean() < 3
    assert decoder.sessions[0].kind is not None
    decoder.close()
    assert decoder.sessions[0].kind is None


@needs_dali
def test_several_sessions_decode_what_one_does(folder):
    reader, one, several = EncodedReader(gpu=False), DALIDecoder(9), DALIDecoder(9, sessions=4)
    for start in (0, 3, 6):
        clips = [reader.clip(video.path, start + torch.arange(8)[None], FRAMES) for video in videos_of(folder)]
        assert all(map(torch.equal, one(clips), several(clips)))
    broken = replace(clips[4], data=clips[4].data[: len(clips[4].data) // 3])
    frames = several([*clips[:4], broken, *clips[5:]])
    assert [place for place, found in enumerate(frames) if isinstance(found, VideoError)] == [4]


@needs_dali
def test_two_batches_are_decoded_ahead_of_the_one_in_use(folder):
    read = VideoDataset(videos_of(folder), draw).with_reader(EncodedReader(gpu=False))
    given = []

    class Loader(list):
        def __iter__(self):
            for items in super().__iter__():
                given.append(len(given))
                yield items

    batches = DALIBatches(Loader([[read[0, number]] for number in range(6)]), read, DALIDecoder(1))
    seen = []
    for batch in batches:
        seen.append(int(batch.index))
        assert len(given) == min(len(seen) + 2, 6)
    assert seen == list(range(6))


# Which decoder.


@pytest.mark.parametrize(
    ("rates", "chosen", "said"),
    [
        ([Rates(10, 50)], "dali", "DALI reads 50.0 videos a second, PyAV 10.0"),
        ([Rates(10, 10.5)], "pyav", "DALI reads 10.5 videos a second, PyAV 10.0"),
        ([Rates(10, 5), Rates(10, 40)], "dali", "DALI reads 45.0 videos a second, PyAV 20.0"),
        ([Rates(10, 50), Rates(0, 0, "DALI is not installed")], "pyav", "DALI is not installed"),
    ],
)
def test_all_processes_take_the_reader_that_is_faster_for_all(rates, chosen, said):
    assert choose_decoder(rates) == (chosen, f"--decoder auto: {chosen}: {said}")


@needs_dali
def test_both_readers_are_measured(folder, monkeypatch):
    """By a clock that goes as it is told: an item takes PyAV 3 s of a core, DALI's reader 1, DALI 2 s."""
    dataset = VideoDataset(videos_of(folder), draw)
    read = dataset.with_reader(EncodedReader(gpu=False))
    dali = DALIBatches((), read, DALIDecoder(4))
    core, wall, item, batch = [0.0], [0.0], VideoDataset.item, DALIBatches.batch

    def reading(self, *key):
        core[0] += 3.0 if type(self.reader) is FrameReader else 1.0
        return item(self, *key)

    def decoding(self, items):
        wall[0] += 2.0 * len(items)
        return batch(self, items)

    monkeypatch.setattr(VideoDataset, "item", reading)
    monkeypatch.setattr(DALIBatches, "batch", decoding)
    monkeypatch.setattr(chosen_decoder.time, "thread_time", lambda: core[0])
    monkeypatch.setattr(chosen_decoder.time, "perf_counter", lambda: wall[0])
    batches = [[(0, 0), (0, 1)], [(0, 2), (0, 3)]]
    assert measured_rates(dataset, batches, 2, dali) == Rates(2 / 3, 1 / 2)
    assert measured_rates(dataset, batches, 0, dali) == Rates(1 / 3, 1 / 3)  # nothing works beside it
    refusing = DALIBatches((), read, Refuses(4))
    assert measured_rates(dataset, batches, 2, refusing).refused.startswith("DALI decodes no video of a batch")


def test_what_dali_cannot_read_is_not_measured(folder, monkeypatch):
    class ReadsMore(FrameReader):
        pass

    coded = VideoDataset(videos_of(folder), draw, reader=ReadsMore())
    assert "key frames and motion vectors" in cannot_be_dali(coded) or not installed
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert cannot_be_dali(coded).startswith("DALI is not installed: pip install")


# Batches.

FRAMES = 24


def draw(video: KnownVideo, generator: torch.Generator) -> Plan:
    numbers = torch.randint(video.frames - 7, (2, 1), generator=generator) + torch.arange(0, 8, 2)
    return Plan(numbers, torch.rand(2, 3, 2, generator=generator))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("with spaces")
    for number in range(9):
        height = 64 if number % 3 else 48
        encode(folder / f"video {number}.webm", coloured(FRAMES, height, 64), "libvpx-vp9", FAST)
    return folder


def videos_of(folder: Path) -> list[Video]:
    return [Video(str(path), path.stem[-1], FRAMES) for path in sorted(folder.glob("*.webm"))]


def batches_of(dataset: VideoDataset, plan: VideoBatchSampler, dali: bool, workers: int = 0) -> list[Batch]:
    if not dali:
        return list(DataLoader(dataset, batch_sampler=plan, collate_fn=collate_videos))
    read = dataset.with_reader(EncodedReader(gpu=False))
    loader = DataLoader(read, batch_sampler=plan, collate_fn=list, num_workers=workers)
    return list(DALIBatches(loader, read, DALIDecoder(plan.batch_size)))


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    """Equal in all but colour, whose planes the two enlarge differently; frames show which they are."""
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        one, two = (list(tensors_in(replace(each, frames=[]))) for each in (batch, other))
        assert len(one) == len(two)
        assert all(map(torch.equal, one, two))
        assert batch.failed == other.failed
        assert type(batch.frames) is type(other.frames)
        for video, same in zip(batch.frames, other.frames, strict=True):
            assert video.shape == same.shape
            half = video.shape[2] // 2
            shown = numbers_of(video.flatten(0, 1)[:, :half])
            assert shown == numbers_of(same.flatten(0, 1)[:, :half])
            assert (video.float() - same.float()).abs().mean() < 3


@needs_dali
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_pyav(folder, workers):
    dataset = VideoDataset(videos_of(folder), draw, seed=5)
    plan = VideoBatchSampler(dataset, 4, seed=5, steps=5)
    batches = batches_of(dataset, plan, dali=True, workers=workers)
    assert any(isinstance(batch.frames, list) for batch in batches)  # videos of two sizes in one batch
    assert_same(batches, batches_of(dataset, plan, dali=False))


@needs_dali
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_the_videos_and_a_run_can_be_continued(folder, ranks):
    dataset = VideoDataset(videos_of(folder), draw, seed=2)
    batch_size = 4 if ranks == 2 else 3
    whole = batches_of(dataset, VideoBatchSampler(9, batch_size, seed=2, steps=4), dali=True)
    shares = [VideoBatchSampler(9, batch_size, seed=2, steps=4, rank=rank, world=ranks) for rank in range(ranks)]
    parts = [batches_of(dataset, share, dali=True) for share in shares]
    for step in range(4):
        assert torch.cat([part[step].index for part in parts]).tolist() == whole[step].index.tolist()
        assert torch.cat([part[step].starts for part in parts]).tolist() == whole[step].starts.tolist()
        frames = list(itertools.chain.from_iterable(part[step].frames for part in parts))
        assert all(torch.equal(one, other) for one, other in zip(frames, whole[step].frames, strict=True))
    epoch = torch.cat([batch.index for batch in whole[: 9 // batch_size]])
    assert len(set(epoch.tolist())) == 9 // batch_size * batch_size
    rest = VideoBatchSampler(9, batch_size, seed=2, steps=4, first_step=2)
    continued = batches_of(dataset, rest, dali=True)
    assert_same(continued, whole[2:])


@needs_dali
def test_broken_videos_are_replaced_and_named(folder, tmp_path):
    """One that is gone, one cut short, and one whose container is whole but whose frames are damaged."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "video 1.webm").unlink()
    cut = (copy / "video 2.webm").read_bytes()
    (copy / "video 2.webm").write_bytes(cut[: len(cut) // 2])
    whole = encode(tmp_path / "video 3.mp4", coloured(FRAMES, 64, 64), "libvpx-vp9", FAST)
    damaged = bytearray(whole.read_bytes())
    start = damaged.index(b"mdat") + 200
    damaged[start : start + 3000] = bytes(byte ^ 0xFF for byte in damaged[start : start + 3000])
    (copy / "video 3.webm").write_bytes(damaged)
    videos = videos_of(folder)
    videos = [Video(str(copy / Path(video.path).name), video.label, FRAMES) for video in videos]
    late = VideoDataset(videos, lambda video, _: Plan(torch.arange(video.frames - 4, video.frames)[None]), seed=1)
    plan = VideoBatchSampler(9, 9, seed=1, steps=1)
    with_dali, with_pyav = (batches_of(late, plan, dali) for dali in (True, False))
    assert_same(with_dali, with_pyav)
    named = {Path(video.path).name for video in with_dali[0].failed}
    assert named == {"video 1.webm", "video 2.webm", "video 3.webm"}


@needs_dali
def test_videos_that_are_not_for_dali_are_named_once(folder, tmp_path, capsys):
    for number in range(4):
        encode(tmp_path / f"{number}.avi", numbered_frames(FRAMES, 64, 64), "mpeg4", {"bf": "2"})
    others = [Video(str(path), "0", FRAMES) for path in sorted(tmp_path.glob("*.avi"))]
    dataset = VideoDataset([*videos_of(folder)[1:3], *others], draw, classes=list("0123456789"))
    plan = VideoBatchSampler(6, 6, steps=2)
    assert_same(batches_of(dataset, plan, dali=True), batches_of(dataset, plan, dali=False))
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "are read with PyAV: DALI on the CPU does not decode mpeg4" in said[0]


@needs_dali
def test_memory_and_open_files_stay_where_they_were(folder):
    dataset = VideoDataset(videos_of(folder), draw)
    read = dataset.with_reader(EncodedReader(gpu=False))
    loader = DataLoader(read, batch_sampler=VideoBatchSampler(9, 9, steps=112), collate_fn=list, num_workers=1)
    used = []
    for step, _ in enumerate(DALIBatches(loader, read, DALIDecoder(9))):
        if step in (22, 111):  # after 207 and 1008 videos
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            used.append((pages * os.sysconf("SC_PAGE_SIZE") >> 20, len(os.listdir("/proc/self/fd"))))
    (memory, files), (memory_later, files_later) = used
    assert memory_later <= memory + 16
    assert files_later <= files + 4 * 9  # tensors on their way from the worker hold some


class Refuses(DALIDecoder):
    """As where the GPU's decoder is missing."""

    def __call__(self, clips):
        return [VideoError(clip.path, "DALI: no decoder") for clip in clips]


@needs_dali
def test_a_clip_that_dali_alone_refuses_is_read_with_pyav_but_not_all(folder, capsys):
    dataset = VideoDataset(videos_of(folder)[1:3], draw)
    read = dataset.with_reader(EncodedReader(gpu=False))
    batches = DALIBatches(DataLoader(read, batch_size=1), read, Refuses(1))
    item = read[0, 0]
    batch = batches.batch([item])
    assert torch.equal(batch.frames[0], dataset[0, 0].frames)
    assert "are read with PyAV: DALI: no decoder" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^--decoder dali: DALI decodes no video of a batch, --decoder pyav does: "):
        batches.batch([read[0, 0], read[0, 1]])


def test_a_set_that_needs_a_gpu_is_refused_without_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = encode(tmp_path / "a.mp4", numbered_frames(10), "libx264", {})
    with pytest.raises(UserError) as error:
        check_dali([Video(str(path))])
    assert str(error.value) == (
        f"--decoder dali: there is no GPU, and DALI on the CPU decodes only VP8, VP9 and MJPEG; {path} is h264; "
        "--decoder pyav reads it"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_dali([Video(str(path))])


def test_methods_that_read_motion_vectors_are_refused(folder):
    class ReadsMore(FrameReader):
        pass

    check_reads_frames(VideoDataset(videos_of(folder), draw))
    with pytest.raises(UserError, match="--decoder pyav does"):
        check_reads_frames(VideoDataset(videos_of(folder), draw, reader=ReadsMore()))


def test_missing_dali_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--decoder dali: DALI is not installed: pip install 'motionops\[dali-cuda1"):
        DALIDecoder(1)


@needs_dali
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("name", "encoder", "options"),
    [
        ("h264.mp4", "libx264", {"bf": "2", "crf": "10"}),
        ("open.mp4", "libx264", {"bf": "2", "crf": "10", "x264-params": "open-gop=1"}),
        ("hevc.mp4", "libx265", {"crf": "10"}),
        ("vp9.webm", "libvpx-vp9", HIDDEN),
        ("mpeg4.mp4", "mpeg4", {"qmin": "2", "qmax": "2"}),
    ],
)
def test_frames_on_the_gpu_are_those_of_pyav(tmp_path, name, encoder, options):
    path = encode(tmp_path / name, coloured(60, 160, 192), encoder, options)
    numbers = torch.tensor([[59, 0, 7, 7], [31, 20, 21, 38]])
    clip = EncodedReader(gpu=True).clip(str(path), numbers, 60)
    assert isinstance(clip, EncodedClip), clip
    (frames,) = DALIDecoder(1, device=torch.device("cuda", torch.cuda.current_device()))([clip])
    assert frames.is_cuda
    frames = frames.cpu()
    assert numbers_of(frames.flatten(0, 1)[:, :80]) == numbers.flatten().tolist()
    assert np.abs(frames.numpy() - interpolated(path)[numbers]).max() <= 3
