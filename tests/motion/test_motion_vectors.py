"""Motion vectors of whole videos: known motion, the same from run to run, doubtful streams, and clips."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from motionops.extras import require_av
from motionops.motion import MotionVectorWarning, read_coded_clip, read_motion_vectors
from motionops.motion.motion_vectors import coded_clip
from motionops.motion.prepare.reencode import reencode_video
from motionops.motion.vector_decoder import VectorDecoder
from motionops.video import VideoError, moving_shapes, read_frames, read_video
from motionops.video.counting.h264_header import reference_frames
from motionops.video.counting.key_frames import NOT_KNOWN
from motionops.video.encoding import write_video
from motionops.video.reading import measure
from tests.video.video_files import encode, numbered_frames, textured_pan

CODECS = ("mpeg4", "h264")
GOP = 12
MENDED_BY = "python -m motionops prepare reencode"


@pytest.fixture(autouse=True)
def no_other_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", MotionVectorWarning)
        yield


def pan(path, u, v, codec, count=14, height=128, width=176):
    write_video(path, textured_pan(count, height, width, u, v), codec=codec)
    return path


def interior(maps):
    """The maps of the P-frames, two cells from the border on, where all that is seen was seen before."""
    moving = [frame for frame in range(len(maps)) if frame % GOP]
    return maps[moving][:, :, 2:-2, 2:-2]


def require_true(maps, u, v):
    for channel, truth in enumerate((u, v)):
        assert abs(maps[:, channel].median() - truth) <= 0.25
    errors = (maps - torch.tensor([u, v]).view(1, 2, 1, 1)).abs().amax(1)
    assert (errors <= 1).float().mean() >= 0.95


@pytest.mark.parametrize(("u", "v"), [(1.5, -0.75), (-3, 2), (6, -5), (-0.25, 0.5)])
@pytest.mark.parametrize("codec", CODECS)
def test_a_pan_of_known_speed(tmp_path, codec, u, v):
    maps = read_motion_vectors(pan(tmp_path / "pan.mp4", u, v, codec))
    assert maps.dtype == torch.float32
    assert maps.shape == (14, 2, 16, 22)
    require_true(interior(maps), u, v)
    assert not maps[[0, GOP]].any()  # I-frames have none
    mirrored = textured_pan(14, 128, 176, u, v)[:, :, ::-1]
    write_video(tmp_path / "mirrored.mp4", mirrored, codec=codec)
    require_true(interior(read_motion_vectors(tmp_path / "mirrored.mp4")), -u, v)


@pytest.mark.parametrize("codec", CODECS)
def test_copies_have_vectors_of_a_quarter_of_a_pixel(tmp_path, codec):
    pan(tmp_path / "pan.mp4", -3.3, 2.2, codec)
    reencode_video(tmp_path / "pan.mp4", tmp_path / "copy.mp4", codec, GOP)
    maps = interior(read_motion_vectors(tmp_path / "copy.mp4"))
    assert abs(maps[:, 0].median() + 3.3) < 0.13
    assert abs(maps[:, 1].median() - 2.2) < 0.13


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_the_sprites_of_moving_shapes(tmp_path, codec, again):
    """Where a sprite was and is, away from its outline and from the border that it wraps around at."""
    errors = []
    for number in (1, 2, 3, 6, 9, 10, 11, 14):  # rise, fall, orbit, shake, whose true flow is a shift
        scene = moving_shapes.scene("train", number, size=80)
        path = tmp_path / f"{number}.mp4"
        write_video(path, scene.render(), codec=codec)
        if again:
            reencode_video(path, tmp_path / "copy.mp4", codec, GOP)
            path = tmp_path / "copy.mp4"
        maps = read_motion_vectors(path)
        mask = torch.from_numpy(scene.mask()).float()[:, None]
        flow = torch.from_numpy(scene.flow())
        shift = (flow * mask).flatten(2).sum(2) / mask.flatten(2).sum(2)  # of the sprite, to the next frame
        whole = (avg_pool2d(mask, 8) == 1).float()
        inner = -max_pool2d(-whole, 3, 1, 1)[:, 0] == 1
        inner[:, [0, -1]] = inner[:, :, [0, -1]] = False
        for frame in range(1, len(maps)):
            if frame % GOP:
                errors.append((maps[frame] - shift[frame - 1][:, None, None])[:, inner[frame]].T)
    errors = torch.cat(errors)
    assert len(errors) > 100
    assert (errors.median(0).values.abs() <= 0.25).all()
    assert ((errors.abs() <= 1).all(1)).float().mean() >= 0.95


@pytest.mark.parametrize("codec", CODECS)
def test_twenty_reads_by_several_workers_are_one(tmp_path, codec):
    path = pan(tmp_path / "pan.mp4", 2.3, 1.7, codec)
    with ThreadPoolExecutor(4) as pool:
        reads = list(pool.map(lambda _: read_motion_vectors(path), range(20)))
    assert all(torch.equal(read, reads[0]) for read in reads)
    processes = torch.utils.data.DataLoader([path] * 4, batch_size=None, num_workers=2, collate_fn=read_motion_vectors)
    assert all(torch.equal(read, reads[0]) for read in processes)


@pytest.mark.parametrize("cell", [1, 5, 16, 200])
def test_cells_at_the_right_and_bottom_and_other_sizes(tmp_path, cell):
    """100 x 66: neither macroblocks nor cells fit; all blocks are kept."""
    path = pan(tmp_path / "pan.mp4", 2, 1, "mpeg4", height=66, width=100)
    maps = read_motion_vectors(path, cell=cell)
    assert maps.shape == (14, 2, -(-66 // cell), -(-100 // cell))
    finest = read_motion_vectors(path, cell=1)
    for row, column in ((0, 0), (maps.shape[2] - 1, maps.shape[3] - 1)):
        pixels = finest[:, :, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        torch.testing.assert_close(maps[:, :, row, column], pixels.mean((2, 3)), rtol=1e-5, atol=1e-5)
    assert finest[1, 0, 40:, 90:].median() == 2


@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [("mpeg1video", "mkv"), ("mpeg2video", "mkv"), ("msmpeg4", "avi"), ("wmv2", "avi"), ("flv", "flv")],
)
def test_relatives_of_mpeg4(tmp_path, encoder, suffix):
    path = encode(tmp_path / f"pan.{suffix}", textured_pan(6, 96, 128, 2, -1), encoder, {"bf": "0", "qmax": "3"})
    # FFmpeg holds the last frame of MPEG-1 and MPEG-2 back, and then gives it out without vectors.
    require_true(interior(read_motion_vectors(path)[:-1]), 2, -1)


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("mpeg2video", {"bf": "2", "qmax": "3"}),
        ("libx264", {"bf": "2", "refs": "1", "x264-params": "b-pyramid=0:b-adapt=0:ref=1"}),
    ],
)
def test_b_frames_lead_to_the_frames_around_them(tmp_path, encoder, options):
    """Vectors of several frames' distance are those of one frame, with a warning."""
    path = encode(tmp_path / "pan.mkv", textured_pan(20, 128, 176, 2, -1), encoder, options)
    with pytest.warns(MotionVectorWarning) as caught:
        maps = read_motion_vectors(path)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith(f"{path}: the stream has ")
    assert "B-frames, and does not say which picture" in message
    assert MENDED_BY in message
    moving = maps[[frame for frame in range(20) if maps[frame].any()]]
    assert len(moving) >= 17
    require_true(moving[:, :, 3:-3, 3:-3], 2, -1)
    read_motion_vectors(path)  # would raise at a second warning
    read_coded_clip(path, [3], [4])
    os.utime(path, (1, 1))  # as if it were another file
    with pytest.warns(MotionVectorWarning):
        clip = read_coded_clip(path, range(20), range(20))
    assert torch.equal(clip.motion, maps)


