"""Copies with P-frames only: the same frames, folders and lists; resumption, changes, errors."""

import os
import signal
import subprocess
import sys
import time
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from motionops.errors import UserError
from motionops.extras import require_av
from motionops.motion import read_motion_vectors
from motionops.motion.prepare import reencode
from motionops.motion.prepare.reencode import ReencodeConfig, main, reencode_video
from motionops.video import UnusableVideos, VideoError, find_videos, moving_shapes, read_list, read_video
from motionops.video.encoding import write_video
from tests.video.video_files import encode, numbered_frames, numbers_of, textured_pan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "set"
    return moving_shapes.generate(folder, train=8, test=8, progress=False)


def config(data, output, **changes):
    return ReencodeConfig(**{"data": data, "output": output, "workers": 1, **changes})


def kinds(path):
    """The types of the frames, as letters."""
    av = require_av()
    with av.open(str(path)) as file:
        return "".join(av.video.frame.PictureType(frame.pict_type).name for frame in file.decode(video=0))


def states(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "webm", "mov", "ts", "wmv"])
def test_a_copy_is_the_video_with_p_frames_only(tmp_path, codec, suffix):
    encoder = {"webm": "libvpx", "wmv": "wmv2"}.get(suffix, "libx264")
    options = {"bf": "3", "refs": "4"} if encoder == "libx264" else {}
    path = encode(tmp_path / f"a.{suffix}", numbered_frames(30), encoder, options, gop=30)
    copied = reencode_video(path, tmp_path / f"copy.{suffix}", codec, gop=10)
    copy = tmp_path / f"copy.{suffix}"
    assert copied == (30, copy.stat().st_size)
    found = read_video(copy)
    assert numbers_of(found) == list(range(30))
    assert (found.float() - read_video(path).float()).abs().mean() < 3
    order = kinds(copy)
    assert set(order) == {"I", "P"}
    assert order[0] == "I"
    assert max(map(len, order.split("I"))) < 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_motion_vectors(copy)) == 30


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (16, 8), (34, 1000)])
def test_unusual_sizes(tmp_path, codec, height, width):
    frames = textured_pan(3, height, width, 1, 0)
    path = encode(tmp_path / "a.mkv", frames, "ffv1", {})
    reencode_video(path, tmp_path / "copy.mkv", codec)
    assert read_video(tmp_path / "copy.mkv").shape == (3, height, width, 3)
    assert read_motion_vectors(tmp_path / "copy.mkv").shape == (3, 2, -(-height // 8), -(-width // 8))


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
def test_odd_sides_rates_and_stamps(tmp_path, codec):
    """An odd size; a frame rate that is no whole number; frames that are not evenly spaced keep their numbers."""
    path = encode(tmp_path / "odd.mkv", numbered_frames(9, 49, 65)[:, :, :64], "mpeg4", {})
    reencode_video(path, tmp_path / "copy.mkv", codec)
    assert read_video(tmp_path / "copy.mkv").shape == (9, 49 if codec == "mpeg4" else 48, 64, 3)
    path = encode(tmp_path / "rate.mp4", numbered_frames(5), "libx264", {"bf": "0"}, rate=Fraction(1000000, 33367))
    reencode_video(path, tmp_path / "rate_copy.mp4", codec)
    with require_av().open(str(tmp_path / "rate_copy.mp4")) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(29.97, abs=0.01)
    stamps = np.cumsum([0, 33, 67, 33, 33, 500, 33, 33, 34, 33])
    path = encode(tmp_path / "uneven.mkv", numbered_frames(10), "libx264", {"bf": "0"}, stamps=stamps)
    for suffix in ("mkv", "avi", "mp4"):
        reencode_video(path, tmp_path / f"even.{suffix}", codec)
        assert numbers_of(read_video(tmp_path / f"even.{suffix}")) == list(range(10))


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("libx264", {"x264-params": "colormatrix=bt709", "colorspace": "bt709"}),
        ("libx264", {"x264-params": "fullrange=on", "color_range": "pc"}),
        ("libx264", {}),
    ],
)
def test_colours_stay(tmp_path, codec, encoder, options):
    frames = (textured_pan(4, 64, 64, 1, 1) / [2, 1, 1]).astype(np.uint8)
    path = encode(tmp_path / "a.mkv", frames, encoder, {"crf": "5", **options})
    reencode_video(path, tmp_path / "copy.avi", codec)
    difference = read_video(tmp_path / "copy.avi").float() - read_video(path).float()
    assert difference.mean((0, 1, 2)).abs().max() < 3  # 8 where the copy is read as what it is not


