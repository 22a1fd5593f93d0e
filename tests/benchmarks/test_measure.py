"""What a timed call finds in a GPU's cache, with the cache played."""

from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import measure
from benchmarks.measure import flush_l2
from tests.pretended_gpu import GPU, PretendedGPU

CACHE = 2**16  # bytes


class Traffic(TorchDispatchMode):
    """Bytes that operators read, and that they write."""

    def __init__(self):
        super().__init__()
        self.read = self.written = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.read += sum(tensor.nbytes for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor))
        self.written += sum(tensor.nbytes for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor))
        return result


def test_the_flush_reads_twice_the_cache_and_leaves_nothing_to_write_back(monkeypatch):
    properties = SimpleNamespace(L2_cache_size=CACHE)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    with PretendedGPU():
        flush_l2(GPU)
        with Traffic() as traffic:
            flush_l2(GPU)
    assert traffic.read >= 2 * CACHE
    assert traffic.written <= 8


def test_the_hosts_time_is_the_least_round_of_those_in_turns(monkeypatch):
    order, clock = [], iter([9.0, 9.0] + [5.0, 2.0, 3.0, 4.0] * measure.HOST_ROUNDS)

    def time_of(work, device):
        order.append(work)
        return next(clock)

    monkeypatch.setattr(measure, "_time_on_host", time_of)
    found = measure.host_times({"ours": "a", "eager": "b"}, torch.device("cpu"), seconds=0.0)
    assert {name: timing.median_ms for name, timing in found.items()} == {"ours": 3000.0, "eager": 2000.0}
    assert order == ["a", "b"] * (1 + measure.HOST_ROUNDS)
    assert found["ours"].samples == measure.HOST_ROUNDS  # the first call is not counted
