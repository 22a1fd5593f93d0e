"""Lower bounds of mutual information that a small network learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Estimator = Literal["mine", "infonce", "nwj"]
ESTIMATORS = ("mine", "infonce", "nwj")


def log_mean_exp(values: Tensor) -> Tensor:
    """log of the mean of e^value over all values, of which there must be one: a scalar."""
    # The logarithm of the number as a tensor: torch.compile would make a graph for each of Python's.
    number = torch.full((), values.numel(), dtype=torch.float64, device=values.device)
    return values.flatten().logsumexp(0) - number.log().to(values.dtype)


def information_bound(
    joint: Tensor, marginal: Tensor, estimator: Estimator = "mine", log_partition: Tensor | None = None
) -> Tensor:
    r"""A lower bound of the mutual information I(X; Y) in nats, from the scores G of pairs.

    * ``"mine"``: the Donsker-Varadhan bound :math:`E_{joint}[G] - \log E_{marginal}[e^G]` (Belghazi et al., ICML 2018;
      Controllable Augmentations, Eqs. 5 to 7);
    * ``"infonce"``: the mean over i of :math:`\log \frac{e^{G_i}}{(e^{G_i} + \sum_m e^{G_{im}}) / (M + 1)}` (van den
      Oord et al. 2018); never above log(M + 1);
    * ``"nwj"``: :math:`E_{joint}[G] - e^{-1} E_{marginal}[e^G]` (Nguyen, Wainwright, Jordan 2010).

    Args:
        joint: `[N]`, scores of pairs that belong together.
        marginal: `[N, M]`, row i: scores of x_i with M values of y that do not belong to it.
        log_partition: for "mine", the logarithm of what estimates :math:`E_{marginal}[e^G]` in the gradient, instead of
            the mean over these pairs, whose logarithm has a biased gradient. The value stays the bound's.

    Returns:
        A scalar to be maximised. Differentiable in both scores.

    Raises:
        ValueError: an unknown estimator, shapes that do not fit, no pair.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"information_bound: estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
    if joint.ndim != 1 or marginal.ndim != 2 or len(marginal) != len(joint) or marginal.numel() == 0:
        raise ValueError(
            "information_bound: joint must be [N >= 1] and marginal [N, M >= 1], "
            f"got {list(joint.shape)} and {list(marginal.shape)}"
        )
    if estimator == "infonce":
        everything = torch.cat([joint[:, None], marginal], dim=1)
        return (joint - everything.logsumexp(dim=1)).mean() + math.log(everything.shape[1])
    if estimator == "nwj":
        return joint.mean() - (marginal - 1).exp().mean()
    value = joint.mean() - log_mean_exp(marginal)
    if log_partition is None:
        return value
    # The derivative of log E[e^G] is that of E[e^G] divided by E[e^G]; here by its running mean.
    moving = joint.mean() - (marginal - log_partition).exp().mean()
    return value.detach() + (moving - moving.detach())


