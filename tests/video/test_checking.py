"""Which videos are skipped, and when that is too many."""

import pytest

from motionops.video import (
    Skipped,
    UnusableVideos,
    Video,
    check_videos,
    checking,
    find_videos,
    read_list,
    require_usable,
)
from motionops.video.encoding import write_video
from motionops.video.reading import measure
from tests.video.video_files import numbered_frames


@pytest.fixture
def videos(tmp_path):
    for name, count in (("a", 20), ("b", 20), ("short", 3)):
        write_video(tmp_path / f"{name}.mp4", numbered_frames(count))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-100])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    names = ("a", "missing", "cut", "b", "text", "short", "empty")
    return [Video(str(tmp_path / f"{name}.mp4"), "x") for name in names]


@pytest.mark.parametrize("workers", [1, 4])
def test_skipped_with_reasons(videos, workers):
    usable, skipped = check_videos(videos, minimum_frames=16, workers=workers, progress=False)
    assert usable == [Video(videos[place].path, "x", 20, picture=(48, 64), keys=usable[0].keys) for place in (0, 3)]
    assert [(name.path, name.reason.split(" (")[0]) for name in skipped] == [
        (videos[1].path, "no such file"),
        (videos[2].path, "is truncated"),
        (videos[4].path, "is not a video"),
        (videos[5].path, "is too short: 3 frames, 16 are needed"),
        (videos[6].path, "is empty"),
    ]
    assert check_videos([], progress=False) == ([], [])


def test_progress_bar(videos, capsys):
    check_videos(videos, progress=True)
    assert "checking videos: 100%" in capsys.readouterr().err
    check_videos(videos, progress=False)
    assert capsys.readouterr().err == ""


def test_what_is_known_is_not_decoded_again(videos, tmp_path, monkeypatch):
    decoded = []

    def counting(path, decode):
        decoded.append(path)
        return measure(path, decode)

    monkeypatch.setattr(checking, "measure", counting)
    known = tmp_path / "cache" / "counts.jsonl"
    expected = check_videos(videos, 16, progress=False)
    decoded.clear()
    assert check_videos(videos, 16, progress=False, known=known) == expected
    assert len(decoded) == 7
    decoded.clear()
    assert check_videos(videos, 16, progress=False, known=known) == expected
    # What cannot be used is tried each time: it may have been mended without a change to the file.
    assert sorted(decoded) == sorted(videos[place].path for place in (1, 2, 4, 6))
    write_video(videos[0].path, numbered_frames(30))
    known.write_text(known.read_text()[:-10] + "\nnonsense\n[]\n3\n[[1], 2]\n")  # a line that was cut, and others
    decoded.clear()
    usable, _ = check_videos(videos, 16, progress=False, known=known)
    assert [video.frames for video in usable] == [30, 20]
    assert videos[0].path in decoded
    assert len(decoded) <= 6
    assert check_videos(videos[:1], progress=False, known=tmp_path) == (usable[:1], [])  # a folder: done without


def test_a_video_counts_once_with_its_first_reason():
    """One that changes while it is read fails in another way each time."""
    failed = [Skipped("a", "has 5 frames, frame 31 was asked for"), Skipped("b", "x"), Skipped("a", "frame 40")]
    assert checking.once_each(failed) == failed[:2]


def test_how_many_may_be_skipped():
    usable = [Video(str(number)) for number in range(90)]
    skipped = [Skipped(f"bad{number}.mp4", "is empty") for number in range(11)]
    require_usable(usable, [])
    require_usable(usable, skipped[:10])  # exactly 10 %
    with pytest.raises(UnusableVideos, match="11 of 101 videos cannot be used, at most 10% may be") as caught:
        require_usable(usable, skipped)
    assert caught.value.skipped == skipped
    assert all(f"bad{number}.mp4: is empty" in str(caught.value) for number in range(11))
    with pytest.raises(
        UnusableVideos, match=r"1 of 91 videos cannot be used, none may be \(strict\): bad0.mp4: is empty"
    ):
        require_usable(usable, skipped[:1], strict=True)
    with pytest.raises(UnusableVideos, match="1 of 1 videos"):
        require_usable([], skipped[:1])
    with pytest.raises(UnusableVideos, match="there is no video"):
        require_usable([], [])
    with pytest.raises(UnusableVideos, match=r"; and 50 more$"):
        require_usable([], [Skipped("x", "y")] * 100)


def test_real_files(shared):
    usable, skipped = check_videos(find_videos(shared / "originals"), 16, progress=False)
    assert {video.path.rsplit("/", 1)[1]: video.frames for video in usable} == {
        "R6llTwEh07w.mp4": 303,
        "v_BaseballPitch_g01_c03.avi": 103,
    }
    assert [(name.path.rsplit("/", 1)[1], name.reason.split(" (")[0]) for name in skipped] == [
        ("decord_corrupted.mp4", "is damaged after 28 frames"),
    ]
    usable, skipped = check_videos(read_list(shared / "weizmann4" / "train.txt"), 16, progress=False)
    assert (len(usable), skipped) == (24, [])
