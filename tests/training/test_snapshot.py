"""Copies of nested tensors: of their moment, laid out as they were, in memory that is used again."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from motionops.nested import tensors_in
from motionops.training.state.snapshot import Snapshot


def taken(snapshot, value):
    copy, copied = snapshot.take(value)
    copied()
    return copy


def test_what_changes_afterwards_does_not_change_the_copy():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    value = {"state": network.state_dict(), "list": [torch.arange(3), (torch.ones(()), {"n": 1})], "name": "x"}
    before = [tensor.clone() for tensor in tensors_in(value)]
    assert len(before) == 9
    copy = taken(Snapshot(), value)
    for tensor in tensors_in(value):
        tensor += 1
    value["list"][1][1]["n"] = 2
    assert all(map(torch.equal, tensors_in(copy), before))
    assert copy["list"][1][1] == {"n": 1}
    assert type(copy["state"]) is OrderedDict
    assert copy["state"]._metadata == network.state_dict()._metadata
    assert copy["name"] == "x"


def test_strides_and_shared_memory_stay():
    weight = torch.randn(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d)
    copy = taken(Snapshot(), {"a": weight, "b": weight.view_as(weight), "c": weight.clone()})
    assert copy["a"].stride() == weight.stride()
    assert copy["a"].data_ptr() == copy["b"].data_ptr() != copy["c"].data_ptr()


def test_the_next_copy_takes_the_memory_of_the_former():
    snapshot, value = Snapshot(), {"a": torch.zeros(3), "b": torch.zeros(4)}
    first = taken(snapshot, value)
    value["a"] += 1
    kept, value["b"] = value["b"], torch.ones(5)
    second = taken(snapshot, value)
    assert second["a"] is first["a"]
    assert torch.equal(second["a"], torch.ones(3))
    assert torch.equal(second["b"], torch.ones(5))
    assert torch.equal(first["b"], kept)


def test_a_parameter_is_copied_without_its_history():
    copy = taken(Snapshot(), {"a": nn.Parameter(torch.ones(2))})
    assert not copy["a"].requires_grad
    assert copy["a"].is_leaf


@pytest.mark.cuda
def test_a_gpus_tensors_are_copied_between_two_steps_and_the_host_does_not_wait():
    snapshot, value = Snapshot(), {"a": torch.zeros(2**20, device="cuda"), "step": torch.tensor(1.0)}
    taken(snapshot, value)  # page-locks the memory, which waits
    torch.cuda._sleep(2**30)  # a step, of half a second or so
    value["a"] += 1
    copy, copied = snapshot.take(value)
    value["a"] += 1
    value["step"] += 1
    assert not torch.cuda.current_stream().query()
    copied()
    assert copy["a"].is_pinned()
    assert torch.equal(copy["a"], torch.ones(2**20))
    assert copy["step"] == 1
