"""VideoDataset: items are a function of (seed, epoch, index); bad files are replaced and named; memory stays flat."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from motionops.errors import UserError
from motionops.video import Video, VideoBatchSampler, VideoDataset, collate_videos, read_video
from motionops.video.dataset import start_worker
from motionops.video.encoding import write_video
from motionops.views import Appearance, sample_extents
from tests.video.video_files import numbered_frames, numbers_of

COUNT = 20


def sample(frame_count, generator):
    starts = torch.randint(0, frame_count - 6, (2, 1), generator=generator)
    return starts + torch.arange(0, 6, 2)


def draw(numbers, picture, generator):
    height, width = picture
    extents = sample_extents(
        2, frames=3, stride=2, frame_count=COUNT, starts=numbers[:, 0], height=height, width=width, generator=generator
    )
    return {"extents": extents, "appearance": Appearance.sample(2, generator=generator)}


@pytest.fixture
def videos(tmp_path):
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(COUNT))
    return [Video(str(tmp_path / f"{number}.mp4"), "ab"[number % 2], COUNT) for number in range(6)]


def equal(one, other):
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[key]), key
        elif isinstance(value, Appearance):
            assert all(torch.equal(a, b) for a, b in zip(value.fields(), other[key].fields(), strict=True))
        else:
            assert value == other[key], key
    return True


def test_item(videos):
    item = VideoDataset(videos, sample, seed=3, draw=draw)[1]
    assert item["frames"].dtype == torch.uint8
    assert item["frames"].shape == (2, 3, 48, 64, 3)
    for view in range(2):
        start = int(item["starts"][view])
        assert numbers_of(item["frames"][view]) == [start, start + 2, start + 4]
        assert item["extents"][view, 0].tolist() == [start, start + 6]
    assert (item["index"], item["label"], item["failed"]) == (1, 1, [])
    assert VideoDataset([Video(videos[0].path)], sample)[0]["label"] == -1


@pytest.mark.parametrize("cache_bytes", [0, 2_000_000, 1 << 30])
def test_items_depend_on_seed_epoch_and_index_alone(videos, cache_bytes):
    whole = VideoDataset(videos, sample, seed=3, draw=draw)
    other = VideoDataset(videos, sample, seed=3, draw=draw, cache_bytes=cache_bytes)
    for key in [(0, 1), (1, 1), (7, 5), (0, 1), (2, 0)]:
        assert equal(whole[key], other[key])
    assert equal(whole[2], whole[0, 2])
    different = [VideoDataset(videos, sample, seed=4, draw=draw)[0, 1], whole[1, 1], whole[0, 3]]
    assert all(not torch.equal(one["extents"], whole[0, 1]["extents"]) for one in different)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_pass_without_epochs_is_warned_of(videos, workers, capfd):
    dataset = VideoDataset(videos, sample)
    plain = DataLoader(dataset, batch_size=3, collate_fn=collate_videos, num_workers=workers)
    sampler = VideoBatchSampler(dataset, 3)
    planned = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_videos, num_workers=workers)

    def said(loader):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            # on stderr, where a worker's are as well as this process's
            warnings.showwarning = lambda message, *where: os.write(2, f"{message}\n".encode())
            starts = torch.cat([batch["starts"] for batch in loader])
        return capfd.readouterr().err.splitlines(), starts

    nothing, first = said(plain)
    warned, second = said(plain)
    assert nothing == []
    assert torch.equal(first, second)
    assert [text[:65] for text in warned] == ["VideoDataset: video 0 is asked for a second time without an epoch"]
    assert said(plain)[0] == []  # once
    _, first = said(planned)
    sampler.set_epoch(1)
    nothing, second = said(planned)
    assert nothing == []
    assert not torch.equal(first, second)


def test_uncounted_videos_are_counted(videos):
    uncounted = [Video(video.path, video.label) for video in videos]
    for cache_bytes in (0, 1 << 30):
        dataset = VideoDataset(uncounted, sample, draw=draw, cache_bytes=cache_bytes)
        assert equal(dataset[2], VideoDataset(videos, sample, draw=draw)[2])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers(videos, workers):
    order = [(epoch, index) for epoch in range(2) for index in (3, 0, 5, 1, 2, 4)]
    dataset = VideoDataset(videos, sample, seed=1, draw=draw)
    loader = DataLoader(
        dataset,
        batch_size=3,
        sampler=order,
        num_workers=workers,
        collate_fn=collate_videos,
        worker_init_fn=start_worker,
    )
    batches = list(loader)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == [index for _, index in order]
    for batch, first in zip(batches, range(0, 12, 3), strict=True):
        expected = [dataset[key] for key in order[first : first + 3]]
        assert batch["frames"].shape == (3, 2, 3, 48, 64, 3)
        assert torch.equal(batch["frames"], torch.stack([item["frames"] for item in expected]))
        assert isinstance(batch["appearance"], Appearance)
        assert batch["appearance"].jitter.shape == (3, 2, 4)
        assert batch["label"].dtype == torch.int64


def test_two_sizes_make_a_list(videos, tmp_path):
    write_video(tmp_path / "wide.mp4", numbered_frames(COUNT, 32, 96))
    dataset = VideoDataset([*videos[:1], Video(str(tmp_path / "wide.mp4"), "a", COUNT)], sample, draw=draw)
    batch = collate_videos([dataset[0], dataset[1]])
    assert [tuple(frames.shape) for frames in batch["frames"]] == [(2, 3, 48, 64, 3), (2, 3, 32, 96, 3)]
    assert batch["extents"].shape == (2, 2, 3, 2)


def test_a_video_that_fails_is_replaced_and_named(videos):
    os.unlink(videos[2].path)
    dataset = VideoDataset(videos, sample, seed=1, draw=draw, cache_bytes=0)
    item = dataset[4, 2]
    assert item["failed"] == [(videos[2].path, "no such file")]
    assert item["index"] != 2
    assert equal(item, VideoDataset(videos, sample, seed=1, draw=draw)[4, 2])  # the same one again
    replacements = {dataset[epoch, 2]["index"] for epoch in range(12)}
    assert len(replacements) > 2  # not one video for all
    batch = collate_videos([dataset[0, 1], dataset[4, 2]])
    assert batch["failed"] == item["failed"]
    for video in videos:
        if os.path.exists(video.path):
            os.unlink(video.path)
    with pytest.raises(UserError, match=r"16 videos in a row cannot be read: .*0\.mp4: no such file"):
        dataset[0]


def test_a_video_cut_while_training_is_replaced(videos):
    with open(videos[0].path, "r+b") as file:
        file.truncate(1000)
    item = VideoDataset(videos, sample)[0]
    assert item["failed"][0].path == videos[0].path
    assert "is truncated" in item["failed"][0].reason


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_video_that_became_shorter_is_replaced(videos, cache_bytes):
    write_video(videos[0].path, numbered_frames(4))
    item = VideoDataset(videos, lambda count, _: torch.arange(count - 2, count)[None], cache_bytes=cache_bytes)[0]
    assert item["failed"][0].path == videos[0].path
    assert "has 4 frames" in item["failed"][0].reason


def test_cache_is_bounded(videos):
    size = read_video(videos[0].path).nbytes
    dataset = VideoDataset(videos, sample, cache_bytes=16 * size)
    for index in (0, 1, 2, 3, 4, 5):
        dataset[index]
    assert dataset._cached_bytes == 6 * size
    fresh = VideoDataset(videos, sample, cache_bytes=16 * size - 1)  # each is more than a sixteenth
    assert equal(fresh[0], dataset[0])
    assert fresh._cached_bytes == 0


def test_a_full_cache_keeps_what_it_has(tmp_path):
    for number in range(20):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(8))
    videos = [Video(str(tmp_path / f"{number}.mp4"), None, 8) for number in range(20)]
    size = read_video(videos[0].path).nbytes
    dataset, without = VideoDataset(videos, sample, cache_bytes=16 * size), VideoDataset(videos, sample, cache_bytes=0)
    for _ in range(2):
        for index in reversed(range(20)):
            assert equal(dataset[index], without[index])
    assert set(dataset._cache) == set(range(4, 20))
    assert dataset._cached_bytes == 16 * size


def test_paths_in_any_script(videos, tmp_path):
    names = ["日本 é.mp4", "a much longer name than the others have.mp4"]
    for name in names:
        os.link(videos[0].path, tmp_path / name)
    dataset = VideoDataset([videos[0], *(Video(str(tmp_path / name)) for name in names)], sample)
    assert [dataset.path(index) for index in (1, 2)] == [str(tmp_path / name) for name in names]
    assert dataset[1]["failed"] == dataset[2]["failed"] == []


def test_wrong_arguments(videos):
    with pytest.raises(ValueError, match=r"^VideoDataset: videos must hold at least one video"):
        VideoDataset([], sample)
    with pytest.raises(UserError, match=r"1.mp4: label 'b' is not among the 1 classes"):
        VideoDataset(videos, sample, classes=["a"])
    with pytest.raises(IndexError, match=r"VideoDataset: index must be in \[0, 6\), got 6"):
        VideoDataset(videos, sample)[6]


PROGRAM = """
import os, sys
import torch
from torch.utils.data import DataLoader
from motionops.video import VideoDataset, collate_videos, read_list
from motionops.video.dataset import start_worker

