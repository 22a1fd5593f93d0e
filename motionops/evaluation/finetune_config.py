"""What a supervised training on top of a backbone needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from motionops.errors import UserError
from motionops.learning.config import TrainConfig
from motionops.learning.training import flag


@dataclass
class FinetuneConfig(TrainConfig):
    """A classifier on a backbone, trained end to end or, with the backbone frozen, alone.

    The fields that are inherited mean what they mean for the five methods; ``backbone`` is what ``--backbone`` names.
    """

    backbone: str = "random"
    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 5e-4

    freeze: bool = False
    """Whether the backbone keeps its weights, and BatchNorm its running statistics; only the classifier learns."""
    dropout: float = 0.5
    """Before the classifier."""
    warmup_start: float = 0.0
    """Rate of the first step of the warm-up, which rises linearly from here."""
    grayscale: float = 0.2
    """Probability of a grey clip."""
    jitter: float = 0.2
    """Probability of colour jitter."""
    blur: float = 0.0
    """Probability of a blurred clip."""
    mirror: float = 0.5
    """Probability of a mirrored clip; 0 where classes differ in left and right."""
    short: str = "skip"
    """What becomes of a video that is shorter than a clip: skip, or hold its last frame."""
    crops: int = 1
    """Squares of each test clip."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the classifier's outputs."""
    weights: str = ""
    """Fingerprint of the weights that the training starts from: a run of others is not continued."""

    def window(self) -> int:
        """Frames that a video must have."""
        return 1 if self.short == "hold" else (self.frames - 1) * self.stride + 1


def check_finetuning(config: FinetuneConfig) -> None:
    """UserError for a number that is out of range, beside those that all trainings share."""
    for name in ("grayscale", "jitter", "blur", "mirror"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{flag(name)}: must be in [0, 1], got {getattr(config, name)}")
    if not 0 <= config.dropout < 1:
        raise UserError(f"--dropout: must be in [0, 1), got {config.dropout}")
    if not 0 <= config.warmup_start <= config.learning_rate:
        raise UserError(f"--warmup-start: must be in [0, {config.learning_rate}], got {config.warmup_start}")
    if config.crops < 1:
        raise UserError(f"--crops: must be at least 1, got {config.crops}")
