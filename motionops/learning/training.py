"""A training run from the checks before it to the scores after it; the same for all five methods."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from motionops.commandline import LARGEST_SEED, warn, writable_folder
from motionops.errors import UserError
from motionops.learning.checkpoint import NAME, BackgroundCheckpointIO, Interrupted, LastCheckpoint, read_checkpoint
from motionops.learning.compiling import compiled
from motionops.learning.config import FREE_TO_CHANGE, TrainConfig
from motionops.learning.dali_batches import check_dali, check_reads_frames
from motionops.learning.data import PlannedData, TrainingVideos, end_workers, find_training_videos
from motionops.learning.launch import environment_rank, processes, restarts_hang
from motionops.learning.lightning import DDPStrategy, TensorBoardLogger, Trainer, seed_everything
from motionops.learning.module import FinishStep, SelfSupervisedModule
from motionops.learning.profiling import StepProfile
from motionops.learning.progress import TrainingBar
from motionops.learning.run_folder import (
    METRICS_CSV,
    REPORT,
    TENSORBOARD,
    MetricsFile,
    plain,
    start_folder,
)
from motionops.models import build_backbone, save_backbone
from motionops.models.bfloat16_convolutions import float32_where_wrong
from motionops.video import VideoDataset, collate_videos
from motionops.video.dali import require_dali

# What a run writes besides its checkpoints: pictures, events, metrics.
ROOM_FOR_REPORTS = 64 * 2**20

# DDP's argument; torch 2.13 deprecates the former name.
BUFFERS_BEFORE_FORWARD = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)

# Videos in a report's pictures.
SHOWN = 6

Conclude = Callable[[TrainConfig, SelfSupervisedModule, TrainingVideos, VideoDataset], None]


def train(
    config: TrainConfig,
    build: Callable[[TrainConfig], SelfSupervisedModule],
    make_dataset: Callable[[TrainConfig, TrainingVideos], VideoDataset],
    find: Callable[[TrainConfig, bool], TrainingVideos] = find_training_videos,
    conclude: Conclude | None = None,
) -> int:
    """Run a method: check, train, save the backbone, draw the report, measure retrieval.

    Args:
        config: the flags, after `check_numbers`.
        build: makes the method's module.
        make_dataset: makes the method's data set of the usable videos.
        find: finds the videos of a configuration; whether to show a bar is its second argument.
        conclude: what the first process does with the trained module; by default :func:`finish`.

    Returns:
        Exit status: 0, or 128 + the signal that ended the run (with last.ckpt written).

    Raises:
        UserError: what the user can mend, found before training wherever it can be.
    """
    devices, nodes = processes(config)
    config.output = writable_folder(config.output, minimum_free=ROOM_FOR_REPORTS)
    first_rank = environment_rank() == 0
    if first_rank and restarts_hang():
        warn(
            "torchrun --max-restarts: after a restart the processes may wait for dead ones for ever; "
            "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun prevents it"
        )
    if config.decoder == "dali":
        require_dali()
    videos = find(config, first_rank)
    if config.decoder == "dali":
        check_dali(videos.usable)
    fit_batch(config, len(videos.usable), devices * nodes * config.accumulate)

    seed_everything(config.seed, verbose=False)
    module = build(config).to(memory_format=torch.channels_last_3d)
    writable_folder(config.output, minimum_free=2 * checkpoint_bytes(module) + ROOM_FOR_REPORTS)
    module.steps_per_epoch = len(videos.usable) // config.batch_size
    module.total_steps = config.epochs * module.steps_per_epoch
    if first_rank and config.max_steps > module.total_steps:
        steps = f"{config.epochs} epochs of {len(videos.usable)} videos are {module.total_steps} steps"
        warn(f"--max-steps {config.max_steps}: {steps}; a larger --epochs trains longer")
    if config.max_steps >= 0:
        module.total_steps = min(module.total_steps, config.max_steps)

    note = {"config": plain(config), "videos": fingerprint(videos)}
    module.note_for_resume(note)
    checkpoint = config.output / NAME
    resumed = config.resume and resume(module, checkpoint, note)
    if first_rank:
        start_folder(config.output, config, resumed)

    every, minutes = config.checkpoint_every, 0.0
    if not every:
        every, minutes = module.steps_per_epoch, config.checkpoint_minutes
    saving = LastCheckpoint(config.output, every, minutes)
    dataset = make_dataset(config, videos)
    if config.decoder == "dali":
        check_reads_frames(dataset)
    saving.install()
    try:
        with quiet_lightning():
            run_loggers = loggers(config, module.step if resumed else 0) if first_rank else False
            callbacks = [FinishStep(), TrainingBar(), saving]
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
                    trainer.fit(module, datamodule=PlannedData(config, module, dataset, note["videos"]))
            elif first_rank:
                say(f"nothing to train: {module.step} of {module.total_steps} steps are done")
    except Interrupted as stop:
        if first_rank:
            name = signal.Signals(stop.signal).name
            say(f"stopped by {name} after step {stop.step}: {checkpoint} is written, --resume continues")
        return 128 + stop.signal
    finally:
        saving.restore()
        end_workers()
    if first_rank:
        (conclude or finish)(config, module, videos, dataset)
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


def make_trainer(config: TrainConfig, devices: int, nodes: int, run_loggers: Any, callbacks: list) -> Trainer:
    """Lightning's trainer, told to do the loop, the devices and the precision, and nothing that is done elsewhere."""
    trainer = Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=devices,
        num_nodes=nodes,
        # Queues are equal on all ranks as it is, and it is rank 0's BatchNorm that is saved: nothing to broadcast.
        strategy=DDPStrategy(**{BUFFERS_BEFORE_FORWARD: False}) if devices * nodes > 1 else "auto",
        precision={"32": "32-true", "bf16-mixed": "bf16-mixed"}[config.precision],
        accumulate_grad_batches=config.accumulate,
        # One pass over a plan of all steps: workers live through the epochs, and the position in the data is the step.
        max_epochs=1,
        logger=run_loggers,
        callbacks=callbacks,
        plugins=[BackgroundCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=config.output,
    )
    # Lightning asks the ranks for a SIGTERM before each batch, by their devices; LastCheckpoint asks their hosts.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer


