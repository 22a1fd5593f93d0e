"""From the flags to the batches of a run."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from motionops.errors import UserError
from motionops.flags import shared_by_all
from motionops.ranks import gather_lists, world
from motionops.training.config import TrainConfig
from motionops.training.data.dali_batches import DALIBatches
from motionops.training.data.plan import BatchPlan
from motionops.training.lightning import LightningDataModule
from motionops.training.method import Method
from motionops.video import (
    VideoDataset,
    collate_videos,
)
from motionops.video.dali import DALIDecoder, EncodedReader
from motionops.video.dataset import start_worker


class PlannedData(LightningDataModule):
    """The batches of the steps that a module has still to do, read by --workers processes."""

    def __init__(self, config: TrainConfig, module: Method, dataset: VideoDataset, fingerprint: str) -> None:
        super().__init__()
        self.config, self.module, self.dataset, self.fingerprint = config, module, dataset, fingerprint
        self.shared = shared_by_all(config)

    def train_dataloader(self) -> DataLoader | DALIBatches:
        rank, ranks = world()
        require_alike(gather_lists([{**self.shared, "videos": self.fingerprint, "steps done": self.module.step}]))
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


def require_alike(processes: list[dict[str, Any]]) -> None:
    """UserError where the processes of a run differ in what all must share: each would train another network.

    Args:
        processes: of each rank, name -> value: flags, videos, steps that are done.
    """
    for name in dict.fromkeys(name for told in processes for name in told):
        values = [told.get(name) for told in processes]
        if any(value != values[0] for value in values):
            told = "; ".join(f"process {rank}: {value}" for rank, value in enumerate(values))
            raise UserError(f"the processes of this run differ in {name}, and cannot train one network: {told}")


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
