"""Pictures of flow as others' two-stream code reads them: names, values, resumption, parts."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from motionops import tvl1_flow
from motionops.errors import UserError
from motionops.motion.prepare import flow, reencode
from motionops.motion.prepare.join import join
from motionops.video import Video, find_videos, moving_shapes, read_video
from motionops.video.encoding import write_video
from tests.video.shard_files import in_shards, write_tar
from tests.video.video_files import numbered_frames

pytestmark = pytest.mark.usefixtures("no_gpu")
cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=2, test=1, progress=False)


def config(shapes, output, **changes):
    return flow.FlowConfig(output=output, data=shapes, workers=1, **changes)


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("flow_*.jpg"))


def test_values_are_those_of_dense_flow():
    """cvRound(255 (v + 20) / 40), 0 and 255 beyond."""
    values = np.array([-30, -20, -19.93, -7.3, -0.04, 0, 0.04, 0.2, 5, 19.9, 20, 21], dtype=np.float32)
    exact = np.rint(255 * (values.astype(np.float64) + 20) / 40)
    assert flow.flow_pictures(torch.from_numpy(values)).tolist() == np.clip(exact, 0, 255).tolist()
    assert flow.flow_pictures(torch.tensor([10.0, -10.0, 2.0]), bound=10).tolist() == [255, 0, 153]


def test_pictures_are_the_flow_from_each_frame_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "FRAMES_AT_ONCE", 5)
    generator = np.random.default_rng(0)
    texture = cv2.GaussianBlur(generator.uniform(0, 255, (64, 160, 3)), (0, 0), 3)
    texture = (texture - texture.min()) / (texture.max() - texture.min()) * 255
    frames = np.stack([texture[:, 3 * t : 3 * t + 96] for t in range(11)]).astype(np.uint8)
    write_video(tmp_path / "v.mp4", frames)
    assert flow.write_flow(str(tmp_path / "v.mp4"), tmp_path / "out", quality=100).frames == 11
    names = [f"flow_{axis}_{number:05d}.jpg" for axis in "xy" for number in range(1, 11)]
    assert written(tmp_path / "out") == names
    frames = read_video(tmp_path / "v.mp4").numpy()
    grey = torch.from_numpy(np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]))
    expected = tvl1_flow(grey[:-1].float(), grey[1:].float())
    for number in range(10):
        for axis, name in enumerate("xy"):
            picture = cv2.imread(str(tmp_path / "out" / f"flow_{name}_{number + 1:05d}.jpg"), cv2.IMREAD_UNCHANGED)
            assert picture.shape == (64, 96)
            assert picture.dtype == np.uint8
            pixels = torch.from_numpy(picture).float() * 40 / 255 - 20
            assert (pixels - expected[number, axis]).abs().mean() < 0.1  # of steps of 0.16, and JPEG's loss
    middle = torch.from_numpy(cv2.imread(str(tmp_path / "out" / "flow_x_00005.jpg"), -1)[16:48, 16:80]).float()
    assert abs(float(middle.median()) - 255 * (20 - 3) / 40) < 2  # the picture's content moves 3 pixels to the left


def test_a_killed_run_is_continued_and_what_changed_is_made_anew(shapes, tmp_path, capsys, monkeypatch):
    assert flow.main(config(shapes, tmp_path / "flow")) == 0
    videos = find_videos(shapes)
    stems = [os.path.relpath(video.path, shapes).removesuffix(".mp4") for video in videos]
    names = [f"{stem}/flow_{axis}_{number:05d}.jpg" for stem in stems for axis in "xy" for number in range(1, 24)]
    assert written(tmp_path / "flow") == sorted(names)
    shutil.rmtree(tmp_path / "flow" / stems[0])
    os.utime(videos[1].path, ns=(1, 1))
    done, write = [], flow.write_flow

    def noted(path, *given, **named):
        done.append(path)
        return write(path, *given, **named)

    monkeypatch.setattr(flow, "write_flow", noted)
    capsys.readouterr()
    assert flow.main(config(shapes, tmp_path / "flow")) == 0
    assert done == [video.path for video in videos[:2]]
    assert "1 of 3 videos are done already" in capsys.readouterr().err
    assert written(tmp_path / "flow") == sorted(names)
    with pytest.raises(UserError, match="was made with bound 20"):
        flow.main(config(shapes, tmp_path / "flow", bound=10))


def test_a_kill_within_a_video_leaves_no_folder_of_it(shapes, tmp_path, monkeypatch):
    video = find_videos(shapes)[0].path
    jpeg, calls = flow._jpeg, []

    def killed(*given):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return jpeg(*given)

    monkeypatch.setattr(flow, "_jpeg", killed)
    with pytest.raises(KeyboardInterrupt):
        flow.write_flow(video, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.partial").mkdir()  # as SIGKILL leaves it
    (tmp_path / ".out.partial" / "flow_x_00099.jpg").write_bytes(b"")
    flow.write_flow(video, tmp_path / "out")
    assert len(written(tmp_path / "out")) == 2 * 23


def test_parts_are_the_whole(shapes, tmp_path, capsys):
    assert flow.main(config(shapes, tmp_path / "whole")) == 0
    for number in (1, 2):
        assert flow.main(config(shapes, tmp_path / "parts", part=f"{number}/2")) == 0
    assert join(tmp_path / "parts", progress=False) == 3
    names = written(tmp_path / "whole")
    assert written(tmp_path / "parts") == names
    assert all((tmp_path / "parts" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)
    capsys.readouterr()
    assert flow.main(config(shapes, tmp_path / "parts")) == 0
    assert "3 of 3 videos are done already" in capsys.readouterr().err


def test_videos_of_shards(shapes, tmp_path):
    in_shards(tmp_path / "shards", find_videos(shapes), 1, shapes)
    assert flow.main(config(tmp_path / "shards" / "*.tar", tmp_path / "sharded")) == 0
    assert flow.main(config(shapes, tmp_path / "whole")) == 0
    names = written(tmp_path / "whole")
    assert written(tmp_path / "sharded") == [f"000.tar/{name}" for name in names]
    sharded, whole = tmp_path / "sharded" / "000.tar", tmp_path / "whole"
    assert all((sharded / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_large_frames_are_shrunk_and_odd_ones_named(tmp_path, capsys):
    frames = torch.from_numpy(numbered_frames(3, 60, 80))
    assert flow.with_shorter_side(frames, 30).shape == (3, 30, 40, 3)
    assert torch.equal(flow.with_shorter_side(frames, 30)[0, :8, 0], frames[0, :16:2, 0])  # bars are of even width
    assert flow.with_shorter_side(frames, 0) is frames
    assert flow.with_shorter_side(frames, 60) is frames
    write_video(tmp_path / "one.mp4", numbered_frames(1))
    (tmp_path / "a").mkdir()
    for name in ("a/1.mp4", "a/1.mkv"):
        write_video(tmp_path / name, numbered_frames(3))
    with pytest.raises(UserError, match=r"a/1\.mkv and .*a/1\.mp4 would have their flow in one folder"):
        flow.main(config(tmp_path, tmp_path / "out"))
    for number in range(2, 12):
        write_video(tmp_path / "a" / f"{number}.mp4", numbered_frames(3))
    (tmp_path / "a" / "1.mkv").unlink()
    assert flow.main(config(tmp_path, tmp_path / "out")) == 0
    assert "one.mp4: is too short: 1 frames, 2 are needed" in capsys.readouterr().err
    with pytest.raises(UserError, match="is not below --data"):
        flow.prepare_flow([Video("/elsewhere/v.mp4")], str(tmp_path), tmp_path / "out")
    for wrong in ({"quality": 101}, {"quality": 0}, {"bound": 0}, {"side": -1}):
        with pytest.raises(UserError, match=f"--{next(iter(wrong))}: must be at"):
            flow.main(config(tmp_path, tmp_path / "out", **wrong))


def test_copies_of_shards_are_folders_of_files(shapes, tmp_path):
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "0.tar", {"left/a.mp4": Path(find_videos(shapes)[0].path)})
    reencode.main(reencode.ReencodeConfig(output=tmp_path / "copies", data=tmp_path / "shards", workers=1))
    assert [os.path.relpath(v.path, tmp_path) for v in find_videos(tmp_path / "copies")] == ["copies/0.tar/left/a.mp4"]
