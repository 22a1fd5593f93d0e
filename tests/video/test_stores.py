"""Videos of a store are those of the disk; what the store does is tried again, and called what it is."""

import builtins
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from motionops.errors import UserError
from motionops.evaluation.features.feature_cache import _digest
from motionops.motion.prepared_file import video_state
from motionops.training.data.manifest import TrainingVideos, manifest_lines, parse_manifest
from motionops.video import (
    RandomClips,
    Video,
    VideoBatchSampler,
    VideoDataset,
    VideoError,
    check_videos,
    collate_videos,
    count_frames,
    find_videos,
    read_frames,
    read_list,
    read_video,
    start_worker,
)
from motionops.video.encoding import write_video
from motionops.video.lists import data_place, folder_of
from motionops.video.sources import opening, stores, tars
from tests.video.faulty_server import serving
from tests.video.shard_files import write_tar
from tests.video.video_files import numbered_frames, numbers_of

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


pytestmark = pytest.mark.usefixtures("nothing_known")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        write_video(folder / f"{number}.mp4", numbered_frames(12 + number))
    for number in range(2):
        two = (2 * number, 2 * number + 1)
        members = {f"{each}.mp4": folder / f"{each}.mp4" for each in two} | {f"{each}.cls": b"ab" for each in two}
        write_tar(folder / f"{number}.tar", members)
    return folder


@pytest.fixture
def server(folder):
    with serving(folder) as server:
        yield server


def test_objects_and_members_are_read_as_files_are(folder, server, monkeypatch):
    for name in ("3.mp4", "1.tar/3.mp4"):
        address = f"{server.address}/{name}"
        assert torch.equal(read_video(address), read_video(folder / "3.mp4"))
        assert torch.equal(read_frames(address, [2, 7]), read_frames(folder / "3.mp4", [2, 7]))
        assert video_state(address)[0] == (folder / "3.mp4").stat().st_size
    monkeypatch.setattr(opening, "AT_ONCE", 700)  # as what is too large to be fetched whole
    server.asked.clear()
    assert torch.equal(read_video(address), read_video(folder / "3.mp4"))
    assert len(server.asked) > 2


def test_shards_by_their_addresses(folder, server, tmp_path):
    places = [f"{server.address}/{{0..1}}.tar", Path(f"{server.address}/{{0..1}}.tar")]  # a flag is a Path
    expected = [(f"{server.address}/{number // 2}.tar/{number}.mp4", "ab") for number in range(4)]
    for place in places:
        assert [(video.path, video.label) for video in find_videos(place)] == expected
        assert folder_of(data_place(place)) == server.address
    asked = len(server.asked)
    tars._known.clear()  # another process: the index is in the cache, and the store is asked for its state alone
    found = find_videos(places[0])
    assert {method for method, _ in server.asked[asked:]} == {"HEAD"}
    listed = tmp_path / "list.txt"
    listed.write_text(f"0.tar/1.mp4 x\n{server.address}/1.tar\n{server.address}/2.mp4 y\n3.mp4 z\n")
    assert [(video.path.removeprefix(server.address), video.label) for video in read_list(listed, server.address)] == [
        ("/0.tar/1.mp4", "x"),
        *(("/1.tar/2.mp4", "ab"), ("/1.tar/3.mp4", "ab")),
        *(("/2.mp4", "y"), ("/3.mp4", "z")),
    ]
    videos = TrainingVideos([Video(video.path, video.label, 12) for video in found], folder=server.address)
    assert parse_manifest(manifest_lines(videos), "s3://elsewhere/data").usable[0].path == (
        "s3://elsewhere/data/0.tar/0.mp4"
    )


