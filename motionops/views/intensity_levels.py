"""Levels of colour jitter and blur (Controllable Augmentations, Section 3.2 and Table 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from motionops.views.appearance import Appearance
from motionops.views.host import on_the_cpu


@dataclass(frozen=True)
class IntensityLevels:
    """The ranges of brightness, contrast, saturation, hue and blur, each cut into equal levels.

    A combination of one level of each is an intensity level: clips of one level share their low-level statistics. The
    default has 4 · 4 · 4 · 2 · 4 = 512.

    Args:
        colour: levels of brightness, of contrast and of saturation.
        hue: levels of the hue.
        blur: levels of the blur's deviation.
        jitter: strengths of brightness, contrast, saturation and hue, as `Appearance.sample` takes them.
        blur_sigma: range of the blur in pixels of the view.

    Raises:
        ValueError: fewer than one level, a strength or range out of range.
    """

    colour: int = 4
    hue: int = 2
    blur: int = 4
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        for name in ("colour", "hue", "blur"):
            if getattr(self, name) < 1:
                raise ValueError(f"IntensityLevels: {name} must be at least 1, got {getattr(self, name)}")
        if len(self.jitter) != 4 or not all(0 <= strength <= 1 for strength in self.jitter) or self.jitter[3] > 0.5:
            raise ValueError(
                f"IntensityLevels: jitter must be 4 strengths in [0, 1], the hue's at most 0.5, got {self.jitter}"
            )
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(
                f"IntensityLevels: blur_sigma must be (low, high) with 0 < low <= high, got {self.blur_sigma}"
            )

    @property
    def radix(self) -> tuple[int, int, int, int, int]:
        """Levels of brightness, contrast, saturation, hue and blur."""
        return (self.colour, self.colour, self.colour, self.hue, self.blur)

    @property
    def count(self) -> int:
        """Levels in all."""
        return self.colour**3 * self.hue * self.blur

    def digits(self, levels: torch.Tensor) -> torch.Tensor:
        """Level numbers int64 `[N]` -> `[N, 5]`: the level of each parameter, brightness first."""
        digits = []
        for base in reversed(self.radix):
            digits.append(levels % base)
            levels = levels // base
        return torch.stack(digits[::-1], dim=-1)

    @on_the_cpu
    def appearance(self, levels: torch.Tensor, generator: torch.Generator | None = None) -> Appearance:
        """Draw an appearance of each level: parameters uniform within their level, in a random order; no grayscale.

        Args:
            levels: int64 `[N]`, 0 to `count` - 1, on the CPU.
            generator: on the CPU; without it torch's own.

        Raises:
            ValueError: a level out of range.
        """
        if levels.ndim != 1 or (len(levels) and not 0 <= int(levels.min()) <= int(levels.max()) < self.count):
            raise ValueError(f"IntensityLevels.appearance: levels must be [N] of 0 to {self.count - 1}, got {levels}")
        n = len(levels)
        draws = torch.rand(n, 9, generator=generator, dtype=torch.float32)
        share = (self.digits(levels) + draws[:, :5]) / torch.tensor(self.radix)
        strengths = torch.tensor(self.jitter, dtype=torch.float32)
        factors = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float32) + strengths * (2 * share[:, :4] - 1)
        low, high = self.blur_sigma
        return Appearance(
            jitter=factors,
            order=draws[:, 5:].argsort(dim=1),
            grayscale=torch.zeros(n, dtype=torch.bool),
            blur_sigma=low + (high - low) * share[:, 4],
        )
