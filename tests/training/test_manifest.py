"""videos.jsonl: what a run began with is what it, its processes and its resumptions learn from."""

import json
import os
import random
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motionops.errors import UserError
from motionops.training.config import TrainConfig
from motionops.training.data import videos
from motionops.training.data.first_process import (
    TOLD_IN,
    found_by_the_first,
    found_on_each_machine,
    has_what_the_first_has,
    telling_children,
)
from motionops.training.data.manifest import (
    MANIFEST,
    TrainingVideos,
    fingerprint,
    manifest_lines,
    parse_manifest,
    write_manifest,
)
from motionops.training.data.videos import find_training_videos, videos_of_the_run, warn_of
from motionops.video import Skipped, Video
from motionops.video.counting.key_frames import KeyFrames
from motionops.video.encoding import write_video
from tests.several_ranks import in_processes
from tests.video.video_files import numbered_frames

# More than one piece of the store, compressed too, and bytes that are no UTF-8.
LONG = "jos\udce9.mp4\n" + "\n".join(np.random.default_rng(n).bytes(15_000).hex() for n in range(100))


def test_lines_come_back_as_they_were():
    videos = TrainingVideos(
        [
            Video("/data/up/jos\udce9.mp4", "up", 40, picture=(240, 320)),
            Video("/data/b.mp4", None, 30),
            Video("/elsewhere/走.mp4", None, 20, ("1", "3")),
            Video("/data/c d.mp4", "2", 25, ("2",)),
        ],
        [Skipped("/data/bad.mp4", "is empty (0 bytes)")],
        folder="/data",
    )
    text = "".join(manifest_lines(videos))
    lines = [json.loads(line) for line in text.splitlines()]
    first = {"path": "/data/up/jos\udce9.mp4", "below": "up/jos\udce9.mp4", "label": "up", "frames": 40}
    assert lines[0] == first | {"picture": [240, 320]}
    assert lines[-1] == {"path": "/data/bad.mp4", "below": "bad.mp4", "reason": "is empty (0 bytes)"}
    assert parse_manifest(manifest_lines(videos), "/data") == videos
    moved = parse_manifest(manifest_lines(videos), lambda: "/mnt/copy")
    assert [video.path for video in moved.usable] == [
        "/mnt/copy/up/jos\udce9.mp4",
        "/mnt/copy/b.mp4",
        "/elsewhere/走.mp4",
        "/mnt/copy/c d.mp4",
    ]
    for damaged in ("[1]", "{}", "{", '{"path": "a"}', "[" * 100_000):
        with pytest.raises(UserError, match=r"videos\.jsonl: line 5 is damaged"):
            parse_manifest([*text.splitlines()[:4], damaged], None)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    for number in range(12):
        (tmp_path / "data" / "up").mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "data" / "up" / f"v{number:02d}.mp4", numbered_frames(20))
    return tmp_path / "data"


def config(data: Path, **flags) -> TrainConfig:
    return TrainConfig(**{"data": data, "output": data.parent / "run", "frames": 4, "stride": 2, **flags})


def test_a_run_that_goes_on_has_the_videos_that_it_began_with(data, capsys):
    began = find_training_videos(config(data), progress=False)
    assert len(began.usable) == 12
    run = data.parent / "run"
    run.mkdir()
    write_manifest(run / MANIFEST, began)
    (run / "last.ckpt").touch()
    (data / "up" / "v03.mp4").unlink()
    (data / "up" / "v05.mp4").write_text("broken since")
    write_video(data / "up" / "new.mp4", numbered_frames(20))
    assert find_training_videos(config(data, resume=True), progress=False) == began
    said = capsys.readouterr().err
    assert "not there any more: 1;" in said
    assert "are not added: 1\n" in said
    data.rename(data.parent / "moved")
    moved = find_training_videos(config(data.parent / "moved", output=run, resume=True), progress=False)
    assert [os.path.relpath(video.path, data.parent / "moved") for video in moved.usable] == [
        os.path.relpath(video.path, data) for video in began.usable
    ]


def test_a_run_does_not_go_on_with_other_videos(data):
    began = find_training_videos(config(data), progress=False)
    run = data.parent / "run"
    run.mkdir()
    write_manifest(run / MANIFEST, began)
    (run / "last.ckpt").touch()
    for number in range(2):
        (data / "up" / f"v{number:02d}.mp4").unlink()
    with pytest.raises(UserError, match=r"--resume: 2 of the 12 videos of .*\.jsonl are not among those named now"):
        find_training_videos(config(data, resume=True), progress=False)
    (run / "last.ckpt").unlink()  # nothing has been learnt: the run begins, with what there is
    assert len(find_training_videos(config(data, resume=True), progress=False).usable) == 10


def test_processes_that_the_run_starts_read_its_file(data, monkeypatch):
    began = videos_of_the_run(config(data), find_training_videos)
    write_manifest(data.parent / MANIFEST, began)
    monkeypatch.setenv("LOCAL_RANK", "1")
    (data / "up" / "v03.mp4").unlink()
    with telling_children(data.parent / MANIFEST):
        told = videos_of_the_run(config(data), lambda *_: pytest.fail("the videos are told"))
    assert told.usable == began.usable
    assert TOLD_IN not in os.environ  # what this process runs afterwards has videos of its own


