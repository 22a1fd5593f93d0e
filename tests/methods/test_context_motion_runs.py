"""Runs of Context-Motion Decoupling: a classifier, the motion network's own scores, codecs, broken and real videos."""

import json
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from motionops.commandline import run
from motionops.commands.evaluate.program import main as evaluate
from motionops.errors import UserError
from motionops.methods.context_motion import PRESETS, ContextMotion, ContextMotionConfig
from motionops.models import load_backbone, read_metadata
from motionops.motion import MotionVectorWarning, read_motion_vectors
from tests.methods.tiny import tiny as tiny_run
from tests.runs.runs import DATA
from trainers import context_motion as trainer


def tiny(shapes, output, **changes):
    listing = None if "data" in changes else shapes / "train.txt"
    return tiny_run("context_motion", shapes, output, **{"list": listing, **changes})


def test_networks_beside_the_backbone_are_kept(shapes, tmp_path):
    config = tiny(shapes, tmp_path / "run", max_steps=1)
    assert trainer.main(config) == 0
    assert load_backbone(config.output / "image_backbone.safetensors").name == "r2d_small"
    assert read_metadata(config.output / "image_backbone.safetensors")["frames"] == "1"
    assert load_backbone(config.output / "motion_backbone.safetensors").kwargs == {"inputs": 2}


def test_a_motion_network_is_measured_by_its_vectors(shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    assert trainer.main(tiny(shapes, tmp_path / "run", max_steps=1, motion_steps=8)) == 0
    file = tmp_path / "run" / "motion_backbone.safetensors"
    assert json.loads(read_metadata(file)["vectors"]) == {"cell": 8, "fill": True, "steps": 8}
    line = ["--backbone", str(file), "--data", str(shapes), "--clips", "3", "--output", str(tmp_path / "scores")]
    assert evaluate(["retrieval", *line]) == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert (metrics["n_train"], metrics["n_test"], metrics["settings"]["frames"]) == (16, 8, 4)
    for flag in (["--stride", "2"], ["--crops", "3"], ["--short", "hold"], ["--still"], ["--workers", "0"]):
        assert evaluate(["retrieval", *line, *flag]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: {flag[0]}: {file} takes motion vectors"), error
    assert evaluate(["features", *line[:-1], str(tmp_path / "features.npz")]) == 0
    with np.load(tmp_path / "features.npz") as written:
        assert len(written["features"]) == 24
    for command in ("finetune", "pictures"):
        assert evaluate([command, *line[:-1], str(tmp_path / command)]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: --backbone: {file} takes motion vectors"), error


def test_training_goes_on_from_given_weights(shapes, tmp_path):
    assert trainer.main(tiny(shapes, tmp_path / "first", max_steps=1)) == 0
    config = tiny(shapes, tmp_path / "second", init=tmp_path / "first" / "backbone.safetensors")
    module = ContextMotion(config)
    expected = load_backbone(config.init).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.backbone.state_dict().items())


def encoded(folder, encoder, count, options=None):
    """Videos of a moving texture in a folder of two classes; skips where PyAV was built without the encoder."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        texture = generator.integers(0, 256, (8, 24, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        try:
            with av.open(str(path), "w") as container:
                stream = container.add_stream(encoder, rate=25, options=options or {})
                stream.height, stream.width, stream.pix_fmt, stream.gop_size = 64, 64, "yuv420p", 12
                for t in range(24):
                    frame = np.ascontiguousarray(texture[:, 2 * t : 2 * t + 64])
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
        except av.codec.codec.UnknownCodecError:
            pytest.skip(f"this PyAV has no encoder {encoder}")


def test_a_codec_without_vectors_is_one_line_that_names_what_mends_it(tmp_path):
    encoded(tmp_path / "data", "libvpx-vp9", 4, {"deadline": "realtime", "cpu-used": "8"})
    config = tiny(None, tmp_path / "run", data=tmp_path / "data")
    with pytest.raises(UserError, match=r"vp9.*motionops prepare reencode") as error:
        trainer.main(config)
    assert "\n" not in str(error.value)


def test_streams_with_b_frames_train_with_a_warning(tmp_path, capsys):
    options = {"bf": "2", "b-adapt": "0"}
    encoded(tmp_path / "earlier", "libx264", 2, options)
    for file in (tmp_path / "earlier").rglob("*.mkv"):  # which are not the run's
        with pytest.warns(MotionVectorWarning, match="B-frames"):
            read_motion_vectors(file)
    encoded(tmp_path / "data", "libx264", 4, options)
    config = tiny(None, tmp_path / "run", data=tmp_path / "data", max_steps=1)
    assert trainer.main(config) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    assert any(re.search(r"the stream has .*B-frames.*motionops prepare reencode", line) for line in told)
    assert "motion vectors of 4 files may be wrong" in told[-1]


def test_a_broken_video_is_replaced_and_named(shapes, tmp_path, capsys):
    for name in ("slide", "rise"):
        shutil.copytree(shapes / name, tmp_path / "data" / name)
    config = tiny(None, tmp_path / "run", data=tmp_path / "data", max_steps=2)
    victim = sorted((tmp_path / "data" / "slide").glob("*.mp4"))[0]
    find = trainer.find_videos

    def find_then_break(*given):
        found = find(*given)
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
        return found

    trainer.find_videos = find_then_break
    try:
        assert trainer.main(config) == 0
    finally:
        trainer.find_videos = find
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert [Path(video["path"]).name for video in metrics["skipped_videos"]] == [victim.name]


@pytest.mark.filterwarnings("ignore:.*the stream has several reference pictures")
@pytest.mark.parametrize("folder", [pytest.param("weizmann4", marks=pytest.mark.slow), "surv_fight"])
def test_real_videos(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    if not (DATA / folder).is_dir():
        pytest.skip(f"the videos of {folder} are not here")
    line = ["--data", str(DATA / folder), "--output", str(tmp_path / "run"), "--max-steps", "2", "--batch-size", "4"]
    assert run(trainer.main, ContextMotionConfig, PRESETS, line) == 0
