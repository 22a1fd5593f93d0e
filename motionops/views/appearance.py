"""How a clip looks: colour jitter, grayscale, blur; one draw a clip, the same for all of its frames."""

from __future__ import annotations

from typing import NamedTuple

import torch

from motionops.arrays import to_device

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)


class Appearance(NamedTuple):
    """The appearance of B clips; :func:`motionops.augment_clips` applies it.

    * ``jitter`` ``[B, 4]``: factors of brightness, contrast, saturation (>= 0, 1 changes nothing) and the shift of the
      hue in turns (-0.5..0.5, 0 changes nothing), each as torchvision's ``adjust_*`` takes it;
    * ``order`` ``[B, 4]`` int64: the order in which they are applied, a permutation of 0 brightness, 1 contrast,
      2 saturation, 3 hue;
    * ``grayscale`` ``[B]`` bool;
    * ``blur_sigma`` ``[B]``: deviation of the Gaussian blur in pixels of the view, 0 means none.
    """

    jitter: torch.Tensor
    order: torch.Tensor
    grayscale: torch.Tensor
    blur_sigma: torch.Tensor

    @classmethod
    def sample(
        cls,
        batch: int,
        *,
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
        jitter_probability: float = 0.2,
        grayscale_probability: float = 0.2,
        blur_probability: float = 0.2,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Appearance:
        """Draw appearances; the defaults are FIMA's (Zhu et al. 2023, implementation details).

        Args:
            batch: B.
            jitter: strengths s of brightness, contrast, saturation, hue: factors are uniform in
                [max(0, 1 - s), 1 + s], the hue's shift in [-s, s], the order is a random permutation.
            jitter_probability, grayscale_probability, blur_probability: of each, drawn for each clip by itself.
            blur_sigma: range of the blur, uniform.
            generator: on the CPU; without it torch's own.
            device: where the result is put. The draws are the same for every device.

        Raises:
            ValueError: a probability, strength or range out of range.
        """
        strengths = torch.as_tensor(jitter, dtype=torch.float32)
        if strengths.shape != (4,) or not bool((strengths >= 0).all()) or not float(strengths[HUE]) <= 0.5:
            raise ValueError(f"Appearance.sample: jitter must be 4 strengths >= 0, the hue's <= 0.5, got {jitter}")
        probabilities = (jitter_probability, grayscale_probability, blur_probability)
        for name, value in zip(("jitter", "grayscale", "blur"), probabilities, strict=True):
            if not 0 <= value <= 1:
                raise ValueError(f"Appearance.sample: {name}_probability must be in [0, 1], got {value}")
        low, high = blur_sigma
        if not 0 < low <= high:
            raise ValueError(
                f"Appearance.sample: blur_sigma must be (low, high) with 0 < low <= high, got {blur_sigma}"
            )
        if batch < 0:
            raise ValueError(f"Appearance.sample: batch must be >= 0, got {batch}")

        # One block of numbers a clip, so that clip i's draw does not depend on the batch size after it.
        draws = torch.rand(batch, 12, generator=generator)
        neutral = torch.tensor(NEUTRAL)
        least = torch.maximum(neutral - strengths, torch.tensor([0.0, 0.0, 0.0, -1.0]))
        factors = least + (neutral + strengths - least) * draws[:, :4]
        sigma = low + (high - low) * draws[:, 8]
        used = draws[:, 9:] < torch.tensor(probabilities)
        appearance = cls(
            jitter=torch.where(used[:, :1], factors, neutral),
            order=draws[:, 4:8].argsort(dim=1),
            grayscale=used[:, 1],
            blur_sigma=torch.where(used[:, 2], sigma, torch.zeros(())),
        )
        return appearance if device is None else cls(*(to_device(field, torch.device(device)) for field in appearance))

    @classmethod
    def neutral(cls, batch: int, device: torch.device | str | None = None) -> Appearance:
        """Appearances that change nothing."""
        return cls(
            jitter=torch.tensor(NEUTRAL, device=device).repeat(batch, 1),
            order=torch.arange(4, device=device).repeat(batch, 1),
            grayscale=torch.zeros(batch, dtype=torch.bool, device=device),
            blur_sigma=torch.zeros(batch, device=device),
        )