def finish(config: TrainConfig, module: SelfSupervisedModule, videos: TrainingVideos, dataset: VideoDataset) -> None:
    """Save the backbone, draw the report, measure retrieval, write metrics.json, and say where it all is."""
    from motionops.evaluation import evaluate_retrieval, format_retrieval, write_metrics
    from motionops.evaluation.pictures import training_curves

    output = config.output
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    clip = {**{name: getattr(config, name) for name in ("frames", "stride", "size")}, "crop": config.evaluation_crop}
    colours = {"mean": list(config.mean), "std": list(config.std)}
    save_backbone(
        module.backbone,
        output / "backbone.safetensors",
        **{name: json.dumps(value) for name, value in {**clip, **colours}.items()},
    )
    (output / REPORT).mkdir(exist_ok=True)
    with contextlib.suppress(ValueError, FileNotFoundError):  # a run shorter than --log-every has no curve
        training_curves(output / METRICS_CSV, output / REPORT / "training.png")
    shown = collate_videos([dataset[0, video] for video in range(min(SHOWN, len(dataset)))])
    with torch.no_grad():
        module.eval().report(output / REPORT, module.transfer_batch_to_device(shown, device, 0))

    metrics: dict[str, Any] = {"protocol": "none"}
    if videos.test:
        metrics = evaluate_retrieval(
            module.backbone,
            videos.usable,
            videos.test,
            picture=output / REPORT / "retrieval.png",
            clips=config.evaluation_clips,
            **clip,
            **colours,
            workers=config.workers,
            device=device,
            progress=True,
        )
    skipped = [*videos.skipped, *(video for video in module.failed if video not in videos.skipped)]
    metrics["skipped"] = metrics.get("skipped", 0) + len(skipped)
    metrics["skipped_videos"] = [*metrics.get("skipped_videos", []), *(video._asdict() for video in skipped)]
    metrics["training"] = {"steps": module.step, "videos": len(videos.usable), **module.metrics}
    write_metrics(metrics, output)
    if videos.test:
        print(format_retrieval(metrics))
    say(f"written: {output}/ (backbone.safetensors, last.ckpt, metrics.json, metrics.csv, {REPORT}/)")


