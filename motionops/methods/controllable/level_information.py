"""What features tell of the intensity level of their clip: the estimator of L_mi, kept at its maximum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motionops.methods.controllable.drawn import Drawn
from motionops.methods.controllable.level_pairs import same_level
from motionops.methods.controllable.mutual_information import Estimator, MutualInformation

# Adam's. Its usual 1e-8 would make steps of what rounding leaves of a gradient that is 0, as at first that of the
# constant which is added to all scores: another order of sums would be another theta.
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-5


class LevelInformation(nn.Module):
    """theta of Eq. 6, and how it reaches the maximum there (Controllable Augmentations, Section 3.2).

    theta learns beside the network: after each of the network's steps it takes `steps` steps of Adam, at a constant
    rate of its own, on the features of the last `memory` steps and all pairs of one level among each step's clips.
    Within the loss it stands still, so that its bounds are held out: of clips that it has not learnt from. All of it
    is buffers and parameters without gradients, which the run's optimiser passes over and a checkpoint keeps; all ranks
    have the same features and therefore the same theta.

    Args:
        channels: C.
        hidden, estimator, decay: those of `MutualInformation`.
        videos, clips: B videos of K clips, of a step's part.
        marginals: values that each feature is paired with for the marginal.
        memory: steps whose features are kept.
        steps: of theta, for one of the network.
        rate: theta's.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        estimator: Estimator,
        decay: float,
        *,
        videos: int,
        clips: int,
        marginals: int,
        memory: int,
        steps: int,
        rate: float,
    ) -> None:
        super().__init__()
        self.theta = MutualInformation(channels, channels, hidden, estimator, decay).requires_grad_(False)
        self.steps, self.rate = steps, rate
        self.register_buffer("features", torch.zeros(memory, videos * clips, channels))
        self.register_buffer("levels", torch.full((memory, videos * clips), -1))  # -1: not filled yet
        size = sum(parameter.numel() for parameter in self.theta.parameters())
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        # Clips of other videos are K to N - K places away; the steps of theta go over those distances.
        far = clips + torch.arange(steps * marginals) * (videos * clips - 2 * clips + 1) // (steps * marginals)
        self.distances = far.view(steps, marginals).tolist()
        videos_of = torch.arange(videos).repeat_interleave(clips)
        self.register_buffer("strange", videos_of[:, None] != videos_of[None], persistent=False)

    def forward(self, local: Tensor, view: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Held-out bounds in nats, through which the features can be moved, but not theta.

        Args:
            local: `[B, K, C]`, features of the local clips.
            view: `[B, C]`, those of the global views.
            drawn: pairs of a level, strangers of each clip.

        Returns:
            Of clips that share their level, 0 where no two do; and of local clips with their global view.
        """
        features, own = local.flatten(0, 1), torch.arange(local.shape[0] * local.shape[1], device=local.device)
        of_levels = features.sum() * 0
        if len(drawn.first):
            pairs = drawn.first, drawn.second, drawn.others
            of_levels = self.theta.of_pairs(features, features, *pairs, frozen=True)
        of_views = self.theta.of_pairs(features, view, own, own // local.shape[1], drawn.strangers, frozen=True)
        return of_levels, of_views

    @torch.no_grad()
    def enqueue(self, features: Tensor, levels: Tensor) -> None:
        """Keep a step's features `[N, C]` and their clips' levels `[N]`, and let theta climb on all that are kept."""
        self.features.copy_(torch.cat([features[None].to(self.features.dtype), self.features[:-1]]))
        self.levels.copy_(torch.cat([levels[None], self.levels[:-1]]))
        first, second = same_level(self.levels, self.strange)
        if len(first):
            for distances in self.distances:
                self._climb(first, second, distances)

    def _climb(self, first: Tensor, second: Tensor, distances: list[int]) -> None:
        """One step of Adam up the bound."""
        parameters = list(self.theta.requires_grad_().parameters())
        places = torch.arange(self.levels.numel(), device=self.levels.device).view_as(self.levels)
        others = torch.stack([places.roll(-distance, dims=1).flatten() for distance in distances], dim=1)
        with torch.enable_grad():
            flat = self.features.flatten(0, 1)
            bound = self.theta.of_pairs(flat, flat, first, second, others)
            gradients = torch.autograd.grad(bound, parameters)
        self.theta.requires_grad_(False)
        gradient = torch.cat([part.flatten() for part in gradients])
        self.taken += 1
        self.mean.lerp_(gradient, 1 - FIRST_DECAY)
        self.square.lerp_(gradient.square(), 1 - SECOND_DECAY)
        taken = self.taken.double()
        deviation = (self.square / (1 - SECOND_DECAY**taken)).sqrt()
        step = self.rate * self.mean / (1 - FIRST_DECAY**taken) / (deviation + EPSILON)
        for parameter, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
            parameter += part.view_as(parameter)
