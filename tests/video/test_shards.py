"""Videos in tars are found, named, labelled and read as files are; a damaged tar is named, and its whole part used."""

import errno
import json
import os
import tarfile

import pytest
import torch

from motionops.errors import UserError
from motionops.motion import read_motion_vectors
from motionops.motion.prepared_file import video_state
from motionops.video import (
    RandomClips,
    VideoDataset,
    VideoError,
    check_videos,
    count_frames,
    find_videos,
    key_frame_numbers,
    read_frames,
    read_list,
    read_video,
)
from motionops.video.cache import cache_folder
from motionops.video.encoding import write_video
from motionops.video.reading import read_pieces
from motionops.video.sources import opening, tars
from tests.video.shard_files import write_tar
from tests.video.video_files import encode, numbered_frames, numbers_of

pytestmark = pytest.mark.usefixtures("nothing_known")


@pytest.fixture
def video(tmp_path):
    return encode(tmp_path / "v.mp4", numbered_frames(20), "libx264", {"x264-params": "ref=1:bframes=0"}, gop=8)


def paths(videos, folder):
    return [(os.path.relpath(video.path, folder), video.label) for video in videos]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_is_read_as_a_file_is(tmp_path, suffix, format):
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    file = encode(tmp_path / f"v{suffix}", numbered_frames(20), codec, {})
    long = f"{'deep folder/' * 7}v{suffix}" if format == tarfile.USTAR_FORMAT else f"{'ä' * 150}{suffix}"
    write_tar(tmp_path / "s.tar", {f"a{suffix}": b"no video", long: file}, format)
    member = f"{tmp_path}/s.tar/{long}"
    assert torch.equal(read_video(member), read_video(file))
    assert torch.equal(read_frames(member, [3, 9, 3]), read_frames(file, [3, 9, 3]))
    assert torch.equal(torch.cat(list(read_pieces(member, 6))), read_video(file))
    assert count_frames(member) == 20
    assert key_frame_numbers(member).tolist() == key_frame_numbers(file).tolist()


def test_motion_vectors_of_a_member(tmp_path, video):
    write_tar(tmp_path / "s.tar", {"v.mp4": video})
    assert torch.equal(read_motion_vectors(tmp_path / "s.tar" / "v.mp4"), read_motion_vectors(video))


def test_names_and_labels(tmp_path, video):
    said = {"label": 3, "caption": "a"}
    first = {
        "00/a.mp4": video,
        "00/a.cls": b"7\n",
        "b.one.mp4": video,
        "b.json": json.dumps(said).encode(),
        "c.mp4": video,
        "c.json": b"{broken",
        "d.mp4": video,
        "d.json": json.dumps({"labels": ["run", "jump"]}).encode(),
        ".hidden/e.mp4": video,
        "._f.mp4": b"what macOS writes",
        "g.txt": b"a note",
    }
    (tmp_path / "data" / "more").mkdir(parents=True)
    write_tar(tmp_path / "data" / "1.tar", first)
    write_tar(tmp_path / "data" / "more" / "2.tar", {"./fall/a.mp4": video, "./rise/b.mp4": video})
    write_video(tmp_path / "data" / "more" / "z.mp4", numbered_frames(3))
    ones = [("1.tar/00/a.mp4", "7"), ("1.tar/b.one.mp4", "3"), ("1.tar/c.mp4", None), ("1.tar/d.mp4", None)]
    twos = [("more/2.tar/fall/a.mp4", "fall"), ("more/2.tar/rise/b.mp4", "rise")]
    data = tmp_path / "data"
    found = find_videos(data)
    assert paths(found, data) == [*ones, *twos, ("more/z.mp4", "more")]
    assert [video.labels for video in found if video.labels] == [("run", "jump")]
    assert paths(find_videos(data / "1.tar"), data) == ones
    assert paths(find_videos(data / "*.tar"), data) == ones
    assert paths(find_videos(f"{data}/{{1..1}}.tar"), data) == ones
    assert paths(read_list(data / "1.tar"), data) == ones
    listed = tmp_path / "list.txt"
    listed.write_text("more/2.tar\n1.tar/00/a.mp4 left\n1.tar 5\nmore/z.mp4 0\n")
    expected = [*twos, ("1.tar/00/a.mp4", "left"), *((name, "5") for name, _ in ones), ("more/z.mp4", "0")]
    assert paths(read_list(listed, root=data), data) == expected
    assert paths(read_list(listed, root=data / "*.tar"), data) == expected
    for wrong in ("nothing-*.tar", "nothing.tar"):
        with pytest.raises(UserError, match=r"no shard"):
            find_videos(data / wrong)


