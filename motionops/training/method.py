"""What all methods share: the envelope of a step, optimiser, schedule, seeds, metrics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from motionops.models.pathway import Pathway
from motionops.models.shuffled_batch_norm import Shuffle, draw_shuffle
from motionops.ranks import sum_over_ranks, world
from motionops.seeds import mix
from motionops.training.config import TrainConfig
from motionops.training.data.videos import TrainingVideos
from motionops.training.lightning import Callback
from motionops.training.schedule import cosine_factor, milestone_factor
from motionops.training.state.run_state import RunState
from motionops.training.watch.gradient_watch import GradientWatch, require_finite_loss
from motionops.training.watch.waiting import Waiting
from motionops.video import Batch

__all__ = ["Batch", "Method", "Pathway", "Shuffle", "Step"]  # the words of a method


class Step(NamedTuple):
    """What a method's `losses` returns.

    Attributes:
        losses: name -> loss, weighted by `weights` and added.
        shown: further scalars for metrics.csv.
        enqueue: (queue's name as a submodule, rows, their ids or None), in the order in which they enter.
    """

    losses: dict[str, Tensor]
    shown: dict[str, Tensor]
    enqueue: Sequence[tuple[str, Tensor, Tensor | None]] = ()


class Method(RunState):
    """Base of a method. A subclass builds its networks, among them `backbone`, which is what a run keeps, and writes:

    * `prepare(batch) -> tuple`: from a batch to the arguments of `losses`: clips are cut, and what the host draws or
      decides becomes tensors. Autocast is off in it: pixels and motion stay float32 under --precision bf16-mixed.
    * `losses(*prepared) -> Step`: what the device computes; --compile makes one graph of it. It changes nothing.
    * `weight(name) -> float` of a loss; by default the flag --weight-<name>, or 1 where there is none.

    Momentum copies of every `Pathway` move at the start of a step, queues at its end.

    A step's scalars go into metrics.csv and TensorBoard, averaged over ranks. Everything random in a step must come
    from torch's global generators, which are seeded from (seed, step, rank) before each step, or from
    `shared_generator`, which is the same on all ranks: then neither a resumption nor the number of workers changes
    anything.

    Attributes:
        clips_per_step: clips that count in clips/s; two views a video.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.clips_per_step = 2 * config.batch_size
        self._enqueued: list[tuple[str, Tensor, Tensor | None]] = []  # by the step's parts so far
        self._last_time = (0.0, 0)
        self._waiting = Waiting()
        self._gradients = GradientWatch()

    @classmethod
    def for_videos(cls, config: TrainConfig, videos: TrainingVideos) -> Method:
        """The method that a run on these videos trains."""
        return cls(config)

    def shared_generator(self, *key: int) -> torch.Generator:
        """A CPU generator that depends on (seed, step, part, key) alone: in the same state on all ranks."""
        part = (self.part,) if self.part else ()
        return torch.Generator().manual_seed(mix(self.config.seed, self.step, 1, *key, *part))

    def one_graph(self) -> bool:
        """Whether --compile can make one graph of `losses`; else it makes one of each backbone."""
        return True

    def not_compiled(self) -> set[str]:
        """Backbones, by their names as submodules, that --compile must leave as they are."""
        return set()

    def prepare(self, batch: Batch) -> tuple:
        """The arguments of `losses`, from a batch."""
        raise NotImplementedError

    def losses(self, *prepared: Any) -> Step:
        """The losses of a step."""
        raise NotImplementedError

    def weight(self, name: str) -> float:
        """What a loss is multiplied by."""
        return getattr(self.config, f"weight_{name}", 1.0)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        if self.starts_step:
            for pathway in self.children():
                if isinstance(pathway, Pathway):
                    pathway.move()
        with torch.autocast(self.device.type, enabled=False):
            prepared = self.prepare(batch)
        losses, shown, enqueue = self.losses(*prepared)
        self._enqueued += enqueue
        total = sum(self.weight(name) * loss for name, loss in losses.items())
        return {"loss": total, **{f"loss_{name}": loss.detach() for name, loss in losses.items()}, **shown}

    def fill_queues(self) -> None:
        """Write what the step's parts said into the queues: now, as the backward pass needed them as the losses did."""
        for name, rows, ids in self._enqueued:
            self.get_submodule(name).enqueue(rows, ids)
        self._enqueued.clear()

    def draw_shuffle(self, clip: Tensor, *key: int) -> Shuffle | None:
        """Draw the shuffled BatchNorm of a key's clip `[B, ...]`: the permutation is a function of step and key."""
        return draw_shuffle(len(clip), self.shared_generator(*key), self.config.group, clip.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        rate, decay = self.config.learning_rate, self.config.weight_decay
        if self.config.optimizer == "sgd":
            optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)
        else:
            kind = torch.optim.Adam if self.config.optimizer == "adam" else torch.optim.AdamW
            optimizer = kind(parameters, lr=rate, weight_decay=decay)
        self.continue_with(optimizer)
        return optimizer

    def learning_rate(self) -> float:
        """The rate of the step that comes."""
        config = self.config
        if config.milestones:
            factor = milestone_factor(self.step, self.steps_per_epoch, config.milestones, config.warmup_epochs)
            return config.learning_rate * factor
        factor = cosine_factor(
            self.step, self.steps_per_epoch, config.epochs, config.warmup_epochs, config.schedule == "step"
        )
        return config.learning_rate * factor

    def on_train_start(self) -> None:
        self._last_time = (time.perf_counter(), self.step)
        self._waiting.batch_ends()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._waiting.batch_ends()  # after what the callbacks do

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._waiting.batch_starts()
        self.note_failed(batch.failed)
        self.part = batch_idx % self.config.accumulate
        part = (self.part,) if self.part else ()
        torch.manual_seed(mix(self.config.seed, self.step, 2, world()[0], *part))
        for group in self.optimizers().param_groups:
            group["lr"] = self.learning_rate()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self._gradients.note(self.step + 1, self.named_parameters(), at_once=self.device.type == "cpu")

    def finish_part(self, outputs: dict[str, Tensor]) -> None:
        """Called when a part of a step is done, with what `training_step` returned (Lightning has divided the loss by
        the number of parts); the last part's call ends the step."""
        self._outputs.append({name: value.detach() for name, value in outputs.items() if isinstance(value, Tensor)})
        if len(self._outputs) == self.config.accumulate:
            done, self._outputs = self._outputs, []
            names = dict.fromkeys(name for part in done for name in part)
            values = {name: torch.stack([part[name] for part in done if name in part]) for name in names}
            self.finish_step(
                {name: value.sum() if name == "loss" else value.float().mean() for name, value in values.items()}
            )

    def finish_step(self, outputs: dict[str, Tensor]) -> None:
        """Called when a step's update is done, before anything is saved."""
        self.fill_queues()
        rate = self.learning_rate()
        self.step += 1
        if self.step % self.config.log_every == 0 or self.step == self.total_steps:
            self._log(outputs, rate)

    def require_finite(self, loss: Tensor) -> None:
        """UserError where a rank's loss, or a gradient of the steps since the last call, is NaN or infinite: the
        networks are then lost, and no later step mends them.

        Waits for the device, and for the other ranks: all of them must call.
        """
        self._gradients.require_finite()
        require_finite_loss(self.step, loss)

    def _log(self, outputs: dict[str, Tensor], rate: float) -> None:
        values = sum_over_ranks(torch.stack([value.float() for value in outputs.values()])) / world()[1]
        values = values.tolist()
        now, (before, step) = time.perf_counter(), self._last_time
        self._last_time = (now, self.step)
        self.metrics = {
            "epoch": (self.step - 1) // self.steps_per_epoch,
            **dict(zip(outputs, values, strict=True)),
            "learning_rate": rate,
            "clips_per_second": round(self.clips_per_step * (self.step - step) / max(now - before, 1e-9), 2),
            "waiting": self._waiting.share(now - before, self.step - step, self.config.workers),
        }
        for logger in self.trainer.loggers:
            logger.log_metrics(self.metrics, step=self.step)
        self.require_finite(outputs["loss"])

    def report(self, folder: Path, batch: Batch) -> None:
        """Draw the method's own pictures into `folder`, of one batch as `training_step` gets it; none by default."""


class FinishStep(Callback):
    """Counts the step before the other callbacks run (Lightning calls a module's own hook after theirs)."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        module.finish_part(outputs)
