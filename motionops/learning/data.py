"""From the flags to the batches of a run."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.utils.data import DataLoader

from motionops.commandline import existing_folder, warn
from motionops.errors import UserError
from motionops.evaluation import check_lists
from motionops.learning.batches import BatchPlan
from motionops.learning.config import TrainConfig
from motionops.learning.dali_batches import DALIBatches
from motionops.learning.distributed import gather_lists, world
from motionops.learning.lightning import LightningDataModule
from motionops.learning.module import SelfSupervisedModule
from motionops.video import (
    Skipped,
    Video,
    VideoDataset,
    check_videos,
    collate_videos,
    find_videos,
    moving_shapes,
    read_list,
    require_usable,
)
from motionops.video.dali import DALIDecoder, EncodedReader
from motionops.video.dataset import start_worker
from motionops.video.known_counts import default_file


@dataclass
class TrainingVideos:
    """What a run trains on and is measured on; `skipped` cannot be used, each with its reason."""

    usable: list[Video]
    skipped: list[Skipped] = field(default_factory=list)
    test: list[Video] = field(default_factory=list)


def find_training_videos(config: TrainConfig, progress: bool = True) -> TrainingVideos:
    """The videos that --data, --list and --test-list name, or MovingShapes where none of them is given.

    Every training video is decoded once; one that is missing, broken or too short is named on stderr and left out.

    Raises:
        UserError: no such folder or list, an empty one, too many unusable videos (more than a tenth, or with --strict
            any).
    """
    if config.data is not None:
        existing_folder(config.data)
    test = [] if config.test_list is None else read_list(config.test_list, root=config.data)
    if config.list is not None:
        videos = read_list(config.list, root=config.data)
    elif config.data is not None:
        videos = find_videos(config.data)
    else:
        folder = moving_shapes.generate(progress=progress)
        videos = read_list(folder / "train.txt")
        test = test or read_list(folder / "test.txt")
    usable, skipped = check_videos(videos, config.window(), progress=progress, known=default_file())
    if progress:
        for video in skipped:
            warn(f"skipped {video.path}: {video.reason}")
    require_usable(usable, skipped, strict=config.strict)
    if test:
        check_lists(usable, test)  # now, not after hours of training
    return TrainingVideos(usable, skipped, test)


class PlannedData(LightningDataModule):
    """The batches of the steps that a module has still to do, read by --workers processes."""

    def __init__(
        self, config: TrainConfig, module: SelfSupervisedModule, dataset: VideoDataset, fingerprint: str
    ) -> None:
        super().__init__()
        self.config, self.module, self.dataset, self.fingerprint = config, module, dataset, fingerprint

    def train_dataloader(self) -> DataLoader | DALIBatches:
        rank, ranks = world()
        require_same_videos(gather_lists([self.fingerprint]))
        plan = BatchPlan(
            len(self.dataset),
            self.config.batch_size,
            self.module.total_steps,
            self.config.seed,
            rank,
            ranks,
            first_step=self.module.step,
            parts=self.config.accumulate,
        )
        gpu, dali = torch.cuda.is_available(), self.config.decoder == "dali"
        dataset = self.dataset.with_reader(EncodedReader(gpu)) if dali else self.dataset
        loader = DataLoader(
            dataset,
            batch_sampler=plan,
            num_workers=self.config.workers,
            collate_fn=list if dali else collate_videos,
            worker_init_fn=prepare_worker,
            pin_memory=gpu and not dali,
        )
        if not dali:
            return loader
        device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        batch = self.config.batch_size // ranks // self.config.accumulate
        return DALIBatches(loader, dataset, DALIDecoder(batch, self.config.workers, device))


def require_same_videos(found: list[str]) -> None:
    """UserError where the ranks' fingerprints of their videos differ: each would read a share of another plan."""
    if len(set(found)) > 1:
        told = "; ".join(f"process {rank}: {videos}" for rank, videos in enumerate(found))
        raise UserError(f"the processes do not find the same usable videos, and cannot share them: {told}")


def prepare_worker(worker: int) -> None:
    """One thread; and a signal that reaches the whole process group is the training process's to answer."""
    start_worker(worker)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def end_workers() -> None:
    """Kill what an exception left of the readers: they ignore SIGTERM, and Python would wait for them for ever."""
    children = multiprocessing.active_children()
    with deaths_unanswered():
        for child in children:
            child.kill()
        for child in children:
            child.join()


@contextlib.contextmanager
def deaths_unanswered() -> Iterator[None]:
    """A reader's death raises no error: DataLoader's handler would raise between one kill and the next."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only, and lets no other change them
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def random_windows(count: int, window: int):
    """A `sample` for `VideoDataset`: `count` windows of `window` frames at random starts, different where enough.

    Returns:
        `(frame_count, generator) -> int64 [count, window]`.
    """

    def sample(frame_count: int, generator: torch.Generator) -> torch.Tensor:
        possible = frame_count - window + 1
        starts = torch.randperm(possible, generator=generator)[:count]
        starts = starts.repeat(-(-count // len(starts)))[:count]
        return starts[:, None] + torch.arange(window)

    return sample
