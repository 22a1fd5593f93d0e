"""Which clips of a video a frozen network sees, and how they are cut: said once, kept with the network's file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from motionops.views.clip_settings import KEPT
from motionops.views.colour import KINETICS_MEAN, KINETICS_STD
from motionops.views.even_clips import CENTRE_CROP

if TYPE_CHECKING:  # its module needs torchvision, which features of any network do without
    from motionops.training.config import TrainConfig

SHORT = ("skip", "hold")
SAMPLING = ("clips", "segments")


@dataclass(frozen=True)
class ClipRecipe:
    """Evenly spread clips, square crops, normalised colours.

    Attributes:
        clips, crops: clips a video; squares a clip, the centre or several spread along the long side.
        frames, stride: frames a clip, and source frames from one to the next.
        size: side of a clip in pixels.
        crop: side of the square as a part of the frame's short side.
        mean, std: of the colour channels, in 0..1.
        still: repeat the middle frame of each clip.
        short: what becomes of a video that is shorter than a clip: "skip", or "hold" its last frame.
        sampling: "clips" of frames with a stride, or one frame of each of as many "segments" of the whole video.
    """

    clips: int = 10
    crops: int = 1
    frames: int = 16
    stride: int = 2
    size: int = 112
    crop: float = CENTRE_CROP
    mean: tuple[float, float, float] = KINETICS_MEAN
    std: tuple[float, float, float] = KINETICS_STD
    still: bool = False
    short: str = "skip"
    sampling: str = "clips"

    @classmethod
    def of_run(cls, config: TrainConfig, **changed: Any) -> ClipRecipe:
        """How a run's backbone is tested, where its flags say nothing else."""
        own = {name: getattr(config, name) for name in ("frames", "stride", "size", "mean", "std")}
        return cls(clips=config.evaluation_clips, crop=config.evaluation_crop, **{**own, **changed})

    @property
    def span(self) -> int:
        """Source frames that a clip needs, from its first to its last."""
        return 1 if self.sampling == "segments" else (self.frames - 1) * self.stride + 1

    def settings(self, *names: str) -> dict[str, Any]:
        """The fields by name, all or those that are named: arguments of ``extract_features``."""
        fields = asdict(self)
        return {name: fields[name] for name in names or fields}

    def header(self) -> dict[str, str]:
        """What the file of a backbone says of the clips that it was made for (`save_backbone`)."""
        return {name: json.dumps(value) for name, value in self.settings(*KEPT).items()}

    def check(self, caller: str) -> None:
        """ValueError for a setting out of range."""
        for name in ("clips", "frames", "stride", "size", "crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{caller}: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"{caller}: crop must be in (0, 1], got {self.crop}")
        if self.short not in SHORT:
            raise ValueError(f"{caller}: short must be one of {', '.join(SHORT)}, got {self.short!r}")
        if self.sampling not in SAMPLING:
            raise ValueError(f"{caller}: sampling must be one of {', '.join(SAMPLING)}, got {self.sampling!r}")
        if self.sampling == "segments" and self.clips > 1:
            raise ValueError(f"{caller}: clips must be 1 with sampling segments: all would be one, got {self.clips}")