def test_split_files_find_their_videos_in_shards(tmp_path, video):
    write_tar(tmp_path / "0.tar", {"x/abcdefghijk_000003_000013.mp4": video})
    listed = tmp_path / "train.csv"
    listed.write_text("label,youtube_id,time_start,time_end,split\nyoga,abcdefghijk,3,13,train\n")
    assert paths(read_list(listed, root=tmp_path), tmp_path) == [("0.tar/x/abcdefghijk_000003_000013.mp4", "yoga")]


def test_an_index_is_made_once_and_again_when_the_tar_changes(tmp_path, video, monkeypatch):
    tar = write_tar(tmp_path / "s.tar", {"a.mp4": video})
    made = []
    through = tars._gone_through
    monkeypatch.setattr(tars, "_gone_through", lambda *given: made.append(1) or through(*given))
    for _ in range(2):
        tars._known.clear()  # as in another process
        assert count_frames(tar / "a.mp4") == 20
    assert len(made) == 1
    (kept,) = (cache_folder() / "tars").glob("*.json")
    for broken in (kept.read_text()[:-30], kept.read_text().replace('"a.mp4", 512', '"a.mp4", 513'), "[]", ""):
        kept.write_text(broken)
        tars._known.clear()
        assert count_frames(tar / "a.mp4") == 20
    assert len(made) == 5
    write_tar(tar, {"b.mp4": video, "c.mp4": video})
    assert count_frames(tar / "c.mp4") == 20
    with pytest.raises(VideoError, match=r"/s\.tar: a\.mp4: no such file$"):
        count_frames(tar / "a.mp4")
    assert len(made) == 6


def test_states_tell_members_and_their_changes_apart(tmp_path, video):
    tar = write_tar(tmp_path / "s.tar", {"a.mp4": video})
    before = video_state(tar / "a.mp4")
    assert before[0] == video.stat().st_size
    os.utime(tar, ns=(0, 12345))
    assert video_state(tar / "a.mp4") == (before[0], 12345)
    with pytest.raises(VideoError, match="no such file"):
        video_state(tar / "b.mp4")
    known = tmp_path / "counts.jsonl"
    usable, _ = check_videos(find_videos(tar), known=known, progress=False)
    assert (usable[0].frames, usable[0].picture) == (20, (48, 64))
    write_tar(tar, {"a.mp4": write_video(tmp_path / "w.mp4", numbered_frames(9)) or tmp_path / "w.mp4"})
    assert check_videos(find_videos(tar), known=known, progress=False)[0][0].frames == 9


