"""What a supervised training on top of a backbone needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from motionops.errors import UserError
from motionops.flags import NOT_NEGATIVE, POSITIVE, AtLeast, Below, Within
from motionops.training.shared_flags import Look

MAGNITUDES = 31  # steps of RandAugment's scale, as in torchvision


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
    pooling: Literal["mean", "attentive"] = "mean"
    """How a map becomes the classifier's feature: its mean, or by a learnt query (an attentive probe)."""
    normalise: bool = False
    """Whether the classifier sees features of unit length."""
    nesterov: bool = False
    """Nesterov's momentum, of --optimizer sgd."""
    rand_augment: tuple[int, int] = (0, 0)
    """Operations of RandAugment on each training clip, and their magnitude in 0..30; 0 0: none."""
    warmup_start: float = 0.0
    """Rate of the first step of the warm-up, which rises linearly from here."""
    jitter: Annotated[float, Within(0, 1)] = 0.2
    """Probability of colour jitter."""
    blur: Annotated[float, Within(0, 1)] = 0.0
    """Probability of a blurred clip."""
    mirror: Annotated[float, Within(0, 1)] = 0.5
    """Probability of a mirrored clip; 0 where classes differ in left and right."""
    sampling: str = "clips"
    """Frames with the stride, or one of each of as many segments of the whole video."""
    crops: Annotated[int, AtLeast(1)] = 1
    """Squares of each test clip."""
    test_size: Annotated[int, AtLeast(0)] = 0
    """Side of a test clip in pixels; 0: that of training."""
    regularise_motion: Annotated[float, NOT_NEGATIVE] = 0.0
    """Weight of motion prediction beside the classifier's loss; 0: none."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the classifier's outputs."""
    weights: str = ""
    """Fingerprint of the weights that the training starts from: a run of others is not continued."""

    def window(self) -> int:
        """Frames that a video must have."""
        return 1 if self.sampling == "segments" else (self.frames - 1) * self.stride + 1

    def check(self) -> None:
        super().check()
        if not 0 <= self.warmup_start <= self.learning_rate:
            raise UserError(f"--warmup-start: must be in [0, {self.learning_rate}], got {self.warmup_start}")
        if self.warmup_start and not self.warmup_epochs:
            raise UserError("--warmup-start: there is no warm-up; --warmup-epochs gives it a length")
        if self.nesterov and self.optimizer != "sgd":
            raise UserError(f"--nesterov: is of --optimizer sgd, not of {self.optimizer}")
        operations, magnitude = self.rand_augment
        if operations < 0 or not 0 <= magnitude < MAGNITUDES or (magnitude and not operations):
            raise UserError(
                f"--rand-augment: must be operations from 1 on and a magnitude in [0, {MAGNITUDES - 1}], or 0 0, got "
                f"{operations} {magnitude}"
            )
