"""Plain lists and class folders."""

import os

import pytest

from motionops.errors import UserError
from motionops.video import Video, class_names, find_videos, read_list
from motionops.video.list_lines import split_line


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a/b.mp4 3", "a/b.mp4", "3"),
        ("a/b.mp4,3", "a/b.mp4", "3"),
        ("a/b.mp4\t3", "a/b.mp4", "3"),
        ("a/b.mp4, 3", "a/b.mp4", "3"),
        ("a/b.mp4   3", "a/b.mp4", "3"),
        ("a/b.mp4", "a/b.mp4", None),
        ("my first video.mp4", "my first video.mp4", None),
        ("my first video.mp4 jump", "my first video.mp4", "jump"),
        ("my first, really, video.mp4,jump", "my first, really, video.mp4", "jump"),
        ("folder of a.mp4 copies/b c.AVI 12", "folder of a.mp4 copies/b c.AVI", "12"),
        ("a.mp4,playing guitar", "a.mp4", "playing guitar"),
        ("frames without suffix 7", "frames without suffix", "7"),
        ("deep folder/no suffix/video", "deep folder/no suffix/video", None),
        ("/absolute path/a.mp4 1", "/absolute path/a.mp4", "1"),
        ("a.mp4 ,", "a.mp4", None),
        ("drinking (31).mp4 1", "drinking (31).mp4", "1"),
        ("a.MTS 1", "a.MTS", "1"),
        ("video", "video", None),
    ],
)
def test_lines(line, path, label):
    assert split_line(line) == (path, label)


def test_comments_blank_lines_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeff# two videos\r\n\r\na.mp4 0\r\n   \n  b b.mp4 1  \n# c.mp4 2".encode())
    folder = str(tmp_path)
    assert read_list(tmp_path / "list.txt") == [
        Video(os.path.join(folder, "a.mp4"), "0"),
        Video(os.path.join(folder, "b b.mp4"), "1"),
    ]


def test_relative_to_the_data_folder_or_to_the_list(tmp_path):
    for name in ("data", "lists"):
        (tmp_path / name).mkdir()
    for name in ("data/both.mp4", "lists/both.mp4", "lists/beside.mp4", "data/below.mp4"):
        (tmp_path / name).touch()
    listed = tmp_path / "lists" / "list.txt"
    listed.write_text(f"both.mp4 0\nbeside.mp4 0\nbelow.mp4 0\nmissing.mp4 0\n{tmp_path}/data/below.mp4 0\n")
    found = [os.path.relpath(video.path, tmp_path) for video in read_list(listed, root=tmp_path / "data")]
    assert found == ["data/both.mp4", "lists/beside.mp4", "data/below.mp4", "data/missing.mp4", "data/below.mp4"]
    found = [os.path.relpath(video.path, tmp_path) for video in read_list(listed)]
    assert found == ["lists/both.mp4", "lists/beside.mp4", "lists/below.mp4", "lists/missing.mp4", "data/below.mp4"]


def test_a_list_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    assert read_list("list.txt") == [Video("a.mp4", "0")]


def test_what_is_no_list(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "comments.txt").write_text("# nothing\n\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(128, 256)))
    for name, text in (
        ("missing.txt", "missing.txt: no such list"),
        ("empty.txt", "empty.txt: names no video"),
        ("comments.txt", "comments.txt: names no video"),
        ("binary.txt", "binary.txt: is not a text file"),
        ("*.nothing", r"\*.nothing: no list matches"),
        (".", "is a folder, not a list"),
    ):
        with pytest.raises(UserError, match=text) as caught:
            read_list(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_class_folders(tmp_path):
    for name in ("b/2.mp4", "b/1.AVI", "a/deep/3.webm", "0.mkv", "a/notes.txt", ".hidden/4.mp4", "a/.5.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [(os.path.relpath(video.path, tmp_path), video.label) for video in find_videos(tmp_path)]
    assert found == [("0.mkv", None), ("a/deep/3.webm", "a"), ("b/1.AVI", "b"), ("b/2.mp4", "b")]


def test_each_real_folder_counts_once(tmp_path, capsys):
    """Whatever links lead to it; and of a link to a folder above, the folder itself is a part, not the other way."""
    for name in ("set/left/1.mp4", "set/up/2.mp4", "elsewhere/3.mp4", "beside.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for link, target in (("left/all", ".."), ("left/top", "../.."), ("a_link", "up"), ("far", "../elsewhere")):
        (tmp_path / "set" / link).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to("../set")
    found = [(os.path.relpath(video.path, tmp_path / "set"), video.label) for video in find_videos(tmp_path / "set")]
    assert found == [("far/3.mp4", "far"), ("left/1.mp4", "left"), ("up/2.mp4", "up")]
    assert capsys.readouterr().err == ""


def test_camcorders_suffixes_are_known_and_other_files_are_counted(tmp_path, capsys):
    names = ("1.MTS", "2.m2ts", "3.vob", "4.asf", "5.divx", "6.gif", "7.jpg", "8.jpg", "9.wav", "list.txt", "readme.md")
    for name in names:
        (tmp_path / name).touch()
    assert len(find_videos(tmp_path)) == 6
    assert "3 files of other kinds are left out (2 .jpg, 1 .wav)" in capsys.readouterr().err


def test_what_is_no_folder_of_videos(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "none").mkdir()
    for name, text in (("missing", "no such folder"), ("file", "is not a folder"), ("none", "holds no video")):
        with pytest.raises(UserError, match=text):
            find_videos(tmp_path / name)


def test_class_names():
    assert class_names([Video("x", "10"), Video("y", "9")], [Video("z", "9"), Video("w")]) == ["9", "10"]
    assert class_names([Video("x", "run"), Video("y", "10")]) == ["10", "run"]
    assert class_names([Video("x")]) == []


def test_real_lists(shared):
    for name, train, test in (("weizmann4", 24, 12), ("surv_fight", 223, 77)):
        for split, count in (("train", train), ("test", test)):
            videos = read_list(shared / name / f"{split}.txt")
            assert len(videos) == count
            assert all(os.path.exists(video.path) for video in videos)
    assert len(find_videos(shared / "misc_unlabelled")) == 40
