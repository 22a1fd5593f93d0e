"""MovingShapes: deterministic, resumable, true flow, and nothing to be learnt from a still frame."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from motionops.errors import UserError
from motionops.video import moving_shapes, read_list, read_video
from motionops.video.moving_shapes import CLASSES, scene
from motionops.video.shape_scene import PAN, Scene, _motion

SMALL = {"train": 16, "test": 8, "frames": 6, "progress": False}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes") / "set", workers=2, **SMALL)


def test_folder(small):
    assert (small / "classes.txt").read_text().split() == list(CLASSES)
    assert len(CLASSES) == 8
    for split in ("train", "test"):
        videos = read_list(small / f"{split}.txt")
        assert len(videos) == SMALL[split]
        assert [int(video.label) for video in videos] == [number % 8 for number in range(SMALL[split])]
        for number, video in enumerate(videos):
            assert CLASSES[int(video.label)] in video.path
            decoded = read_video(video.path).numpy().astype(int)
            drawn = scene(split, number, frames=6).render()
            assert decoded.shape == drawn.shape == (6, 40, 40, 3)
            # Brightness is coded at full size, colour at half size: the brightness is what must survive.
            brightness = (decoded - drawn) @ np.array([0.299, 0.587, 0.114])
            assert np.abs(brightness).mean() < 2.5


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_same_seed_same_bytes(tmp_path, codec):
    one = moving_shapes.generate(tmp_path / "one", workers=1, codec=codec, **SMALL)
    two = moving_shapes.generate(tmp_path / "two", workers=3, codec=codec, **SMALL)
    assert files_of(one) == files_of(two)
    other = moving_shapes.generate(tmp_path / "other", seed=1, codec=codec, **SMALL)
    assert files_of(one)["slide/slide_train_0000.mp4"] != files_of(other)["slide/slide_train_0000.mp4"]


def test_a_larger_set_begins_with_the_smaller_one(small, tmp_path):
    larger = moving_shapes.generate(tmp_path / "larger", **{**SMALL, "train": 24})
    videos = {name: data for name, data in files_of(small).items() if name.endswith(".mp4")}
    assert videos.items() <= files_of(larger).items()


def test_a_complete_set_is_not_written_again(small):
    stamps = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert moving_shapes.generate(small, **SMALL) == small
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == stamps


def test_a_killed_generation_is_continued(small, tmp_path):
    folder = tmp_path / "killed"
    program = (
        "import os, sys\n"
        "from motionops.video import moving_shapes\n"
        "written = []\n"
        "write = moving_shapes.write_video\n"
        "def write_some(*arguments, **options):\n"
        "    write(*arguments, **options)\n"
        "    written.append(1)\n"
        "    if len(written) == 7: os.kill(os.getpid(), 9)\n"
        "moving_shapes.write_video = write_some\n"
        f"moving_shapes.generate({str(folder)!r}, workers=1, **{SMALL!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    left = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    assert len(left) == 7
    assert not (folder / "moving_shapes.json").exists()
    moving_shapes.generate(folder, **SMALL)
    assert files_of(folder) == files_of(small)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in left.items())


def test_two_processes_at_once_do_the_work_once(small, tmp_path):
    folder = tmp_path / "set"
    program = f"from motionops.video import moving_shapes; moving_shapes.generate({str(folder)!r}, **{SMALL!r})"
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert files_of(folder) == files_of(small)


def test_a_generation_begun_with_other_parameters_is_redone(small, tmp_path):
    folder = tmp_path / "set"
    moving_shapes.generate(folder, **{**SMALL, "seed": 5})
    description = folder / "moving_shapes.json"
    description.rename(folder / "moving_shapes.json.begun")  # as a killed run leaves it
    moving_shapes.generate(folder, **SMALL)
    assert files_of(folder) == files_of(small)


def test_a_folder_with_something_else_is_left_alone(small, tmp_path):
    with pytest.raises(UserError, match="holds another MovingShapes set"):
        moving_shapes.generate(small, **{**SMALL, "seed": 9})
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"is not empty and holds no MovingShapes set \(thesis.tex\)"):
        moving_shapes.generate(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.tex"]


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "ours"))
    assert moving_shapes.default_folder().parent == tmp_path / "ours"
    monkeypatch.delenv("MOTIONOPS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert moving_shapes.default_folder().parent == tmp_path / "cache" / "motionops"
    assert moving_shapes.default_folder(seed=1) != moving_shapes.default_folder(seed=2)
    written = moving_shapes.generate(train=8, test=8, frames=2, progress=False)
    assert written == moving_shapes.default_folder(train=8, test=8, frames=2)
    assert json.loads((written / "moving_shapes.json").read_text())["frames"] == 2


def test_other_constants_are_another_set(small, monkeypatch):
    folder = moving_shapes.default_folder()
    monkeypatch.setattr(moving_shapes.shape_scene, "PAN", 0.5)
    assert moving_shapes.default_folder() != folder
    with pytest.raises(UserError, match="holds another MovingShapes set"):
        moving_shapes.generate(small, **SMALL)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"train": 0}, "train must be an integer >= 1, got 0"),
        ({"frames": 1}, "frames must be an integer >= 2, got 1"),
        ({"size": 41}, "size must be even, got 41"),
        ({"size": 8}, "size must be an integer >= 16, got 8"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"codec": "vp9"}, "codec must be one of h264, mpeg4, got 'vp9'"),
        ({"acts": 0}, "acts must be an integer >= 1, got 0"),
        ({"acts": 6}, "acts must be at most 5, got 6"),
        ({"ramp": 1.5}, r"ramp must be in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_arguments(tmp_path, changed, text):
    with pytest.raises(UserError, match=f"moving_shapes.generate: {text}"):
        moving_shapes.generate(tmp_path / "set", **{**SMALL, **changed})
    assert not (tmp_path / "set").exists()


def test_true_flow_of_a_file(small, tmp_path):
    flow = moving_shapes.true_flow(small / "rise" / "rise_train_0001.mp4")
    assert flow.dtype == torch.float32
    assert flow.shape == (6, 2, 40, 40)
    np.testing.assert_array_equal(flow.numpy(), scene("train", 1, frames=6).flow())
    for wrong in (tmp_path / "x.mp4", small / "classes.txt"):
        with pytest.raises(UserError, match="not a video of a complete MovingShapes set"):
            moving_shapes.true_flow(wrong)


def test_signs_of_the_true_flow():
    for name, channel, signs in (("rise", 1, {-1}), ("fall", 1, {1}), ("slide", 0, {-1, 1})):
        found = set()
        for number in range(CLASSES.index(name), 160, 8):
            one = scene("train", number)
            flow = one.flow().transpose(0, 2, 3, 1)[one.mask()]
            found.add(int(np.sign(np.median(flow[:, channel]))))
            assert np.abs(np.median(flow[:, 1 - channel])) <= PAN + 1e-6
        assert found == signs


def test_flow_leads_to_the_same_thing_in_the_next_frame():
    """A pixel of frame t looks like the place in frame t + 1 that its flow points to."""
    errors, without = [], []
    for number in range(32):
        one = scene("test", number)
        frames, flow, mask = one.render().astype(float), one.flow(), one.mask()[:-1]
        moved = np.stack([_sample(frames[t + 1], flow[t]) for t in range(23)])
        errors.append(np.abs(moved - frames[:-1])[mask].mean())
        without.append(np.abs(frames[1:] - frames[:-1])[mask].mean())
        # Fading and edges that are half background leave something; a wrong sign would make it worse than no flow.
        assert errors[-1] < 0.9 * without[-1], CLASSES[number % 8]
    assert np.mean(errors) < 0.6 * np.mean(without)


def _sample(frame, flow):
    """Bilinear values of ``frame`` at each pixel plus its flow; the picture is a torus."""
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    y, x = rows + flow[1], columns + flow[0]
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    part_y, part_x = (y - top)[..., None], (x - left)[..., None]
    corners = [[frame[(top + i) % frame.shape[0], (left + j) % frame.shape[1]] for j in (0, 1)] for i in (0, 1)]
    upper, lower = (pair[0] * (1 - part_x) + pair[1] * part_x for pair in corners)
    return upper * (1 - part_y) + lower * part_y


def test_a_mirrored_video_is_of_the_same_class():
    """Every path of a class, mirrored, is a path of the class with other draws: side, or half a period later."""
    draw = np.random.default_rng(0).uniform(size=(50, 4))
    for name in CLASSES:
        for one in draw:
            other = one.copy()
            if name in ("slide", "orbit"):
                other[3] = 1 - one[3] if one[3] != 0.5 else 0.4
            if name == "orbit":
                other[2] = 0.5 - one[2]
            if name == "shake":
                other[2] = one[2] + 0.5
            offsets, phase = _motion(name, one, 25, 1.0)
            mirrored, mirrored_phase = _motion(name, other, 25, 1.0)
            np.testing.assert_allclose(mirrored, offsets * [-1, 1], atol=1e-9)
            assert phase == mirrored_phase


@pytest.mark.parametrize("time", [0, 11])
def test_a_still_frame_tells_nothing(time):
    """A linear probe on pictures, their statistics and even the true size of the sprite is at chance."""
    train, test = 560, 280
    features, labels = [], []
    for number in range(train + test):
        label = number % 8
        one = Scene(label, (11, number, time), frames=time + 1)
        frame = one.render()[time].astype(np.float64) / 255
        grey = frame.mean(axis=-1)
        pooled = grey.reshape(8, 5, 8, 5).mean(axis=(1, 3)).ravel()
        edges = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
        area = np.sqrt(one.mask()[time].mean())
        sizes = [area**power for power in (1, 2, 3)]
        features.append(np.concatenate([pooled, frame.mean((0, 1)), frame.std((0, 1)), edges, sizes, [1.0]]))
        labels.append(label)
    features, labels = np.array(features), np.array(labels)
    features[:, :-1] = (features[:, :-1] - features[:, :-1].mean(0)) / features[:, :-1].std(0)
    known, targets = features[:train], np.eye(8)[labels[:train]]
    weights = np.linalg.solve(known.T @ known + 10.0 * np.eye(known.shape[1]), known.T @ targets)
    right = ((features[train:] @ weights).argmax(axis=1) == labels[train:]).mean()
    assert right < 1 / 8 + 3.5 * np.sqrt(1 / 8 * 7 / 8 / test)  # 19.4 %: chance is 12.5 %


def test_the_size_of_the_sprite_has_one_distribution():
    """Mean areas per class agree at every time, although some sprites grow and some shrink."""
    for time in (0, 11):
        areas = [
            [Scene(label, (13, number), frames=time + 1).mask()[time].mean() for number in range(64)]
            for label in range(8)
        ]
        means, error = np.mean(areas, axis=1), np.std(areas) / 8
        assert np.abs(means - means.mean()).max() < 3.5 * error


ACTS = {"train": 20, "test": 20, "frames": 6, "acts": 2, "ramp": 0.5, "progress": False}


def test_a_set_of_several_acts(tmp_path):
    """Every order of two motions is a class, each video is as long as its acts, and the lists say what moves when."""
    folder = moving_shapes.generate(tmp_path / "acts", workers=1, **ACTS)
    names = (folder / "classes.txt").read_text().split()
    assert len(names) == len(set(names)) == 5 * 4
    assert {"-".join(reversed(name.split("-"))) for name in names} == set(names)
    acts = [line.split() for line in (folder / "train_acts.txt").read_text().splitlines()]
    videos = read_list(folder / "train.txt")
    assert len(acts) == 2 * len(videos) == 40
    for number, video in enumerate(videos):
        one = scene("train", number, frames=6, acts=2, ramp=0.5)
        assert read_video(video.path).shape == one.render().shape == (12, 40, 40, 3)
        first, second = acts[2 * number : 2 * number + 2]
        assert f"{first[3]}-{second[3]}" == names[int(video.label)]
        assert tuple(first[:3]) == (video.path.removeprefix(f"{folder}/"), "0", "6")
        assert tuple(second[:3]) == (first[0], "6", "12")
        np.testing.assert_array_equal(moving_shapes.true_flow(video.path).numpy(), one.flow())
    assert moving_shapes.default_folder(acts=2) != moving_shapes.default_folder()
    assert moving_shapes.default_folder(acts=2, ramp=0.5) != moving_shapes.default_folder(acts=2)


def test_each_act_moves_as_its_name_says():
    """By the true flow within the sprite: rise is up, fall down, slide sideways, approach outwards, recede inwards."""
    signs = {"rise": (1, -1), "fall": (1, 1), "slide": (0, None), "approach": ("out", 1), "recede": ("out", -1)}
    for number in range(20):
        one = scene("train", number, acts=2)
        flow, mask = one.flow(), one.mask()
        x, y = one._offsets_from_centre()
        for act, name in enumerate(moving_shapes.classes(2)[number]):
            frames = slice(act * 24, act * 24 + 24)
            seen = mask[frames]
            u, v = flow[frames, 0][seen], flow[frames, 1][seen]
            axis, sign = signs[name]
            if axis == "out":
                steps = (u - np.median(u)) * x[frames][seen] + (v - np.median(v)) * y[frames][seen]
                assert np.sign(np.median(steps)) == sign
                assert max(abs(np.median(u)), abs(np.median(v))) < PAN + 0.1
            else:
                along, across = (v, u) if axis else (u, v)
                assert abs(np.median(along)) > 0.5 > PAN + 0.2 > abs(np.median(across))
                assert sign is None or np.sign(np.median(along)) == sign


def test_an_act_begins_where_the_last_one_ended():
    for number in range(20):
        one = scene("train", number, acts=2)
        steps = np.abs(np.diff(one.centres, axis=0))
        assert steps.max() < 1.5 + PAN + 1e-9
        assert np.abs(np.diff(one._drawn["phase_path"])).max() < 0.05


def test_the_light_of_a_ramp_changes_evenly_and_by_at_most_its_share():
    changes = []
    for number in range(20):
        plain, lit = (scene("train", number, acts=2, ramp=ramp).render().astype(float) for ramp in (0.0, 0.5))
        middle = np.where((plain > 60) & (plain < 180), plain, np.nan)  # far from where white is cut off
        light = np.nanmedian(lit / middle, axis=(1, 2, 3))
        changes.append(light[-1] - light[0])
        np.testing.assert_allclose(light, np.linspace(light[0], light[-1], 48), atol=0.008)
        assert light.mean() == pytest.approx(1.0, abs=0.01)
    assert 0.3 < max(np.abs(changes)) <= 0.51
    assert min(changes) < -0.1 < 0.1 < max(changes)