def test_workers_warn_of_a_file_once(tmp_path, capfd):
    path = encode(tmp_path / "pan.mp4", textured_pan(8, 64, 64, 2, -1), "libx264", {"bf": "2"})
    for _ in range(2):  # epochs, each with workers of its own
        workers = torch.utils.data.DataLoader(
            [path] * 6,
            batch_size=None,
            num_workers=2,
            collate_fn=read_and_show_warnings,
            multiprocessing_context="fork",
        )
        assert len(list(workers)) == 6
    assert capfd.readouterr().err.count("MotionVectorWarning") <= 2  # two workers may see it at the same time


def read_and_show_warnings(path):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return read_motion_vectors(path)


def test_several_references_are_warned_of_in_every_container(tmp_path):
    frames = textured_pan(8, 128, 176, 2, -1)
    for suffix in ("mp4", "mkv", "avi", "ts"):
        options = {"bf": "0", "refs": "3", "preset": "medium"}
        path = encode(tmp_path / f"pan.{suffix}", frames, "libx264", options)
        with pytest.warns(MotionVectorWarning, match="has several reference pictures, and does not say"):
            read_motion_vectors(path)
        path = encode(tmp_path / f"one.{suffix}", frames, "libx264", {**options, "refs": "1"})
        require_true(interior(read_motion_vectors(path)), 2, -1)


