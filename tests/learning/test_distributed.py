"""What hosts tell each other: numbers and flags of all ranks, by a group that never touches a device."""

from torch import distributed

from motionops.learning import distributed as own
from tests.learning.ranks import on_ranks


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


def test_two_processes(tmp_path):
    expected = [True, [10, 11], False, True, True, True, True, 2, [20, 21], [0, "x", 1, "x"]]
    assert on_ranks(talk, tmp_path) == [expected] * 2