class MutualInformation(nn.Module):
    r"""A lower bound of I(X; Y) in nats whose statistics network G is a two-layer MLP.

    :math:`G(x, y) = w^T ReLU(W_x x + W_y y + b) + c`; the bounds are those of :func:`information_bound`. Maximised over
    this module's parameters the estimate approaches the mutual information, which the features can then be moved to
    lower (Controllable Augmentations, Eq. 6).

    The gradient of MINE's logarithm is biased in small batches. In training mode the partition :math:`E[e^G]` in its
    denominator is therefore an exponential moving average over calls (MINE, Section 3.2); the returned value is
    always the bound of the given pairs.

    Args:
        x_dim, y_dim: sizes of x and y.
        hidden: hidden units of G.
        estimator: "mine", "infonce" or "nwj".
        decay: of the moving average, in [0, 1); 0 uses the given pairs alone.
    """

    def __init__(
        self, x_dim: int, y_dim: int, hidden: int = 512, estimator: Estimator = "mine", decay: float = 0.99
    ) -> None:
        super().__init__()
        for name, value in (("x_dim", x_dim), ("y_dim", y_dim), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"MutualInformation: {name} must be at least 1, got {value}")
        if estimator not in ESTIMATORS:
            raise ValueError(f"MutualInformation: estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"MutualInformation: decay must be in [0, 1), got {decay}")
        self.x_dim, self.y_dim, self.estimator, self.decay = x_dim, y_dim, estimator, decay
        # One layer over the pair (x, y), in two parts: y is then multiplied once for all x that it is paired with.
        self.first_x = nn.Linear(x_dim, hidden)
        self.first_y = nn.Linear(y_dim, hidden, bias=False)
        self.second = nn.Linear(hidden, 1)
        self.register_buffer("log_partition", torch.tensor(-math.inf))

    def forward(self, x: Tensor, y: Tensor, marginal: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        """The bound, a scalar to be maximised.

        Args:
            x: `[N, x_dim]`.
            y: `[N, y_dim]`; (x_i, y_i) is a pair of the joint distribution.
            marginal: `[N, M, y_dim]`, for every x_i M values of y that are independent of it; by default the other rows
                of y (all N (N - 1) pairs are scored).
            frozen: move neither the parameters nor the moving average: gradients flow to x and y alone, undivided by
                the moving average, which is that of other pairs.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(x, y, marginal)
        x_part, y_part, score = self._layers(x, y, frozen)
        joint = score(x_part, y_part)
        if marginal is not None:
            scores = score(x_part[:, None], functional.linear(marginal, self._weights(frozen)[2]))
        else:
            scores = score(x_part[:, None], y_part[None])
            n = len(x)
            # All but the diagonal, without an index list: drop the last score, and the diagonal is the first column.
            scores = scores.flatten()[:-1].view(n - 1, n + 1)[:, 1:].reshape(n, n - 1)
        return self._bound(joint, scores, frozen)

    def of_pairs(
        self, x: Tensor, y: Tensor, first: Tensor, second: Tensor, others: Tensor, *, frozen: bool = False
    ) -> Tensor:
        """The bound, of pairs that are named by their places: both layers' halves see each value once.

        Args:
            x: `[N, x_dim]`.
            y: `[L, y_dim]`.
            first, second: int64 `[P]`, P at least 1; (x[first], y[second]) are pairs of the joint distribution.
            others: int64 `[N, M]`, for every x_i the places of M values of y that are independent of it; those of
                `first` make the marginal.
            frozen: as in `forward`.
        """
        x_part, y_part, score = self._layers(x, y, frozen)
        return self._bound(score(x_part[first], y_part[second]), score(x_part[:, None], y_part[others])[first], frozen)

    def _weights(self, frozen: bool) -> list[Tensor]:
        """Of the half for x, its bias, of the half for y, of the second layer, its bias."""
        return [parameter.detach() if frozen else parameter for parameter in self.parameters()]

    def _layers(self, x: Tensor, y: Tensor, frozen: bool) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """What the halves of the first layer make of x and y, and the rest of G."""
        x_weight, x_bias, y_weight, weight, bias = self._weights(frozen)

        def score(x_part: Tensor, y_part: Tensor) -> Tensor:
            return functional.linear(functional.relu(x_part + y_part), weight, bias)[..., 0]

        return functional.linear(x, x_weight, x_bias), functional.linear(y, y_weight), score

    def _bound(self, joint: Tensor, scores: Tensor, frozen: bool) -> Tensor:
        wide = torch.promote_types(joint.dtype, torch.float32)  # also under autocast
        joint, scores = joint.to(wide), scores.to(wide)
        partition = None
        if self.training and not frozen and self.estimator == "mine" and self.decay > 0:
            partition = self._move_partition(scores)
        return information_bound(joint, scores, self.estimator, partition)

    @torch.no_grad()
    def _move_partition(self, marginal: Tensor) -> Tensor:
        """The logarithm of the moving average of E[e^G], these pairs included."""
        now = log_mean_exp(marginal).to(self.log_partition.dtype)
        moved = torch.logaddexp(self.log_partition + math.log(self.decay), now + math.log1p(-self.decay))
        self.log_partition.copy_(torch.where(self.log_partition.isinf(), now, moved))
        return self.log_partition.to(marginal.dtype, copy=True)

    def _check(self, x: Tensor, y: Tensor, marginal: Tensor | None) -> None:
        for name, value, dim in (("x", x, self.x_dim), ("y", y, self.y_dim)):
            if value.ndim != 2 or value.shape[1] != dim or len(value) != len(x):
                raise ValueError(f"MutualInformation: {name} must be [N={len(x)}, {dim}], got {list(value.shape)}")
        if len(x) == 0 or (marginal is None and len(x) == 1):
            raise ValueError(f"MutualInformation: needs pairs of the joint and of the marginal, got N = {len(x)}")
        if marginal is not None and (
            marginal.ndim != 3
            or marginal.shape[0] != len(x)
            or marginal.shape[1] == 0
            or marginal.shape[2] != self.y_dim
        ):
            raise ValueError(
                f"MutualInformation: marginal must be [N={len(x)}, M >= 1, {self.y_dim}], got {list(marginal.shape)}"
            )