@pytest.mark.parametrize("profile", ["baseline", "main", "high", "high422", "high444"])
@pytest.mark.parametrize("references", [1, 2, 4])
def test_reference_frames_of_h264_headers(tmp_path, profile, references):
    options = {"bf": "0", "refs": str(references), "profile": profile, "preset": "medium"}
    if profile == "high":
        options["x264-params"] = "cqm=jvt"  # scaling lists
    path = encode(tmp_path / "a.mp4", textured_pan(6, 64, 64, 1, 0), "libx264", options)
    with require_av().open(str(path)) as file:
        header = file.streams.video[0].codec_context.extradata
    assert reference_frames(header) == references
    for end in range(len(header)):
        assert reference_frames(header[:end]) in (None, references)


def test_headers_that_say_nothing():
    assert reference_frames(None) is None
    assert reference_frames(b"\x01") is None
    assert reference_frames(b"\x00\x00\x01\x67") is None
    random = np.random.default_rng(0)
    for _ in range(300):
        reference_frames(b"\x00\x00\x01\x67" + random.bytes(random.integers(0, 30)))


@pytest.mark.parametrize(
    ("encoder", "suffix", "name"),
    [
        ("libx265", "mp4", "hevc"),
        ("libvpx-vp9", "webm", "vp9"),
        ("libsvtav1", "mp4", "av1"),
        ("mjpeg", "avi", "mjpeg"),
    ],
)
def test_codecs_without_vectors(tmp_path, capfd, encoder, suffix, name):
    try:
        path = encode(tmp_path / f"a.{suffix}", numbered_frames(4, 64, 64), encoder, {"strict": "unofficial"})
    except require_av().codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no encoder {encoder}")
    for read in (read_motion_vectors, lambda path: read_coded_clip(path, [0], [1])):
        with pytest.raises(VideoError, match=f"is coded in {name}, of which no motion vectors can be read.*") as caught:
            read(path)
        assert MENDED_BY in str(caught.value)
    clip = read_coded_clip(path, [2, 1], [])  # frames alone need none
    assert torch.equal(clip.frames, read_frames(path, [2, 1]))
    assert clip.motion.shape == (0, 2, 8, 8)
    reencode_video(path, tmp_path / "copy.mp4")
    assert read_motion_vectors(tmp_path / "copy.mp4").shape == (4, 2, 8, 8)


def test_clips(tmp_path):
    path = pan(tmp_path / "pan.mp4", 2, 1, "h264", count=40)
    whole, maps = read_video(path), read_motion_vectors(path, cell=16)
    frames, motion = torch.tensor([[30, 26, 26], [25, 39, 28]]), torch.tensor([[3], [38]])
    clip = read_coded_clip(path, frames, motion, cell=16)
    assert torch.equal(clip.frames, read_frames(path, frames))
    assert torch.equal(clip.motion, maps[motion])
    assert torch.equal(clip.key_frame, whole[24])  # the I-frame before frame 25
    assert torch.equal(read_coded_clip(path, [24], [], cell=16).key_frame, whole[24])
    assert torch.equal(read_coded_clip(path, [23], [39], cell=16).key_frame, whole[12])
    assert read_coded_clip(path, torch.tensor(5), torch.empty(0, 3, dtype=torch.int64)).motion.shape == (
        0,
        3,
        2,
        16,
        22,
    )


