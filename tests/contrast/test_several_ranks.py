"""Two processes that each have half of a batch have the losses and the gradients of one that has all of it."""

import pytest
import torch
from torch.nn import functional

import motionops
from motionops.ranks import gather_own_first, gather_with_gradient, sum_over_ranks
from tests.several_ranks import on_ranks

VIDEOS, DIM, GRID, TEMPERATURE = 6, 8, (2, 3, 2), 0.2


def inputs() -> dict[str, torch.Tensor]:
    """A batch: features of cells before a layer, and where their views lie. Half of rank 1's videos have no pair of
    pixels that lie near each other."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, VIDEOS, *GRID, DIM, generator=generator)
    extents = motionops.sample_extents(
        2 * VIDEOS, frames=8, frame_count=12, scale=(0.4, 0.9), generator=generator
    ).unflatten(0, (2, VIDEOS))
    extents[1, 4:, 1:] += 10
    return {
        "query": query,
        "key": key,
        "query_extent": extents[0],
        "key_extent": extents[1],
        "query_mask": torch.rand(VIDEOS, *GRID[1:], generator=generator) < 0.8,
        "queue": functional.normalize(torch.randn(20, DIM, generator=generator), dim=1),
        "weight": torch.randn(DIM, DIM, generator=generator),
    }


def whole(features: torch.Tensor) -> torch.Tensor:
    """A clip's embedding."""
    return functional.normalize(features.mean(dim=(1, 2, 3)), dim=1)


def queue_loss(query, key, of):
    return motionops.queue_infonce(whole(query), whole(key), of["queue"], temperature=TEMPERATURE).loss


def pairwise_loss(query, key, of):
    return motionops.pairwise_infonce(whole(query), gather_own_first(whole(key)), temperature=TEMPERATURE).loss


def region_loss(query, key, of):
    """Every rank computes the loss of all queries."""
    arguments = (query, key, of["query_extent"], of["key_extent"])
    return motionops.region_contrast(*map(gather_with_gradient, arguments), temperature=TEMPERATURE)


def pixel_loss(query, key, of):
    """Every rank computes the loss of all queries."""
    arguments = (query, key, of["query_extent"], of["key_extent"])
    mask = gather_with_gradient(of["query_mask"])
    return motionops.pixel_contrast(*map(gather_with_gradient, arguments), query_mask=mask, temperature=TEMPERATURE)


def pixel_loss_with_columns_of_all(query, key, of):
    """Other ranks' keys are further columns, which have no gradient; so the keys have none here."""
    where = of["query_extent"], of["key_extent"]
    options = {"query_mask": of["query_mask"]}
    weight = motionops.rank_weight(*where, *GRID[1:], **options)
    negatives = motionops.ranks.gather_others(key).flatten(0, 3)
    loss = motionops.pixel_contrast(
        query, key.detach(), *where, negatives=negatives, temperature=TEMPERATURE, **options
    )
    return weight * loss


LOSSES = [queue_loss, pairwise_loss, region_loss, pixel_loss, pixel_loss_with_columns_of_all]


def losses_of(rank: int, ranks: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each loss the mean over ranks, and its gradient for the layer, as DistributedDataParallel takes both."""
    batch = inputs()
    share = slice(rank * VIDEOS // ranks, (rank + 1) * VIDEOS // ranks)
    of = {name: value[share] if len(value) == VIDEOS else value for name, value in batch.items()}
    results = []
    for loss_of in LOSSES:
        weight = batch["weight"].clone().requires_grad_()
        query, key = (functional.normalize(of[name] @ weight, dim=-1) for name in ("query", "key"))
        loss = loss_of(query, key, of)
        loss.backward()
        results.append((sum_over_ranks(loss) / ranks, sum_over_ranks(weight.grad) / ranks))
    return results


def losses_of_two(rank: int) -> list:
    return losses_of(rank, 2)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    return on_ranks(losses_of_two, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("number", range(len(LOSSES)), ids=lambda number: LOSSES[number].__name__)
def test_two_processes_are_one(of_two, number):
    loss, gradient = losses_of(0, 1)[number]
    assert loss > 0
    assert gradient.abs().max() > 0.01
    for rank in range(2):
        torch.testing.assert_close(of_two[rank][number][0], loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(of_two[rank][number][1], gradient, rtol=1e-4, atol=1e-6)
