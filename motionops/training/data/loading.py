"""From the flags to the batches of a run."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from motionops.commandline import say, warn
from motionops.errors import UserError
from motionops.flags import shared_by_all
from motionops.motion import MotionVectorWarning
from motionops.motion.vector_decoder import REENCODE, doubtful_files, forget_doubtful_files, warns_first
from motionops.ranks import gather_lists, world
from motionops.training.config import TrainConfig
from motionops.training.data.chosen_decoder import Rates, cannot_be_dali, gathered_choice, measured_rates
from motionops.training.data.dali_batches import DALIBatches, by_dali, check_reads_frames, for_dali
from motionops.training.data.ending import minding_no_lost_peers
from motionops.training.lightning import LightningDataModule
from motionops.training.method import Method
from motionops.video import VideoBatchSampler, VideoDataset, collate_videos
from motionops.video.dataset import start_worker
from motionops.video.readers.shared_memory import listed, shortage


class PlannedData(LightningDataModule):
    """The batches of the steps that a module has still to do, read by --workers processes."""

    def __init__(self, config: TrainConfig, module: Method, dataset: VideoDataset, fingerprint: str) -> None:
        super().__init__()
        if config.decoder == "dali":
            check_reads_frames(dataset)
        self.config, self.module, self.dataset, self.fingerprint = config, module, dataset, fingerprint
        self.shared = shared_by_all(config)

    def train_dataloader(self) -> DataLoader | DALIBatches:
        rank, _ = world()
        require_alike(gather_lists([{**self.shared, "videos": self.fingerprint, "steps done": self.module.step}]))
        gpu, decoder = torch.cuda.is_available(), self._decoder()
        dataset = for_dali(self.dataset) if decoder == "dali" else self.dataset
        if rank == 0 and self.config.workers:
            machines = 1 if self.trainer is None else self.trainer.num_nodes
            videos = self.config.batch_size // (machines * self.config.accumulate)
            if line := shortage(dataset.item_bytes() * videos, self.config.workers):
                warn(line)
        loader = DataLoader(
            dataset,
            batch_sampler=self._plan(),
            num_workers=self.config.workers,
            collate_fn=listed if decoder == "dali" else collate_videos,
            worker_init_fn=prepare_worker,
            timeout=60 * self.config.read_minutes if self.config.workers else 0,
            pin_memory=gpu and decoder != "dali",
        )
        return self._by_dali(loader, dataset) if decoder == "dali" else loader

    def _plan(self) -> VideoBatchSampler:
        """What this process reads in all steps that are left."""
        rank, ranks = world()
        return VideoBatchSampler(
            self.dataset,
            self.config.batch_size,
            seed=self.config.seed,
            steps=self.module.total_steps,
            first_step=self.module.step,
            rank=rank,
            world=ranks,
            parts=self.config.accumulate,
        )

    def _by_dali(self, loader: Iterable, dataset: VideoDataset) -> DALIBatches:
        return by_dali(
            loader, dataset, self.config.batch_size // world()[1] // self.config.accumulate, self.config.workers
        )

    def _decoder(self) -> str:
        """What --decoder says, or what is faster on the first batches."""
        if self.config.decoder != "auto":
            return self.config.decoder
        refused = cannot_be_dali(self.dataset)
        if refused:
            rates = Rates(0.0, 0.0, refused)
        else:
            dali = self._by_dali((), for_dali(self.dataset))
            batches = [*itertools.islice(self._plan(), 2)]
            rates = measured_rates(self.dataset, batches, self.config.workers, dali)
            dali.decoder.close()
        chosen, line = gathered_choice(rates)
        if world()[0] == 0:
            say(line)
        return chosen


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


@contextlib.contextmanager
def hanging_reads_named(minutes: float) -> Iterator[None]:
    """UserError where a loader's time for a batch is over."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader timed out"):
            raise
        raise UserError(
            f"--read-minutes: no batch was read within {minutes:g} minutes: a disk hangs; or reading takes longer, and "
            "the flag allows it"
        ) from error


def prepare_worker(worker: int) -> None:
    """One thread; and a signal that reaches the whole process group is the training process's to answer."""
    start_worker(worker)
    warnings.showwarning = in_one_line
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = minding_no_lost_peers(sys.excepthook)


def warn_in_lines() -> None:
    """Of what a run warns from now on."""
    warnings.showwarning = in_one_line
    forget_doubtful_files()


def in_one_line(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """A warning without lines of source; of doubtful motion vectors that of the first file: the end counts them."""
    if not issubclass(category, MotionVectorWarning):
        warn(str(message))
    elif warns_first():
        warn(f"{message} (the first such file; how many there were is said at the end)")


def say_if_doubtful() -> None:
    """A line on how many files' motion vectors may be wrong, if any."""
    if doubtful := doubtful_files():
        why = "B-frames, several references"
        warn(f"motion vectors of {doubtful} files may be wrong ({why}); {REENCODE} mends them")