def check_numbers(config: TrainConfig) -> None:
    """UserError for a number of the common flags that is out of range."""
    lowest = {"frames": 1, "stride": 1, "size": 8, "epochs": 1, "batch_size": 2, "workers": 0, "devices": 1}
    lowest |= {
        "accumulate": 1,
        "profile": 0,
        "log_every": 1,
        "checkpoint_every": 0,
        "evaluation_clips": 1,
        "max_steps": -1,
        "seed": 0,
    }
    for name, least in lowest.items():
        if getattr(config, name) < least:
            raise UserError(f"{flag(name)}: must be at least {least}, got {getattr(config, name)}")
    if config.seed > LARGEST_SEED:
        raise UserError(f"--seed: must be at most {LARGEST_SEED}, got {config.seed}")
    if not 0 < config.learning_rate < float("inf"):
        raise UserError(f"--learning-rate: must be positive, got {config.learning_rate}")
    for name in ("weight_decay", "warmup_epochs", "cache_gib", "checkpoint_minutes"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{flag(name)}: must not be negative, got {getattr(config, name)}")
    if any(epoch < 1 for epoch in config.milestones):
        raise UserError(f"--milestones: must be epochs from 1 on, got {' '.join(map(str, config.milestones))}")
    small, large = config.crop_area
    if not 0 < small <= large <= 1:
        raise UserError(f"--crop-area: must be two rising shares in (0, 1], got {small} {large}")
    if not 0 < config.evaluation_crop <= 1:
        raise UserError(f"--evaluation-crop: must be in (0, 1], got {config.evaluation_crop}")
    if min(config.std) <= 0:
        raise UserError(f"--std: must be positive, got {config.std}")


def fit_batch(config: TrainConfig, videos: int, parts: int) -> None:
    """Lower --batch-size to what a small set of videos fills, in equal parts; UserError where there are too few."""
    possible = videos // parts * parts
    least = 2 * parts  # BatchNorm takes no statistics of one
    if possible < least:
        raise UserError(f"{videos} usable videos are too few to learn from; at least {least} are needed")
    if config.batch_size > possible:
        warn(f"--batch-size {config.batch_size} is more than the {videos} usable videos; {possible} is used")
        config.batch_size = possible


def checkpoint_bytes(module: torch.nn.Module) -> int:
    """About how large last.ckpt gets: the state, and two moments for each parameter that is trained."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    trained = sum(parameter.numel() * 4 for parameter in module.parameters() if parameter.requires_grad)
    return state + 2 * trained


def fingerprint(videos: TrainingVideos) -> str:
    """Names the usable videos and their order, on which the batches depend."""
    names = "\n".join("/".join(Path(video.path).parts[-2:]) for video in videos.usable)
    return f"{len(videos.usable)} videos, {hashlib.sha256(names.encode()).hexdigest()[:16]}"


def resume(module: SelfSupervisedModule, path: Path, note: dict[str, Any]) -> bool:
    """Load last.ckpt into the module; False (and a line that says so) where there is none yet."""
    if not path.exists():
        say(f"--resume: there is no {path} yet; the run starts")
        return False
    checkpoint = read_checkpoint(path)
    before = checkpoint["motionops"]
    for name, value in note["config"].items():
        former = before["config"].get(name, value)
        if name not in FREE_TO_CHANGE and former != value:
            raise UserError(f"--resume: {path} was made with {flag(name)} {former}, now it is {value}")
    if before["videos"] != note["videos"]:
        raise UserError(f"--resume: {path} was made of {before['videos']}; now they are {note['videos']}")
    module.resume_from(checkpoint)
    say(f"continuing after step {module.step} of {path}")
    return True


def loggers(config: TrainConfig, first_step: int) -> list:
    """metrics.csv and TensorBoard; a resumed run drops what was logged behind the step that it continues from."""
    purge = {"purge_step": first_step + 1} if first_step else {}
    return [
        MetricsFile(config.output / METRICS_CSV, first_step),
        TensorBoardLogger(config.output, name="", version=TENSORBOARD, **purge),
    ]


def map_shape(config: TrainConfig) -> tuple[int, int, int]:
    """(T', H', W') of the backbone's feature map for the clips of this configuration. UserError where there is none."""
    with torch.device("meta"):
        clip = torch.empty(1, 3, config.frames, config.size, config.size)
        try:
            return tuple(build_backbone(config.backbone).eval()(clip).shape[2:])
        except RuntimeError as error:
            raise UserError(
                f"{config.backbone} cannot take clips of --frames {config.frames} at --size {config.size}"
            ) from error


def flag(name: str) -> str:
    """A field's name as it is typed."""
    return f"--{name.replace('_', '-')}"


def say(text: str) -> None:
    """A line for the person who watches, on stderr, where the bar is."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's notes on devices and tips, which say nothing that the user asked."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        unasked = (
            "does not have many workers",
            "is smaller than the logging interval",
            "isinstance.treespec",
            "You have overridden `on_before_batch_transfer`",  # in the module, as it is meant
        )
        # A frozen backbone's BatchNorm is meant to be in eval mode.
        # On the CPU alone: gradients of 1 x 1 x 1 convolutions do not have the weights' channels_last_3d strides there.
        strides = () if torch.cuda.is_available() else ("Grad strides do not match bucket view strides",)
        for text in (*unasked, *strides, "in eval mode at the start of training"):
            warnings.filterwarnings("ignore", message=f".*{text}.*")
        try:
            yield
        finally:
            log.setLevel(level)
