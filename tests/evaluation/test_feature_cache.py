"""Features are found again where nothing changed, and only there; what is broken or full costs time, nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("av")
from motionops.evaluation import extract_features
from motionops.evaluation.features import feature_cache
from motionops.evaluation.features.feature_cache import FeatureCache, fingerprint
from motionops.video import Video
from motionops.video.encoding import write_video

ROOT = Path(__file__).parent.parent.parent
SETTINGS = {"clips": 2, "frames": 4, "stride": 2, "size": 16}


class Counting(nn.Module):
    """A small network that counts the clips it has seen."""

    channels = 4

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = nn.Conv3d(3, 4, 3, padding=1)
        self.clips = 0

    def forward(self, clip):
        self.clips += len(clip)
        return self.convolution(clip)


@pytest.fixture
def videos(counting_videos, tmp_path):
    """Copies, which a test may change."""
    copies = []
    for video in counting_videos[:3]:
        path = shutil.copy(video.path, tmp_path / Path(video.path).name)
        copies.append(Video(str(path), video.label))
    return copies


def seen(videos, folder, network=None, **change):
    """The features, and the number of clips that had to be computed."""
    network = network or Counting()
    before = network.clips
    features = extract_features(network, videos, **{**SETTINGS, **change}, cache=folder)
    return features, network.clips - before


def test_found_again_in_any_order(videos, tmp_path):
    plain = extract_features(Counting(), videos, **SETTINGS)
    first, clips = seen(videos, tmp_path / "cache")
    assert torch.equal(first, plain)
    assert clips == 6
    again, clips = seen(videos[::-1], tmp_path / "cache")
    assert torch.equal(again, plain.flip(0))
    assert clips == 0
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_backbone_or_sampling_is_computed(videos, tmp_path):
    seen(videos, tmp_path / "cache")
    other, clips = seen(videos, tmp_path / "cache", Counting(seed=1))
    assert clips == 6
    assert torch.equal(other, extract_features(Counting(seed=1), videos, **SETTINGS))
    changes = [
        {"clips": 3}, {"frames": 3}, {"stride": 1}, {"size": 8}, {"crop": 0.5}, {"crops": 2}, {"mean": (0, 0, 0)},
        {"std": (1, 1, 1)}, {"still": True}, {"short": "hold"}, {"precision": "bf16-mixed"},
    ]  # fmt: skip
    for change in changes:
        assert seen(videos, tmp_path / "cache", **change)[1] > 0, change
        assert seen(videos, tmp_path / "cache", **change)[1] == 0, change
    # One weight among all is another network; so is another structure with the same weights.
    network = Counting()
    before = fingerprint(network)
    with torch.no_grad():
        network.convolution.weight[1, 2, 0, 1, 1] += 1e-6
    assert fingerprint(network) != before
    assert fingerprint(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) != fingerprint(nn.Sequential(nn.Linear(2, 2)))


def test_a_video_is_known_by_its_content(videos, tmp_path, counting_frames):
    first, _ = seen(videos, tmp_path / "cache")
    (tmp_path / "elsewhere").mkdir()
    moved = [Video(shutil.move(video.path, tmp_path / "elsewhere"), video.label) for video in videos]
    assert seen(moved, tmp_path / "cache")[1] == 0
    os.utime(moved[1].path)  # touched, the same bytes
    assert seen(moved, tmp_path / "cache")[1] == 0
    write_video(moved[0].path, counting_frames(24, offset=70))
    changed, clips = seen(moved, tmp_path / "cache")
    assert clips == 2
    assert not torch.equal(changed[0], first[0])
    assert torch.equal(changed[1:], first[1:])


@pytest.mark.parametrize("place", [0, -1])
def test_a_change_while_it_was_read_is_not_kept(videos, tmp_path, place):
    """Whether the file got longer or not."""
    cache = FeatureCache(tmp_path / "cache", Counting(), {})
    assert cache.read([videos[0].path]) == {}
    former = Path(videos[0].path).read_bytes()
    changed = former + b"more" if place else bytes([former[0] ^ 1]) + former[1:]
    Path(videos[0].path).write_bytes(changed)
    cache.write({videos[0].path: torch.ones(4)})
    assert FeatureCache(tmp_path / "cache", Counting(), {}).read([videos[0].path]) == {}


def test_unusable_videos_are_not_kept(videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with_broken = [*videos, Video(str(tmp_path / "broken.mp4"), "a")]
    for expected in (6, 0):
        skipped = []
        features, clips = seen(with_broken, tmp_path / "cache", skipped=skipped)
        assert (len(features), clips, len(skipped)) == (3, expected, 1)


def test_frames_in_random_order_are_not_kept(videos, tmp_path):
    for _ in range(2):
        assert seen(videos, tmp_path / "cache", shuffle_frames=True)[1] == 6
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["text", "cut", "middle"])
def test_a_broken_file_is_begun_anew(videos, tmp_path, damage, capsys):
    first, _ = seen(videos, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    if damage == "text":
        file.write_text("this is not a data base, and long enough to be looked at" * 20)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    again, clips = seen(videos, tmp_path / "cache")
    assert torch.equal(again, first)
    assert clips == 6
    assert "is broken" in capsys.readouterr().err
    seen(videos, tmp_path / "cache")
    assert seen(videos, tmp_path / "cache")[1] == 0


def test_a_changed_byte_of_a_feature_is_noticed(videos, tmp_path):
    first, _ = seen(videos, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    bytes_of_feature = first[1].numpy().tobytes()
    content = file.read_bytes()
    place = content.index(bytes_of_feature) + 3
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    again, clips = seen(videos, tmp_path / "cache")
    assert torch.equal(again, first)
    assert clips == 2


def test_a_folder_that_cannot_be_written_costs_a_warning(videos, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    features, clips = seen(videos, tmp_path / "file" / "cache")
    assert (len(features), clips) == (3, 6)
    assert "features are not kept" in capsys.readouterr().err


def test_a_full_disk_costs_a_warning(videos, tmp_path, capsys, monkeypatch):
    import sqlite3

    real = sqlite3.connect

    def full(*args, **kwargs):
        connection = real(*args, **kwargs)
        connection.execute("PRAGMA max_page_count = 6")  # SQLite's own way to have no more room
        return connection

    monkeypatch.setattr(feature_cache.sqlite3, "connect", full)
    network = Counting()
    network.convolution = nn.Conv3d(3, 3000, 1)
    features = extract_features(network, videos, **SETTINGS, cache=tmp_path / "cache")
    assert features.shape == (3, 3000)
    assert "full" in capsys.readouterr().err
    monkeypatch.undo()
    assert torch.equal(seen(videos, tmp_path / "cache", network)[0], features)


def test_a_killed_extraction_is_continued(tmp_path, counting_frames):
    for number in range(6):
        write_video(tmp_path / f"video{number}.mp4", counting_frames(12, offset=5 * number))
    program = textwrap.dedent(
        """
        import sys, time
        import torch
        from motionops.evaluation import extract_features
        from motionops.evaluation.features import extraction
        from motionops.video import Video
        extraction._WRITE_EVERY = 0.0

        class Slow(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.seen = 0
            def forward(self, clip):
                self.seen += 1
                if sys.argv[2] == "slow":
                    time.sleep(0.5)
                    print(self.seen, flush=True)
                return clip

        network = Slow()
        videos = [Video(f"{sys.argv[1]}/video{number}.mp4") for number in range(6)]
        sampling = {"clips": 1, "frames": 4, "stride": 2, "size": 8, "batch_size": 1}
        found = extract_features(network, videos, **sampling, cache=sys.argv[1] + "/cache")
        print(network.seen, len(found), flush=True)
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([*command, "slow"], stdout=subprocess.PIPE, text=True, env=environment)
    for line in run.stdout:
        if line.strip() == "4":  # three are done, the fourth is under way
            break
    time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = subprocess.run([*command, "fast"], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    computed, found = map(int, done.stdout.split())
    assert found == 6
    assert 1 <= computed <= 4