def meet(rank: int, ports: list[int], folder: Path) -> None:
    """Write down what a process of two, as torchrun starts them, is told: videos and checkpoints, and then an error."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    for case, port in enumerate(ports):
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))

        def find(fails=case) -> list[str]:
            if rank:
                return ["found by another process"]
            if fails:
                raise UserError("there is no video")
            return LONG.splitlines(keepends=True)

        try:
            told = "".join(found_by_the_first(find, list))
        except UserError as error:
            told = f"error: {error}"
        if case == 0:
            own = folder.parent / f"run {rank}" / "last.ckpt"
            found = [has_what_the_first_has(own, wanted=True) for _ in range(2)]
            if rank == 0:
                own.unlink()
            found += [has_what_the_first_has(own, wanted=True), has_what_the_first_has(own, wanted=False)]
            (own.parent / "found").write_text(repr(found))
        (folder / f"{case} {rank}").write_text(told, errors="surrogateescape")
    while len(list(folder.iterdir())) < 4:  # the store ends with the process that holds it
        time.sleep(0.05)


def test_what_the_first_process_finds_all_have(tmp_path, monkeypatch):
    monkeypatch.setenv(TOLD_IN, str(tmp_path / "of another run"))  # torchrun in a training's own environment
    told, held = tmp_path / "told", random.Random(0).randbytes(5 << 19)
    for folder in (told, tmp_path / "run 0", tmp_path / "run 1"):
        folder.mkdir()
    (tmp_path / "run 0" / "last.ckpt").write_bytes(held)
    (tmp_path / "run 1" / "last.ckpt").write_bytes(held[::-1])  # of another run, or of an earlier step
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [server.getsockname()[1] for server in (one, other)]
    in_processes(meet, ports, told)
    for case, expected in enumerate((LONG, "error: there is no video")):
        for rank in range(2):
            assert (told / f"{case} {rank}").read_text(errors="surrogateescape") == expected
    assert (tmp_path / "run 1" / "last.ckpt").read_bytes() == held
    assert not (tmp_path / "run 0" / "last.ckpt").exists()
    assert (tmp_path / "run 0" / "found").read_text() == repr([True, True, True, True])  # it looks for itself
    assert (tmp_path / "run 1" / "found").read_text() == repr([True, True, False, False])


def look_up(rank: int, port: int, folder: Path) -> None:
    """Write down what a process of four on two machines is told of what is looked up once a machine."""
    machine = rank // 2
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank % 2), GROUP_RANK=str(machine), WORLD_SIZE="4")
    os.environ.update(LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(TORCHELASTIC_RESTART_COUNT=str(machine))  # one has come back: its agent has restarted nothing yet
    found_by_the_first(list, list)
    told = [found_on_each_machine(lambda: f"found by {rank}")]

    def fails() -> str:
        if rank == 2:
            raise UserError("it is not there")
        return f"found by {rank}"

    try:
        told.append(found_on_each_machine(fails))
    except UserError as error:
        told.append(str(error))
    assert not has_what_the_first_has(folder / "none", wanted=False) or rank == 0
    (folder / str(rank)).write_text(repr(told))
    while len(list(folder.iterdir())) < 4:
        time.sleep(0.05)


def test_of_each_machine_one_process_looks(tmp_path):
    """What is asked of every video of a set is asked once a machine; where it fails, all processes end in one line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    in_processes(look_up, port, tmp_path, size=4)
    for rank, first in enumerate((0, 0, 2, 2)):
        assert (tmp_path / str(rank)).read_text() == repr([f"found by {first}", "it is not there"])


def test_processes_that_the_run_starts_look_no_more(tmp_path, monkeypatch):
    videos_of_the_run(config(tmp_path), lambda *_: TrainingVideos([]))
    assert found_on_each_machine(lambda: "one") == "one"
    monkeypatch.setenv("LOCAL_RANK", "1")
    (tmp_path / MANIFEST).touch()
    with telling_children(tmp_path / MANIFEST):
        monkeypatch.setattr(videos, "require_dali", lambda: None)
        monkeypatch.setattr(videos, "check_dali", lambda _: pytest.fail("the first has looked at the codecs"))
        videos_of_the_run(config(tmp_path, decoder="dali"), lambda *_: pytest.fail("the videos are told"))
        assert found_on_each_machine(lambda: pytest.fail("what was found is told")) == "one"


def test_many_videos_that_cannot_be_used_are_summed_up(capsys):
    warn_of([Skipped(f"{number}.mp4", "no such file") for number in range(120)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 51
    assert lines[0] == "warning: skipped 0.mp4: no such file"
    assert "skipped 70 more videos" in lines[-1]


def test_a_list_that_names_others_is_no_fault_of_the_disk(data):
    """Of files that are all there, somebody who goes on with another list wants another training."""
    began = find_training_videos(config(data), progress=False)
    (data.parent / "run").mkdir()
    write_manifest(data.parent / "run" / MANIFEST, began)
    (data.parent / "run" / "last.ckpt").touch()
    (data / "list.txt").write_text("".join(f"{video.path}\n" for video in began.usable[1:]))
    with pytest.raises(UserError, match=r"last\.ckpt was made of 12 videos, \w+; now they are 11 videos"):
        find_training_videos(config(data, resume=True, list=data / "list.txt"), progress=False)


def test_what_videos_have_in_common_they_share(data):
    """Of 650,000 videos each object of its own would be 18 to 80 MB more."""
    found = find_training_videos(config(data), progress=False)
    long = [
        replace(video, label="a label", labels=(), frames=1000, keys=KeyFrames("250:128000")) for video in found.usable
    ]
    told = parse_manifest(manifest_lines(TrainingVideos(long)), None)
    for held, names in ((found, ("keys", "picture")), (told, ("label", "frames", "keys", "picture", "labels"))):
        assert len(held.usable) == 12
        for name in names:
            assert len({id(getattr(video, name)) for video in held.usable}) == 1, name


def test_names_that_are_no_utf_8_have_a_fingerprint():
    assert fingerprint([Video("up/jos\udce9.mp4")]) != fingerprint([Video("up/jos\udcea.mp4")])