def test_folders_and_lists_are_kept(shapes, tmp_path, capsys):
    output = tmp_path / "copies"
    assert main(config(shapes, output, workers=2)) == 0
    error = capsys.readouterr().err
    assert "16 videos take" in error
    assert "their copies" in error
    names = [os.path.relpath(video.path, shapes) for video in find_videos(shapes)]
    assert [os.path.relpath(video.path, output) for video in find_videos(output)] == names
    assert not [path for path in output.rglob(".*") if path.name != reencode.RECORD]
    for name in ("train.txt", "test.txt", "classes.txt", moving_shapes.DESCRIPTION):
        assert (output / name).read_bytes() == (shapes / name).read_bytes()
    for video, copy in zip(read_list(shapes / "train.txt"), read_list(output / "train.txt"), strict=True):
        assert copy.label == video.label
        assert Path(copy.path).is_file()
        assert moving_shapes.true_flow(copy.path).equal(moving_shapes.true_flow(video.path))
        assert "B" not in kinds(copy.path)


def test_lists_of_other_places_lead_to_the_copies(tmp_path):
    data, output = tmp_path / "data", tmp_path / "out" / "copies"
    for name in ("a/one.mp4", "b/two words.mp4"):
        (data / name).parent.mkdir(parents=True)
        write_video(data / name, numbered_frames(3))
    (data / "lists").mkdir()
    own = data / "lists" / "own.txt"
    own.write_text(f"# a comment\n{data}/a/one.mp4 0\n../b/two words.mp4 1\n/elsewhere/gone.mp4 2\n")
    (tmp_path / "beside.txt").write_text("data/a/one.mp4,0\ndata/b/two words.mp4,1\n")
    (tmp_path / "below.txt").write_text("a/one.mp4\nb/two words.mp4\n")
    (tmp_path / "classInd.txt").write_text("1 a\n2 b\n")
    (tmp_path / "testlist01.txt").write_text("a/one.mp4\nb/two words.mp4\n")
    for name in ("beside.txt", "below.txt", "testlist01.txt"):
        assert main(config(data, output, list=tmp_path / name)) == 0
        copies = read_list(output / name, root=output)
        assert [copy.label for copy in copies] == [v.label for v in read_list(tmp_path / name, root=data)]
        assert [os.path.relpath(copy.path, output) for copy in copies] == ["a/one.mp4", "b/two words.mp4"]
        assert all(Path(copy.path).is_file() for copy in read_list(output / name))
    copies = read_list(output / "lists" / "own.txt")
    assert [Path(copy.path).resolve() for copy in copies[:2]] == [output / "a/one.mp4", output / "b/two words.mp4"]
    assert copies[2].path == "/elsewhere/gone.mp4"
    (tmp_path / "other.mp4").write_bytes((data / "a/one.mp4").read_bytes())
    (tmp_path / "other.txt").write_text("other.mp4\n")
    with pytest.raises(UserError, match=r"--list: .*other.mp4 is not below --data"):
        main(config(data, output, list=tmp_path / "other.txt"))


