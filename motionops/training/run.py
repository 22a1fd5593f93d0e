"""A training run from the checks before it to the scores after it; the same for all methods."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from motionops.commandline import say, warn, writable_folder
from motionops.errors import UserError
from motionops.training.checkpoint import NAME, Interrupted
from motionops.training.config import TrainConfig
from motionops.training.data.videos import TrainingVideos, find_training_videos, fit_batch, videos_of_the_run
from motionops.training.fitting import fit
from motionops.training.launch import Processes, processes, restarts_hang
from motionops.training.lightning import seed_everything
from motionops.training.method import Method
from motionops.training.output_folder import choose_folder, held
from motionops.training.state.resuming import begin
from motionops.video import VideoDataset

# What a run writes besides its checkpoints: pictures, events, metrics.
ROOM_FOR_REPORTS = 64 * 2**20

Conclude = Callable[[TrainConfig, Method, TrainingVideos, VideoDataset], None]
MeasureEpoch = Callable[[TrainConfig, TrainingVideos, Method, int], dict[str, float]]


def train(
    config: TrainConfig,
    build: Callable[[TrainConfig, TrainingVideos], Method],
    make_dataset: Callable[[TrainConfig, TrainingVideos], VideoDataset],
    conclude: Conclude,
    find: Callable[[TrainConfig, bool], TrainingVideos] = find_training_videos,
    measure: MeasureEpoch | None = None,
) -> int:
    """Run a method: check, train, and hand what was learnt to `conclude`.

    Args:
        config: the flags.
        build: makes the method, as its `for_videos` does, or one with a backbone of one's own.
        make_dataset: makes the method's data set of the usable videos.
        conclude: what the processes do with the trained module: the first keeps, draws and measures it, for which
            they may all compute; `test` of the videos is the first one's alone.
        find: finds the videos of a configuration; whether to show a bar is its second argument.
        measure: what --monitor calls after so many epochs: scores by name.

    Returns:
        Exit status: 0, or 128 + the signal that ended the run (with last.ckpt written).

    Raises:
        UserError: what the user can mend, found before training wherever it can be.
    """
    config.check()
    started = processes(config)
    output = config.output
    if started.first or config.resume:  # what the others write is nothing
        output = choose_folder(output, type(config).output, resume=config.resume, overwrite=config.overwrite)
    config = replace(config, output=writable_folder(output, minimum_free=ROOM_FOR_REPORTS))
    with held(config.output) if started.first else contextlib.nullcontext():
        return _run(config, build, make_dataset, conclude, find, measure, started)


def _run(
    config: TrainConfig,
    build: Callable[[TrainConfig, TrainingVideos], Method],
    make_dataset: Callable[[TrainConfig, TrainingVideos], VideoDataset],
    conclude: Conclude,
    find: Callable[[TrainConfig, bool], TrainingVideos],
    measure: MeasureEpoch | None,
    started: Processes,
) -> int:
    """`train`, in a folder that is the run's own."""
    first = started.first
    if first and restarts_hang():
        warn(
            "torchrun --max-restarts: after a restart the processes may wait for dead ones for ever; "
            "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun prevents it"
        )
    videos = videos_of_the_run(config, find)
    if config.monitor and not (measure and videos.test):
        raise UserError("--monitor: there are no labelled test videos to measure on; --test-list names some")
    config = fit_batch(config, len(videos.usable), started.devices * started.nodes * config.accumulate)

    seed_everything(config.seed, verbose=False)
    module = build(config, videos).to(memory_format=torch.channels_last_3d)
    writable_folder(config.output, minimum_free=3 * checkpoint_bytes(module) + ROOM_FOR_REPORTS)
    module.steps_per_epoch = len(videos.usable) // config.batch_size
    module.total_steps = config.epochs * module.steps_per_epoch
    if first and config.max_steps > module.total_steps:
        steps = f"{config.epochs} epochs of {len(videos.usable)} videos are {module.total_steps} steps"
        warn(f"--max-steps {config.max_steps}: {steps}; a larger --epochs trains longer")
    if config.max_steps >= 0:
        module.total_steps = min(module.total_steps, config.max_steps)

    fingerprint = begin(config, module, videos)
    dataset = make_dataset(config, videos)
    if config.short == "hold":
        dataset.least_frames = max(dataset.least_frames, config.window())
    try:
        if module.step < module.total_steps:
            fit(config, module, dataset, fingerprint, started, measure and partial(measure, config, videos))
        elif first:
            say(f"nothing to train: {module.step} of {module.total_steps} steps are done")
    except Interrupted as stop:
        if first:
            when = f"stopped by {signal.Signals(stop.signal).name} after step {stop.step}"
            written = f"{config.output / NAME} is written"
            if not stop.saved:
                when, written = f"{when}, waiting for videos", f"{config.output / NAME}, if it is there, is from before"
            say(f"{when}: {written}, --resume continues")
        return 128 + stop.signal
    conclude(config, module, videos, dataset)
    return 0


def checkpoint_bytes(module: torch.nn.Module) -> int:
    """About how large last.ckpt gets: the state, and two moments for each parameter that is trained."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    trained = sum(parameter.numel() * 4 for parameter in module.parameters() if parameter.requires_grad)
    return state + 2 * trained