@pytest.mark.parametrize("fault", ["503", "cut", "short", "silent"])
def test_faults_are_tried_again_and_then_named(folder, server, monkeypatch, fault):
    said = {"503": "503", "cut": "", "short": r"gave \d+ of \d+ bytes", "silent": "no answer within 1 s"}[fault]
    names = [("0.tar/0.mp4", "0.tar: 0.mp4"), ("0.mp4", "0.mp4")]
    if fault == "silent":  # each try takes its time
        monkeypatch.setattr(stores, "SECONDS", 1.0)
        names = names[:1]
    for name, shown in names:
        find_videos(f"{server.address}/0.tar")
        server.faults[:] = [fault] * 2
        assert numbers_of(read_frames(f"{server.address}/{name}", [5])) == [5]
        assert server.faults == []
        server.faults[:] = [fault] * 8
        with pytest.raises(VideoError, match=rf"{server.address}/{shown}: could not be fetched \(.*{said}.*\)$"):
            read_frames(f"{server.address}/{name}", [5])
        assert len(server.faults) == 4  # four tries
        server.faults.clear()
    server.faults[:] = [fault]
    assert [video.label for video in find_videos(f"{server.address}/1.tar")] == ["ab", "ab"]


def test_a_store_that_stays_away_costs_one_named_video_a_shard(folder, server):
    server.faults[:] = ["503"] * 8  # four tries to index it, and four when it is checked
    found = find_videos(f"{server.address}/{{0..0}}.tar")
    assert [video.path for video in found] == [f"{server.address}/0.tar"]
    usable, skipped = check_videos(found, progress=False)
    assert usable == []
    assert "0.tar: could not be fetched (503" in str(skipped[0])
    assert server.faults == []
    (skipped,) = check_videos(found, progress=False)[1]
    assert skipped.reason == "could not be read when its members were listed"
    assert len(find_videos(f"{server.address}/0.tar")) == 2


def test_what_is_not_there_is_not_asked_for_again(server):
    for name in ("9.mp4", "0.tar/9.mp4", "9.tar/0.mp4"):
        asked = len([one for one in server.asked if one[1] == name])
        with pytest.raises(VideoError, match="no such file"):
            count_frames(f"{server.address}/{name}")
        assert len([one for one in server.asked if one[1] == name]) <= asked + 2  # HEAD, and GET where HEAD fails
    with pytest.raises(UserError, match="nosuch://a/b"):
        find_videos("nosuch://a/b")


def test_readers_in_processes_of_their_own(folder, server):
    """fsspec's threads do not live in a fork: the readers make their own."""
    usable, skipped = check_videos(find_videos(f"{server.address}/{{0..1}}.tar"), progress=False)
    assert (len(usable), skipped) == (4, [])
    files = [video for video in find_videos(folder) if ".tar" not in video.path]
    files, _ = check_videos(files, progress=False)
    batches = []
    for videos, workers in ((files, 0), (usable, 2)):
        data = VideoDataset(videos, RandomClips(2, 4), seed=5)
        sampler = VideoBatchSampler(data, 2, steps=4)
        loader = DataLoader(
            data, batch_sampler=sampler, num_workers=workers, collate_fn=collate_videos, worker_init_fn=start_worker
        )
        batches.append(list(loader))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.frames, other.frames)
        assert other.failed == []


def test_objects_in_memory_and_their_folders(folder):
    """A store that lists: folders, patterns, states that change."""
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("left/0.mp4", "right/1.mp4", ".hidden/2.mp4", "0.tar", "note.txt"):
        store.pipe(f"/set/{name}", (folder / Path(name).name).read_bytes() if "note" not in name else b"x")
    try:
        found = [(video.path, video.label) for video in find_videos("memory://set")]
        assert found == [
            *(("memory:///set/0.tar/0.mp4", "ab"), ("memory:///set/0.tar/1.mp4", "ab")),
            *(("memory:///set/left/0.mp4", "left"), ("memory:///set/right/1.mp4", "right")),
        ]
        assert len(find_videos("memory://set/*.tar")) == 2
        with pytest.raises(UserError, match="no shard matches"):
            find_videos("memory://set/x*.tar")
        path = "memory:///set/left/0.mp4"
        before = video_state(path), _digest(path)
        assert before == (video_state(path), _digest(path))
        store.pipe("/set/left/0.mp4", (folder / "1.mp4").read_bytes())
        assert video_state(path) != before[0]
        assert _digest(path) != before[1]
    finally:
        store.rm("/set", recursive=True)


def test_without_fsspec_one_line_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *given, **named):
        if name.split(".")[0] == "fsspec":
            raise ImportError(name)
        return imported(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"s3://b/x: stores are read with fsspec: pip install 'motionops\[stores\]'"):
        find_videos("s3://b/x")
