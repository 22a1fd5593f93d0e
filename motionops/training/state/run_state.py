"""Where a run is: what its methods know of it, and what last.ckpt says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import motionops
from motionops.commandline import warn
from motionops.errors import UserError
from motionops.ranks import gather_lists
from motionops.training.config import TrainConfig
from motionops.training.lightning import LightningModule
from motionops.video import Skipped
from motionops.video.checking import once_each


class RunState(LightningModule):
    """What is trained, and how far.

    Attributes:
        step: steps done.
        part: which of the step's --accumulate parts is computed, from 0.
        steps_per_epoch, total_steps: set by `train` before the run.
        metrics: what was logged last.
        failed: videos that could not be read while training (another one took their place); of all ranks once
            last.ckpt is written, and of the run's earlier parts.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.step = self.part = 0
        self.steps_per_epoch = self.total_steps = 1
        self.metrics: dict[str, float] = {}
        self.failed: list[Skipped] = []
        self._optimizer_state: dict[str, Any] | None = None
        self._resume_note: dict[str, Any] = {}
        self._outputs: list[dict[str, Tensor]] = []

    @property
    def backbone(self) -> nn.Module:
        """What is kept: the method's submodule of this name, or that of its `path`."""
        own = self._modules.get("backbone")
        return self.path.backbone if own is None else own

    @property
    def epoch(self) -> int:
        """Epoch of the next step."""
        return self.step // self.steps_per_epoch

    @property
    def starts_step(self) -> bool:
        """Whether the step's first part is computed: what moves once a step, as a momentum encoder, moves then."""
        return self.part == 0

    @property
    def between_steps(self) -> bool:
        """Whether all parts of the last step are done: only then can the run be saved."""
        return not self._outputs

    def note_failed(self, videos: Sequence[Skipped]) -> None:
        """Say which videos could not be read, each once. UserError with --strict."""
        for video in videos:
            if self.config.strict:
                raise UserError(f"--strict: {video}")
            if all(video.path != other.path for other in self.failed):
                self.failed.append(video)
                warn(f"skipped {video}")

    def made_by(self) -> dict[str, str]:
        """What the file of a network says of its training: method, steps, version of this library."""
        return {"method": type(self).__name__, "steps": str(self.step), "motionops": motionops.__version__}

    def note_for_resume(self, note: dict[str, Any]) -> None:
        """What last.ckpt shall hold beside networks, queues and optimiser: config, fingerprint of the videos."""
        self._resume_note = note

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.failed = once_each(gather_lists(self.failed))  # called on all ranks, written by the first
        checkpoint["motionops"] = {
            **self._resume_note,
            "method": type(self).__module__,
            "backbone": next(name for name, module in self.named_modules() if module is self.backbone),
            "step": self.step,
            "metrics": self.metrics,
            "failed": [list(video) for video in self.failed],
            # Not needed to resume (each step seeds the generators), but costs nothing to keep.
            "rng": torch.get_rng_state(),
        }

    def continue_with(self, optimizer: torch.optim.Optimizer) -> None:
        """Give an optimiser the state that a checkpoint had of it, if there was one."""
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None

    def resume_from(self, checkpoint: dict[str, Any]) -> None:
        """Take networks, queues, optimiser and position from a checkpoint of the same configuration."""
        self.load_state_dict(checkpoint["state_dict"])
        self._optimizer_state = checkpoint["optimizer_states"][0]
        note = checkpoint["motionops"]
        self.step = note["step"]
        self.metrics = note.get("metrics", {})
        self.failed = [Skipped(*video) for video in note.get("failed", [])]
