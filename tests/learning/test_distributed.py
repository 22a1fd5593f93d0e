"""What hosts tell each other: numbers and flags of all ranks, by a group that never touches a device."""

import torch.multiprocessing as processes
from torch import distributed

from motionops.learning import distributed as own


def test_one_process_needs_no_group():
    assert own.host_numbers(7) == [7]
    assert own.any_rank(True)
    assert not own.any_rank(False)


def talk(rank: int, store: str, results) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        default = distributed.group.WORLD
        said = [own.host_group() is default, own.host_numbers(10 + rank)]
        said += [own.any_rank(False), own.any_rank(rank == 1), own.any_rank(True)]
        # As on GPUs, where the default group is NCCL's: its collectives run on devices.
        distributed.get_backend = lambda group=None: "nccl" if group in (None, default) else "gloo"
        beside = own.host_group()
        said += [beside is not default, own.host_group() is beside, distributed.get_world_size(beside)]
        said += [own.host_numbers(20 + rank), own.gather_lists([rank, "x"])]
        results[rank] = said
    finally:
        distributed.destroy_process_group()


def test_two_processes(tmp_path):
    with processes.Manager() as manager:
        results = manager.dict()
        processes.spawn(talk, (str(tmp_path / "store"), results), nprocs=2)
        expected = [True, [10, 11], False, True, True, True, True, 2, [20, 21], [0, "x", 1, "x"]]
        assert results[0] == results[1] == expected
