"""What a supervised training on top of a backbone needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from motionops.errors import UserError
from motionops.flags import POSITIVE, AtLeast, Below, Within
from motionops.training.shared_flags import Look


@dataclass(frozen=True)
class FinetuneConfig(Look):
    """A classifier on a backbone, trained end to end or, with the backbone frozen, alone.

    The fields that are inherited mean what they mean for the methods; ``backbone`` is what ``--backbone`` names.
    """

    backbone: str = "random"
    epochs: Annotated[int, AtLeast(1)] = 30
    batch_size: Annotated[int, AtLeast(2)] = 16
    learning_rate: Annotated[float, POSITIVE] = 5e-4

    freeze: bool = False
    """Whether the backbone keeps its weights, and BatchNorm its running statistics; only the classifier learns."""
    dropout: Annotated[float, Below(0, 1)] = 0.5
    """Before the classifier."""
    warmup_start: float = 0.0
    """Rate of the first step of the warm-up, which rises linearly from here."""
    jitter: Annotated[float, Within(0, 1)] = 0.2
    """Probability of colour jitter."""
    blur: Annotated[float, Within(0, 1)] = 0.0
    """Probability of a blurred clip."""
    mirror: Annotated[float, Within(0, 1)] = 0.5
    """Probability of a mirrored clip; 0 where classes differ in left and right."""
    short: str = "skip"
    """What becomes of a video that is shorter than a clip: skip, or hold its last frame."""
    crops: Annotated[int, AtLeast(1)] = 1
    """Squares of each test clip."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the classifier's outputs."""
    weights: str = ""
    """Fingerprint of the weights that the training starts from: a run of others is not continued."""

    def window(self) -> int:
        """Frames that a video must have."""
        return 1 if self.short == "hold" else (self.frames - 1) * self.stride + 1

    def check(self) -> None:
        super().check()
        if not 0 <= self.warmup_start <= self.learning_rate:
            raise UserError(f"--warmup-start: must be in [0, {self.learning_rate}], got {self.warmup_start}")
