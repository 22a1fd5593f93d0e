"""Groups of flags that several methods have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from motionops.commandline import existing_file
from motionops.errors import UserError
from motionops.flags import POSITIVE, AtLeast, Within
from motionops.training.config import TrainConfig
from motionops.views import Appearance


@dataclass(frozen=True)
class Contrast(TrainConfig):
    """A contrastive loss of projected features."""

    temperature: Annotated[float, POSITIVE] = 0.1
    """Temperature of the contrastive losses."""
    dim: Annotated[int, AtLeast(1)] = 128
    """Size of the embeddings."""
    hidden: Annotated[int, AtLeast(1)] = 256
    """Hidden channels of the projection heads."""
    init: Path | None = None
    """Weights to start from: of the backbone itself, or of a network over images (MoCo's ResNet-50, GoogLeNet), whose
    colours are then normalised by --mean 0.485 0.456 0.406 and --std 0.229 0.224 0.225."""

    def check(self) -> None:
        super().check()
        if self.init is not None:
            existing_file(self.init, "--init")


@dataclass(frozen=True)
class Groups(TrainConfig):
    """BatchNorm as on the GPUs of a paper."""

    group: Annotated[int, AtLeast(0)] = 0
    """Samples that share BatchNorm statistics, as the clips of a GPU do in the papers; 0: all of a process."""

    def check(self) -> None:
        super().check()
        if self.group == 1:
            raise UserError("--group: one sample has no BatchNorm statistics; 0 or at least 2")


@dataclass(frozen=True)
class Momentum(Groups):
    """Keys of a momentum encoder, and a queue of former ones."""

    momentum: Annotated[float, Within(0, 1)] = 0.99
    """Momentum of the key encoder."""
    queue: int = 512
    """Negatives in a queue."""

    def require_negatives(self, keys: int, what: str) -> None:
        """UserError where the queue does not hold the `keys` of a step; `what` says which they are."""
        if self.queue < keys:
            raise UserError(f"--queue: {self.queue} negatives are fewer than {what}")


@dataclass(frozen=True)
class Look(TrainConfig):
    """How often a clip's colours are changed."""

    grayscale: Annotated[float, Within(0, 1)] = 0.2
    """Probability of a grey clip."""
    jitter: Annotated[float, Within(0, 1)] = 0.8
    """Probability of colour jitter."""
    blur: Annotated[float, Within(0, 1)] = 0.5
    """Probability of a blurred clip."""

    def look(self, count: int, generator: torch.Generator, **changed) -> Appearance:
        """Draw how `count` clips look; what is `changed` are other arguments of `Appearance.sample`."""
        return Appearance.sample(
            count,
            jitter_probability=self.jitter,
            grayscale_probability=self.grayscale,
            blur_probability=self.blur,
            generator=generator,
            **changed,
        )