def test_wrong_clips(tmp_path):
    path = pan(tmp_path / "pan.mp4", 2, 1, "h264")
    with pytest.raises(VideoError, match="has 14 frames, frame 14 was asked for"):
        read_coded_clip(path, [3], [14])
    with pytest.raises(ValueError, match="read_coded_clip: frames must be >= 0, got -1"):
        read_coded_clip(path, [-1], [3])
    with pytest.raises(ValueError, match=r"read_coded_clip: motion must be integers, got torch.float32"):
        read_coded_clip(path, [1], [0.5])
    with pytest.raises(ValueError, match="read_coded_clip: frames must name a frame, got none"):
        read_coded_clip(path, [], [3])
    with pytest.raises(ValueError, match="cell must be from 1 to"):
        read_motion_vectors(path, cell=0)


def test_unusable_files(tmp_path):
    path = pan(tmp_path / "pan.mp4", 2, 1, "h264", count=60)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="no such file"):
        read_motion_vectors(tmp_path / "missing.mp4")
    with pytest.raises(VideoError, match="is not a video"):
        read_motion_vectors(tmp_path / "text.mp4")
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(VideoError, match="truncated"):
        read_motion_vectors(tmp_path / "cut.mp4")


def test_a_picture_size_that_changes(tmp_path):
    parts = [encode(tmp_path / f"{w}.ts", textured_pan(5, 64, w, 1, 0), "mpeg4", {"bf": "0"}) for w in (64, 96)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match=r"changes its size at frame \d, so its motion vectors") as caught:
        read_motion_vectors(path)
    assert MENDED_BY in str(caught.value)
    reencode_video(path, tmp_path / "copy.ts")
    assert read_motion_vectors(tmp_path / "copy.ts").shape[1:] == (2, 8, 8)


def test_memory_of_frames_is_given_back(tmp_path):
    """Side data that a frame keeps would keep the frame: a hundred pictures would wait for the collector."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "large.mp4"
    frame = textured_pan(1, 720, 1280, 0, 0)[0]
    write_video(path, np.broadcast_to(frame, (150, *frame.shape)), codec="mpeg4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_motion_vectors(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80_000  # KiB; 150 frames are 200 MiB


def test_real_videos(shared, tmp_path):
    path = shared / "originals" / "v_BaseballPitch_g01_c03.avi"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = read_motion_vectors(path)
    assert maps.shape == (103, 2, 30, 40)
    reencode_video(path, tmp_path / "copy.avi")
    assert read_motion_vectors(tmp_path / "copy.avi").shape == maps.shape


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2", "refs": "1"}], ids=["P-frames", "B-frames"])
def test_a_clip_from_the_key_frame_before_it_is_that_of_the_whole_decode(tmp_path, monkeypatch, options):
    """Frames, vectors, which are I-frames, every key frame that a lot may choose; at the end of the video too."""
    options = {"sc_threshold": "0", **options}
    path = encode(tmp_path / "v.mp4", textured_pan(100, 48, 64, 3, 1), "libx264", options, gop=20)
    keys, frames_from, begun = measure(path).keys, VectorDecoder.frames_from, []

    def watched(decoder, near):
        begun.append(near[-1].number)
        return frames_from(decoder, near)

    monkeypatch.setattr(VectorDecoder, "frames_from", watched)
    for first in (45, 60, 84):
        frames, motion = torch.arange(first, first + 10, 2), torch.arange(first, first + 12)
        for lot in (0.0, 0.5, 0.99):
            how = {"cell": 8, "key": (lot, first, first + 8)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MotionVectorWarning)
                (found, intra), (whole, whole_intra) = (
                    coded_clip(path, frames, motion, **how, keys=known) for known in (keys, NOT_KNOWN)
                )
            assert all(map(torch.equal, found, whole))
            assert torch.equal(intra, whole_intra)
    assert set(begun) == {40, 60, 80}
    assert len(begun) == 9
