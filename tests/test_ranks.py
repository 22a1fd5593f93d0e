"""What ranks tell each other: numbers and flags by a group that never touches a device, rows and their gradients."""

import os

import pytest
import torch
from torch import distributed

from motionops import ranks as own
from motionops.commandline import user_message
from motionops.contrast import rank_weight
from tests.several_ranks import in_processes, on_ranks


def test_one_process_needs_no_group():
    assert own.host_numbers(7) == [7]
    assert own.any_rank(True)
    assert not own.any_rank(False)


def talk(rank: int) -> list:
    default = distributed.group.WORLD
    said = [own.host_group() is default, own.host_numbers(10 + rank)]
    said += [own.any_rank(False), own.any_rank(rank == 1), own.any_rank(True)]
    # As on GPUs, where the default group is NCCL's: its collectives run on devices.
    distributed.get_backend = lambda group=None: "nccl" if group in (None, default) else "gloo"
    beside = own.host_group()
    said += [beside is not default, own.host_group() is beside, distributed.get_world_size(beside)]
    return [*said, own.host_numbers(20 + rank), own.gather_lists([rank, "x"])]


def rows_with_gradient(rank: int) -> list:
    """The rows 1 2 of rank 0 and 3 4 of rank 1; a loss of each rank's own."""
    said = []
    for gather in (own.gather_with_gradient, own.gather_own_first):
        rows = (torch.tensor([[1.0], [2.0]]) + 2 * rank).requires_grad_()
        everything = gather(rows)
        ((1 + rank) * torch.tensor([[1.0], [2.0], [3.0], [4.0]]) * everything).sum().backward()
        said += [everything.flatten().tolist(), rows.grad.flatten().tolist()]
    return said


def weight(rank: int) -> float:
    """Of two videos a rank whose views lie upon each other, but for the second one of rank 1."""
    extent = torch.tensor([[0.0, 1.0]]).expand(2, 3, 2).contiguous()
    other = extent.clone()
    other[1] += 100 * rank
    return rank_weight(extent, other, 2, 2).item()


def weight_with_masks(rank: int) -> float:
    """Of two videos that are one picture, foreground a frame: rank 1's second video has it in no frame of both."""
    extent = torch.tensor([[0.0, 1.0]]).expand(2, 3, 2).contiguous()
    query_mask, key_mask = torch.zeros(2, 2, 3, 2, 2, dtype=torch.bool).unbind()
    query_mask[:, 1] = True
    key_mask[0, 1] = True
    key_mask[1, rank == 0] = True  # frame 1 of rank 0, frame 0 of rank 1
    return rank_weight(extent, extent, 2, 2, query_mask=query_mask, key_mask=key_mask).item()


def everything(rank: int) -> list:
    return [rows_with_gradient(rank), (weight(rank), weight_with_masks(rank)), talk(rank)]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What two processes, started once, return."""
    return list(zip(*on_ranks(everything, tmp_path_factory.mktemp("ranks")), strict=True))


def test_rows_get_the_gradients_of_all_ranks(said):
    # Rank 0 weighs the rows by 1 2 3 4, rank 1 by twice as much: first as they are, then its own ones first.
    assert said[0][0] == [[1, 2, 3, 4], [3, 6], [1, 2, 3, 4], [1 + 6, 2 + 8]]
    assert said[0][1] == [[1, 2, 3, 4], [9, 12], [3, 4, 1, 2], [3 + 2, 4 + 4]]


def test_a_rank_weighs_as_much_as_it_has_samples(said):
    for of_rank_0, of_rank_1 in zip(*said[1], strict=True):
        assert (of_rank_0, of_rank_1) == pytest.approx((2 * 2 / 3, 1 * 2 / 3))


def test_hosts_tell_each_other(said):
    expected = [True, [10, 11], False, True, True, True, True, 2, [20, 21], [0, "x", 1, "x"]]
    assert list(said[2]) == [expected] * 2


def left_alone(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    own.gather(torch.ones(1))
    if rank:
        os._exit(0)  # as a machine that is switched off: nothing is said
    try:
        for _ in range(100):
            own.gather(torch.ones(1))
    except RuntimeError as error:
        (folder / "said").write_text(str(user_message(error)))
    os._exit(0)


def test_a_process_that_has_lost_another_says_so_in_one_line(tmp_path):
    in_processes(left_alone, tmp_path)
    assert "another process of the run has ended or cannot be reached (Connection " in (tmp_path / "said").read_text()
    assert user_message(RuntimeError("Broken pipe")) is None  # of something else
