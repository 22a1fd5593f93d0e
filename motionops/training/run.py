"""A training run from the checks before it to the scores after it; the same for all methods."""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from motionops.commandline import say, warn, writable_folder
from motionops.errors import UserError
from motionops.models.bfloat16_convolutions import float32_where_wrong
from motionops.motion.vector_decoder import REENCODE, doubtful_files
from motionops.ranks import environment_rank
from motionops.training.checkpoint import NAME, Interrupted, LastCheckpoint
from motionops.training.compiling import compiled
from motionops.training.config import TrainConfig
from motionops.training.data.dali_batches import check_dali, check_reads_frames
from motionops.training.data.first_process import tell_children
from motionops.training.data.loading import PlannedData, end_workers, hanging_reads_named, in_one_line
from motionops.training.data.manifest import MANIFEST, TrainingVideos, fingerprint, write_manifest
from motionops.training.data.videos import find_training_videos, fit_batch, videos_of_the_run
from motionops.training.launch import processes, restarts_hang
from motionops.training.lightning import seed_everything
from motionops.training.lightning_quirks import loggers, make_trainer, quiet_lightning
from motionops.training.method import FinishStep, Method
from motionops.training.output_folder import choose_folder, held
from motionops.training.resuming import resume
from motionops.training.run_folder import REPORT, plain, start_folder
from motionops.training.watch.monitor import Monitor
from motionops.training.watch.profiling import StepProfile
from motionops.training.watch.progress import TrainingBar
from motionops.video import VideoDataset
from motionops.video.dali import require_dali

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
        conclude: what the first process does with the trained module: keeps, draws and measures it.
        find: finds the videos of a configuration; whether to show a bar is its second argument.
        measure: what --monitor calls after so many epochs: scores by name.

    Returns:
        Exit status: 0, or 128 + the signal that ended the run (with last.ckpt written).

    Raises:
        UserError: what the user can mend, found before training wherever it can be.
    """
    config.check()
    devices, nodes = processes(config)
    first_rank = environment_rank() == 0
    output = config.output
    if first_rank or config.resume:  # what the others write is nothing
        output = choose_folder(output, type(config).output, resume=config.resume, overwrite=config.overwrite)
    config = replace(config, output=writable_folder(output, minimum_free=ROOM_FOR_REPORTS))
    with held(config.output) if first_rank else contextlib.nullcontext():
        return _run(config, build, make_dataset, conclude, find, measure, devices, nodes)


def _run(
    config: TrainConfig,
    build: Callable[[TrainConfig, TrainingVideos], Method],
    make_dataset: Callable[[TrainConfig, TrainingVideos], VideoDataset],
    conclude: Conclude,
    find: Callable[[TrainConfig, bool], TrainingVideos],
    measure: MeasureEpoch | None,
    devices: int,
    nodes: int,
) -> int:
    """`train`, in a folder that is the run's own."""
    first_rank = environment_rank() == 0
    if first_rank and restarts_hang():
        warn(
            "torchrun --max-restarts: after a restart the processes may wait for dead ones for ever; "
            "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun prevents it"
        )
    if config.decoder == "dali":
        require_dali()
    videos = videos_of_the_run(config, find)
    if config.decoder == "dali":
        check_dali(videos.usable)
    if config.monitor and not (measure and videos.test):
        raise UserError("--monitor: there are no labelled test videos to measure on; --test-list names some")
    config = fit_batch(config, len(videos.usable), devices * nodes * config.accumulate)

    seed_everything(config.seed, verbose=False)
    module = build(config, videos).to(memory_format=torch.channels_last_3d)
    writable_folder(config.output, minimum_free=3 * checkpoint_bytes(module) + ROOM_FOR_REPORTS)
    module.steps_per_epoch = len(videos.usable) // config.batch_size
    module.total_steps = config.epochs * module.steps_per_epoch
    if first_rank and config.max_steps > module.total_steps:
        steps = f"{config.epochs} epochs of {len(videos.usable)} videos are {module.total_steps} steps"
        warn(f"--max-steps {config.max_steps}: {steps}; a larger --epochs trains longer")
    if config.max_steps >= 0:
        module.total_steps = min(module.total_steps, config.max_steps)

    note = {"config": plain(config), "videos": fingerprint(videos.usable)}
    module.note_for_resume(note)
    checkpoint = config.output / NAME
    resumed = config.resume and resume(module, checkpoint, note)
    if first_rank:
        start_folder(config.output, config, resumed)
        if not (resumed and (config.output / MANIFEST).exists()):
            write_manifest(config.output / MANIFEST, videos)
        tell_children(config.output / MANIFEST)

    every, minutes = config.checkpoint_every, 0.0
    if not every:
        every, minutes = module.steps_per_epoch, config.checkpoint_minutes
    saving = LastCheckpoint(config.output, every, minutes)
    dataset = make_dataset(config, videos)
    if config.short == "hold":
        dataset.least_frames = max(dataset.least_frames, config.window())
    if config.decoder == "dali":
        check_reads_frames(dataset)
    saving.install()
    try:
        with quiet_lightning():
            warnings.showwarning = in_one_line
            run_loggers = loggers(config, module.step if resumed else 0) if first_rank else False
            callbacks = [FinishStep(), TrainingBar(), saving]
            if config.monitor:
                callbacks.insert(1, Monitor(config.monitor, partial(measure, config, videos)))
            if config.profile and first_rank:
                profiled = StepProfile(config.profile, config.output / REPORT, plain(config), say)
                callbacks = [profiled, *callbacks, profiled.last]
            trainer = make_trainer(config, devices, nodes, run_loggers, callbacks)
            if module.step < module.total_steps:
                with contextlib.ExitStack() as changed:
                    if config.precision == "bf16-mixed" and not torch.cuda.is_available():
                        changed.enter_context(right_convolutions(module, tell=first_rank))
                    if config.compile:
                        changed.enter_context(compiled(module, devices * nodes))
                    changed.enter_context(hanging_reads_named(config.read_minutes))
                    trainer.fit(module, datamodule=PlannedData(config, module, dataset, note["videos"]))
            elif first_rank:
                say(f"nothing to train: {module.step} of {module.total_steps} steps are done")
    except Interrupted as stop:
        if first_rank:
            when = f"stopped by {signal.Signals(stop.signal).name} after step {stop.step}"
            if stop.saved:
                say(f"{when}: {checkpoint} is written, --resume continues")
            else:
                say(f"{when}, waiting for videos: {checkpoint}, if it is there, is from before, --resume continues")
        return 128 + stop.signal
    finally:
        saving.restore()
        end_workers()
    if first_rank and (doubtful := doubtful_files()):
        warn(f"motion vectors of {doubtful} files may be wrong (B-frames, several references); {REENCODE} mends them")
    if first_rank:
        conclude(config, module, videos, dataset)
    return 0


@contextlib.contextmanager
def right_convolutions(module: torch.nn.Module, tell: bool) -> Iterator[None]:
    """Convolutions that bfloat16 gets wrong on this CPU are float32's while the context lasts; a line says so."""
    with float32_where_wrong(module) as found:
        if found and tell:
            lengths = ", ".join(map(str, sorted(set().union(*found.values()))))
            say(
                f"--precision bf16-mixed: convolutions run in float32 where they get {lengths} frames; in bfloat16 "
                "this torch computes them wrongly on this processor"
            )
        yield


def checkpoint_bytes(module: torch.nn.Module) -> int:
    """About how large last.ckpt gets: the state, and two moments for each parameter that is trained."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    trained = sum(parameter.numel() * 4 for parameter in module.parameters() if parameter.requires_grad)
    return state + 2 * trained
