"""`--decoder dali` in the trainers: the same batches as PyAV's, whole runs, resumption, two processes, refusals."""

import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motionops import commandline
from motionops.commandline import EXIT_USER_ERROR
from motionops.errors import UserError
from motionops.methods import context_motion, controllable
from motionops.training.data.dali_batches import check_reads_frames
from motionops.training.data.loading import PlannedData
from motionops.training.data.videos import TrainingVideos
from motionops.training.method import Method
from motionops.video import Batch, Video
from tests.runs.runs import ROOT, WITHOUT_BATCHNORM, environment
from tests.runs.sample_norm import put_in_place
from tests.video.test_dali import FAST, assert_same, coloured, needs_dali
from tests.video.video_files import encode
from trainers import fima, mcl, modist

FRAMES = 40


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of eight VP9 videos of two sizes; its name holds spaces."""
    folder = tmp_path_factory.mktemp("eight videos")
    for number in range(8):
        pictures = coloured(FRAMES, 64 if number % 3 else 48, 64)
        encode(folder / f"video {number}.webm", pictures, "libvpx-vp9", FAST)
    return folder


def first_batches(make_dataset, config) -> list[Batch]:
    """The batches of two steps, as a run gets them."""
    usable = [Video(str(path), None, FRAMES) for path in sorted(Path(config.data).glob("*.webm"))]
    module = Method(config)
    module.total_steps = 2
    dataset = make_dataset(config, TrainingVideos(usable)).of_whole_pictures()  # as DALI gives them
    loader = PlannedData(config, module, dataset, "").train_dataloader()
    assert len(loader) == 2
    return list(loader)


@needs_dali
@pytest.mark.parametrize(
    ("make_dataset", "config"),
    [
        pytest.param(fima.make_dataset, fima.FIMAConfig(), id="fima"),
        pytest.param(mcl.make_dataset, mcl.MCLConfig(motion_source="on-the-fly"), id="mcl"),
        pytest.param(modist.make_dataset, modist.MoDistConfig(motion="frame-difference"), id="modist"),
        pytest.param(controllable.make_dataset, controllable.ControllableConfig(), id="controllable"),
    ],
)
def test_batches_of_the_methods_are_those_of_pyav(videos, make_dataset, config):
    config = replace(config, data=videos, batch_size=4, workers=0)
    with_dali, with_pyav = (
        first_batches(make_dataset, replace(config, decoder=decoder)) for decoder in ("dali", "pyav")
    )
    for batch in (*with_dali, *with_pyav):  # clips of one picture each, whatever the method's views are
        batch.frames = [video.flatten(0, 1)[None] for video in batch.frames]
    for one, other in zip(with_dali, with_pyav, strict=True):
        if isinstance(one.own, torch.Tensor):  # MoDist's squares, of the same frames and no others
            difference = [(one.own.float() - own.float()).abs().mean() for own in (other.own, other.own.roll(1, 1))]
            assert difference[0] < 3 < difference[1]
            one.own = other.own = None
    assert_same(with_dali, with_pyav)


@needs_dali
def test_the_decoder_is_chosen_on_the_first_batches(videos, capsys):
    config = replace(fima.FIMAConfig(), data=videos, batch_size=4, workers=0)
    chosen = first_batches(fima.make_dataset, replace(config, decoder="auto"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--decoder auto" in line]
    assert re.search(r"--decoder auto: (dali|pyav): DALI reads [\d.]+ videos a second, PyAV [\d.]+$", line)
    plain = first_batches(fima.make_dataset, replace(config, decoder="pyav"))
    for batch in (*chosen, *plain):
        batch.frames = [video.flatten(0, 1)[None] for video in batch.frames]
    assert_same(chosen, plain)


def words(folder: Path, output: Path, *more: str) -> list[str]:
    tiny = "--backbone r3d_small --size 16 --batch-size 4 --queue 16 --hidden 16 --dim 16 --losses vv --workers 1"
    line = ["--data", str(folder), "--output", str(output), *tiny.split(), "--log-every", "1", "--epochs", "3"]
    return [*line, "--decoder", "dali", *more]


def here(*given) -> int:
    """The exit status of a run in this process."""
    return commandline.run(fima.main, fima.FIMAConfig, fima.PRESETS, words(*given))


def in_processes_of_its_own(*given) -> subprocess.CompletedProcess:
    scripts = [str(ROOT / script) for script in (WITHOUT_BATCHNORM, "trainers/fima.py")]
    line = [sys.executable, *scripts, *words(*given)]
    return subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=300, check=False)


def losses(output: Path) -> list[tuple[str, str]]:
    with open(output / "metrics.csv", newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@needs_dali
def test_a_run_that_is_cut_and_continued_is_the_whole_run(videos, tmp_path):
    assert here(videos, tmp_path / "whole") == 0
    assert [step for step, _ in losses(tmp_path / "whole")] == [str(step) for step in range(1, 7)]
    assert here(videos, tmp_path / "cut", "--max-steps", "3") == 0
    assert here(videos, tmp_path / "cut", "--resume") == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@needs_dali
def test_two_processes_equal_one_with_the_same_batch(videos, tmp_path, monkeypatch):
    """gloo; BatchNorm replaced: a process that read other videos than its share would have other losses."""
    sgd = ("--optimizer", "sgd", "--learning-rate", "0.1", "--warmup-epochs", "0")
    ran = in_processes_of_its_own(videos, tmp_path / "2", "--devices", "2", *sgd)
    assert ran.returncode == 0, ran.stderr
    put_in_place(monkeypatch.setattr)
    assert here(videos, tmp_path / "1", "--devices", "1", *sgd) == 0
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert [step for step, _ in one] == [step for step, _ in two] == [str(step) for step in range(1, 7)]
    assert [float(loss) for _, loss in two] == pytest.approx([float(loss) for _, loss in one], abs=1e-5)


@needs_dali
def test_what_needs_a_gpu_is_one_line(tmp_path, capsys):
    for number in range(4):
        encode(tmp_path / f"{number}.mp4", coloured(FRAMES, 48, 64), "libx264", {})
    assert here(tmp_path, tmp_path / "run") == EXIT_USER_ERROR
    text = capsys.readouterr().err
    (line,) = [line for line in text.splitlines() if line.startswith("error:")]
    assert "DALI on the CPU decodes only VP8, VP9 and MJPEG" in line
    assert "is h264; --decoder pyav reads it" in line
    assert "Traceback" not in text


def test_motion_vectors_are_refused(videos):
    usable = [Video(str(path), None, FRAMES) for path in sorted(videos.glob("*.webm"))]
    config = context_motion.ContextMotionConfig(data=videos, decoder="dali")
    with pytest.raises(UserError, match=r"^--decoder dali: .* motion vectors too; --decoder pyav does$"):
        check_reads_frames(context_motion.make_dataset(config, TrainingVideos(usable)))
