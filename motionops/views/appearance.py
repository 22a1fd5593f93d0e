"""How a clip looks: colour jitter, grayscale, blur; one draw a clip, the same for all of its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from motionops.arrays import to_device
from motionops.scalars import check_scalars
from motionops.views.host import on_the_cpu

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Appearance:
    """The appearance of B clips; :func:`motionops.augment_clips` applies it.

    * ``jitter`` ``[B, 4]``: factors of brightness, contrast, saturation (>= 0, 1 changes nothing) and the shift of the
      hue in turns (-0.5..0.5, 0 changes nothing), each as torchvision's ``adjust_*`` takes it;
    * ``order`` ``[B, 4]`` int64: the order in which they are applied, a permutation of 0 brightness, 1 contrast,
      2 saturation, 3 hue;
    * ``grayscale`` ``[B]`` bool;
    * ``blur_sigma`` ``[B]``: deviation of the Gaussian blur in pixels of the view, 0 means none.

    It is indexed and counted by clip, as a tensor is: ``looks[2]`` is the appearance of one clip, ``looks[:4]`` that of
    four, ``looks[:, 0]``, of fields ``[B, V, ...]``, that of every video's first view.
    """

    jitter: Tensor
    order: Tensor
    grayscale: Tensor
    blur_sigma: Tensor

    def __len__(self) -> int:
        return len(self.grayscale)

    def __getitem__(self, index: Any) -> Appearance:
        return self.map(lambda field: field[index])

    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four tensors, in the order above."""
        return self.jitter, self.order, self.grayscale, self.blur_sigma

    def map(self, function: Callable[[Tensor], Tensor]) -> Appearance:
        """``function`` of every field."""
        return Appearance(*map(function, self.fields()))

    def to(self, device: torch.device | str | int) -> Appearance:
        """The same on a device. On the way to a GPU the host does not wait for what that is at."""
        device = torch.device(device)
        return self.map(lambda field: to_device(field, device) if field.is_cpu else field.to(device))

    def pin_memory(self) -> Appearance:
        """The same in pinned memory: what a DataLoader asks for."""
        return self.map(Tensor.pin_memory)

    @classmethod
    @on_the_cpu
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
            TypeError: an argument that is no number, or no whole one.
            ValueError: a probability, strength or range out of range.
        """
        op = "Appearance.sample"
        probabilities = {
            "jitter_probability": jitter_probability,
            "grayscale_probability": grayscale_probability,
            "blur_probability": blur_probability,
        }
        low, high = blur_sigma
        check_scalars(op, real={**probabilities, "blur_sigma[0]": low, "blur_sigma[1]": high}, whole={"batch": batch})
        probabilities = {name: float(value) for name, value in probabilities.items()}
        batch, low, high = int(batch), float(low), float(high)
        strengths = torch.as_tensor(jitter, dtype=torch.float32)
        if strengths.shape != (4,) or not bool((strengths >= 0).all()) or not float(strengths[HUE]) <= 0.5:
            raise ValueError(f"{op}: jitter must be 4 strengths >= 0, the hue's <= 0.5, got {jitter}")
        for name, value in probabilities.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{op}: {name} must be in [0, 1], got {value}")
        if not 0 < low <= high:
            raise ValueError(f"{op}: blur_sigma must be (low, high) with 0 < low <= high, got {blur_sigma}")
        if batch < 0:
            raise ValueError(f"{op}: batch must be >= 0, got {batch}")

        # One block of numbers a clip, so that clip i's draw does not depend on the batch size after it.
        draws = torch.rand(batch, 12, generator=generator, dtype=torch.float32)
        neutral = torch.tensor(NEUTRAL, dtype=torch.float32)
        least = torch.maximum(neutral - strengths, torch.tensor([0.0, 0.0, 0.0, -1.0], dtype=torch.float32))
        factors = least + (neutral + strengths - least) * draws[:, :4]
        sigma = low + (high - low) * draws[:, 8]
        used = draws[:, 9:] < torch.tensor([*probabilities.values()], dtype=torch.float32)
        appearance = cls(
            jitter=torch.where(used[:, :1], factors, neutral),
            order=draws[:, 4:8].argsort(dim=1),
            grayscale=used[:, 1],
            blur_sigma=sigma.masked_fill(~used[:, 2], 0.0),
        )
        return appearance if device is None else appearance.to(device)

    @classmethod
    @on_the_cpu
    def neutral(cls, batch: int, device: torch.device | str | None = None) -> Appearance:
        """Appearances that change nothing."""
        return cls(
            jitter=torch.tensor(NEUTRAL, dtype=torch.float32, device=device).repeat(batch, 1),
            order=torch.arange(4, device=device).repeat(batch, 1),
            grayscale=torch.zeros(batch, dtype=torch.bool, device=device),
            blur_sigma=torch.zeros(batch, dtype=torch.float32, device=device),
        )


torch.export.register_dataclass(Appearance, serialized_type_name="motionops.Appearance")
