"""Whether the gradients of a run are finite, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from motionops.errors import UserError
from motionops.ranks import any_rank

# What a run says that has lost its networks.
AFTER_A_LOSS = (
    "last.ckpt, if there is one, is from before; a lower --learning-rate or a longer --warmup-epochs may help"
)

# Steps that are noted before the device is waited for, where nobody asks.
MOST_NOTED = 100


class GradientWatch:
    """Notes the norms of a step's gradients where they are, and says later which were not finite.

    Norms are float32's: an element whose square overflows counts, as it makes AdamW's second moment infinite, and the
    weight then stands still for ever while the losses look well.
    """

    def __init__(self) -> None:
        self._noted: list[tuple[int, list[str], Tensor]] = []

    @torch.no_grad()
    def note(self, step: int, parameters: Iterable[tuple[str, nn.Parameter]], at_once: bool) -> None:
        """Note the gradients that there are: `step` of a backward pass whose update is to come.

        `at_once`: require them to be finite now, before the update; right where the device is not to be waited for.
        """
        gradients = {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
        if gradients:
            norms = torch.stack(torch._foreach_norm(list(gradients.values())))
            self._noted.append((step, list(gradients), norms))
        if at_once or len(self._noted) == MOST_NOTED:
            self.require_finite()

    def require_finite(self) -> None:
        """UserError where a step noted since the last call had a gradient that is not finite; it names the first.

        Waits for the device. Under DDP the gradients, and so the outcome, are the same on all ranks.
        """
        noted, self._noted = self._noted, []
        for step, names, norms in noted:
            lost = [name for name, finite in zip(names, norms.isfinite().tolist(), strict=True) if not finite]
            if lost:
                more = f" and of {len(lost) - 1} more" if len(lost) > 1 else ""
                raise UserError(
                    f"step {step}: the gradient of {lost[0]}{more} of {len(names)} parameters is not finite; "
                    f"{AFTER_A_LOSS}"
                )


def require_finite_loss(step: int, loss: Tensor) -> None:
    """UserError where the loss of a rank is NaN or infinite. All ranks must call."""
    if any_rank(not bool(torch.isfinite(loss).all())):
        raise UserError(f"the loss of step {step} is not finite; {AFTER_A_LOSS}")