def test_a_run_goes_on_and_changed_or_lost_copies_are_made_again(shapes, tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "copies"
    for number in range(4):
        data.mkdir(exist_ok=True)
        write_video(data / f"{number}.mp4", numbered_frames(5 + number))
    part = tmp_path / "part.txt"
    part.write_text("0.mp4\n1.mp4\n")
    assert main(config(data, output, list=part)) == 0
    first = states(output)
    assert main(config(data, output)) == 0
    assert "2 of 4 videos are done already" in capsys.readouterr().err
    assert {path: state for path, state in states(output).items() if path in first} == first
    whole = states(output)
    write_video(data / "1.mp4", numbered_frames(20))
    (output / "2.mp4").unlink()
    assert main(config(data, output)) == 0
    assert "2 of 4 videos are done already" in capsys.readouterr().err
    assert {path.name for path, state in states(output).items() if state != whole.get(path)} == {"1.mp4", "2.mp4"}
    assert len(read_video(output / "1.mp4")) == 20
    with pytest.raises(UserError, match=r"was made with codec mpeg4; name another"):
        main(config(data, output, codec="h264"))
    with pytest.raises(UserError, match=r"was made with gop 12; name another"):
        main(config(data, output, gop=5))


def test_a_killed_run_leaves_no_half_of_a_copy(tmp_path):
    data, output = tmp_path / "data", tmp_path / "copies"
    data.mkdir()
    for number in range(6):
        write_video(data / f"{number}.mp4", textured_pan(40, 240, 320, 1, 2, seed=number))
    command = [sys.executable, "-m", "motionops", "prepare", "reencode", "--data", data, "--output", output]
    run = subprocess.Popen([*map(str, command), "--workers", "1"], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(output.glob("[0-9].mp4")) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    kept = states(output)
    whole = [path for path in kept if not path.name.startswith(".")]
    assert whole
    assert all(len(read_video(path)) == 40 for path in whole)
    assert main(config(data, output)) == 0
    assert len(find_videos(output)) == 6
    assert all(len(read_motion_vectors(video.path)) == 40 for video in find_videos(output))
    again = [path for path in whole if states(output)[path] != kept[path]]
    assert len(again) <= 1  # the one that was written and not yet recorded


def test_videos_that_cannot_be_used(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(10):
        write_video(data / f"good{number}.mp4", numbered_frames(3))
    (data / "broken.mp4").write_bytes(b"no video at all")
    assert main(config(data, tmp_path / "copies")) == 0
    error = capsys.readouterr().err
    assert "broken.mp4: is not a video" in error
    assert "1 of 11 videos were skipped" in error
    assert "10 videos take" in error
    assert not (tmp_path / "copies" / "broken.mp4").exists()
    with pytest.raises(UnusableVideos, match=r"broken.mp4 cannot be used.*strict"):
        main(config(data, tmp_path / "strict", strict=True))
    write_video(data / "cut.avi", textured_pan(30, 64, 64, 1, 1))
    (data / "cut.avi").write_bytes((data / "cut.avi").read_bytes()[:-3000])
    with pytest.raises(UnusableVideos, match=r"2 of 12 videos cannot be used.*cut.avi: .*truncated"):
        main(config(data, tmp_path / "copies"))
    assert len(find_videos(tmp_path / "copies")) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gop": 0}, "--gop: must be at least 1, got 0"),
        ({"data": None, "list": Path("a.txt")}, "--data: name the folder of the videos"),
        ({"data": Path("nowhere")}, "--data: there is no folder nowhere"),
        ({"output": "copies"}, "--output: .* is within --data"),
        ({"output": "."}, "--output: .* is within --data"),
    ],
)
def test_wrong_flags(tmp_path, changes, message):
    write_video(tmp_path / "a.mp4", numbered_frames(2))
    if isinstance(changes.get("output"), str):
        changes = {"output": tmp_path / changes["output"]}
    with pytest.raises(UserError, match=message):
        main(config(**{"data": tmp_path, "output": tmp_path.parent / "copies", **changes}))


def test_a_folder_that_cannot_be_written(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(2))
    with pytest.raises(OSError, match="No such file or directory"):
        reencode_video(tmp_path / "a.mp4", tmp_path / "nowhere" / "a.mp4")


def test_the_originals_go_through_and_the_corrupted_one_is_named(originals, tmp_path, capsys):
    with pytest.raises(UnusableVideos, match="1 of 3 videos cannot be used") as caught:
        main(config(originals, tmp_path, workers=2))
    assert [Path(path).name for path, _ in caught.value.skipped] == ["decord_corrupted.mp4"]
    assert "skipped" in capsys.readouterr().err
    for video in find_videos(tmp_path):
        original = originals / Path(video.path).name
        assert read_motion_vectors(video.path).any()
        assert len(read_video(video.path)) == len(read_video(original))


def test_pictures_that_a_codec_cannot_hold(tmp_path):
    path = encode(tmp_path / "wide.mkv", np.zeros((2, 16, 8300, 3), dtype=np.uint8), "ffv1", {})
    with pytest.raises(VideoError, match=r"wide.mkv: cannot be encoded in mpeg4"):
        reencode_video(path, tmp_path / "copy.mkv", "mpeg4")
    assert not [name for name in tmp_path.iterdir() if "copy" in name.name]
    assert reencode_video(path, tmp_path / "copy.mkv", "h264").frames == 2


def test_a_full_disk_is_no_fault_of_the_video(tmp_path):
    pytest.importorskip("resource")
    data = tmp_path / "data"
    data.mkdir()
    write_video(data / "a.mp4", textured_pan(20, 240, 320, 1, 2))
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000));"
        "import motionops.commands.prepare as p; sys.exit(p.main(sys.argv[1:]))"
    )
    arguments = ["reencode", "--data", str(data), "--output", str(tmp_path / "copies"), "--codec", "h264"]
    run = subprocess.run([sys.executable, "-c", limited, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "File too large" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [reencode.RECORD]