def sample(count, generator):
    return torch.randint(0, count - 6, (2, 1), generator=generator) + torch.arange(6)

def resident(process):
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

videos = read_list(sys.argv[1])
dataset = VideoDataset(videos, sample, cache_bytes=4 << 20)
loader = DataLoader(dataset, batch_size=8, num_workers=2, collate_fn=collate_videos, worker_init_fn=start_worker,
                    persistent_workers=True, shuffle=True)
for epoch in range(25):
    for batch in loader:
        pass
    if epoch in (4, 24):
        processes = [os.getpid(), *(worker.pid for worker in loader._iterator._workers)]
        print(*(len(os.listdir(f"/proc/{process}/fd")) for process in processes))
        print(*(resident(process) for process in processes))
"""


def test_memory_and_open_files_stay_flat(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list open files")
    frames = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    for number in range(64):
        write_video(tmp_path / f"{number}.mp4", frames)
    (tmp_path / "list.txt").write_text("".join(f"{number}.mp4\n" for number in range(64)) + "bad.mp4\n")
    (tmp_path / "bad.mp4").write_bytes(b"bad" * 1000)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "list.txt")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    files_early, memory_early, files_late, memory_late = ([int(value) for value in line.split()] for line in output)
    # A leak of one file or one decoded video (221 kB) a reading would show: 20 epochs read each worker 650 videos.
    # Tensors on their way between processes are open files too, more or fewer at the moment of counting.
    assert all(late <= early + 32 for early, late in zip(files_early, files_late, strict=True)), output
    assert all(late <= early + (24 << 20) for early, late in zip(memory_early, memory_late, strict=True)), output


def test_importing_motionops_does_not_import_av(tmp_path):
    program = "import sys, motionops, motionops.video; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    (tmp_path / "av.py").write_text("raise ImportError('none')")
    (tmp_path / "v.mp4").touch()
    program = f"from motionops.video import read_video; read_video({str(tmp_path / 'v.mp4')!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
    )
    assert done.returncode == 1
    assert "pip install 'motionops[video]'" in done.stderr