def damaged(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes(byte ^ 0x55 for byte in data[offset : offset + 512]) + data[offset + 512 :]


def test_damaged_tars_and_members(tmp_path, video):
    """Each is one video that cannot be used, named; all that is whole is used."""
    good = {"a.mp4": video, "a.cls": b"1", "b.mp4": video, "b.cls": b"1"}
    whole = write_tar(tmp_path / "0.tar", good).read_bytes()
    with tarfile.open(tmp_path / "0.tar") as archive:
        second = archive.getmember("b.mp4")
        last = archive.getmember("b.cls")
    cut = {"1": whole[: second.offset_data + 100], "2": whole[: last.offset], "3": damaged(whole, second.offset)}
    for name, data in cut.items():
        (tmp_path / f"{name}.tar").write_bytes(data)
    (tmp_path / "4.tar").write_bytes(b"a note about videos" * 100)
    (tmp_path / "5.tar").write_bytes(b"")
    write_tar(tmp_path / "6.tar", {"a.mp4": video, "b.mp4": video.read_bytes()[:-200], "c.mp4": b""})
    usable, skipped = check_videos(find_videos(tmp_path), progress=False)
    names = ["0.tar/a", "0.tar/b", "1.tar/a", "2.tar/a", "2.tar/b", "3.tar/a", "6.tar/a", "v"]
    assert [os.path.relpath(found.path, tmp_path) for found in usable] == [f"{name}.mp4" for name in names]
    said = [str(each).removeprefix(f"{tmp_path}/") for each in skipped]
    size = video.stat().st_size
    assert said == [
        "1.tar: is truncated within b.mp4, after 2 members",
        f"2.tar: is truncated at byte {last.offset}, after 3 members",
        f"3.tar: is damaged at byte {second.offset}, after 2 members",
        "4.tar: is not a tar (invalid header)",
        "5.tar: is not a tar (empty file)",
        f"6.tar: b.mp4: is truncated ({size - 200} of at least {size} bytes)",
        "6.tar: c.mp4: is empty (0 bytes)",
    ]
    assert {found.label for found in find_videos(tmp_path / "1.tar")} == {"1"}  # evaluations want a class of each


def test_a_disk_that_fails_under_a_member(tmp_path, video, monkeypatch):
    tar = write_tar(tmp_path / "s.tar", {"a.mp4": video})
    pread, failures = os.pread, [errno.EIO] * 3

    def failing(*given):
        if failures:
            raise OSError(failures.pop(), "x")
        return pread(*given)

    monkeypatch.setattr(opening.os, "pread", failing)
    assert numbers_of(read_frames(tar / "a.mp4", [4])) == [4]
    failures[:] = [errno.ESTALE] * 4
    with pytest.raises(VideoError, match=r"s\.tar: a\.mp4: read error \(ESTALE: "):
        read_frames(tar / "a.mp4", [4])


def test_a_tar_that_shrinks_while_it_is_read(tmp_path, video):
    tar = write_tar(tmp_path / "s.tar", {"a.mp4": video})
    held = opening.opened(tar / "a.mp4")
    os.truncate(tar, 600)
    with pytest.raises(VideoError, match=r"a\.mp4: is truncated: its tar ends before it does"):
        held.read()


def test_folders_whose_names_end_so_are_folders(tmp_path, video):
    (tmp_path / "odd.tar" / "jump").mkdir(parents=True)
    os.link(video, tmp_path / "odd.tar" / "jump" / "a.mp4")
    assert paths(find_videos(tmp_path / "odd.tar"), tmp_path) == [("odd.tar/jump/a.mp4", "jump")]
    assert count_frames(tmp_path / "odd.tar" / "jump" / "a.mp4") == 20


def test_items_are_those_of_the_files(tmp_path):
    """Random order, order of the list and replacements: an item of shards is the item of the files, to the bit."""
    (tmp_path / "files").mkdir()
    for number in range(6):
        write_video(tmp_path / "files" / f"{number}.mp4", numbered_frames(10 + number))
    broken = tmp_path / "files" / "3.mp4"
    members = {file.name: file for file in sorted((tmp_path / "files").iterdir())}
    cut = broken.read_bytes()[:-100]
    broken.write_bytes(cut)
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "0.tar", {name: members[name] for name in ("0.mp4", "1.mp4", "2.mp4")})
    write_tar(tmp_path / "shards" / "1.tar", {name: members[name] for name in ("3.mp4", "4.mp4", "5.mp4")})
    sets = [VideoDataset(find_videos(tmp_path / name), RandomClips(2, 4), seed=3) for name in ("files", "shards")]
    for epoch in range(2):
        for index in range(6):
            one, other = (each[epoch, index] for each in sets)
            assert torch.equal(one.frames, other.frames)
            assert torch.equal(one.extents, other.extents)
            assert [error.reason for error in one.failed] == [error.reason for error in other.failed]
    assert other.failed == []
    assert "truncated" in sets[1][0, 3].failed[0].reason
