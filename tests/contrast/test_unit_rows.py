"""Features that are no unit rows are named on the CPU, where looking at them costs no waiting."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F

from motionops.contrast import unit_rows
from tests.contrast.every_operator import OPERATORS, sample_of

FEATURES = [(op, argument) for op in OPERATORS for argument in ("query", "key")] + [("queue_infonce", "queue")]


@pytest.fixture(autouse=True)
def nothing_seen_yet(monkeypatch):
    monkeypatch.setattr(unit_rows, "_seen", set())


def warned(op, sample):
    unit_rows._seen.clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        OPERATORS[op][0](**sample)
    return [(str(warning.message), warning.filename) for warning in seen]


@pytest.mark.parametrize(("op", "argument"), FEATURES)
def test_rows_of_another_length_are_named(op, argument):
    sample = sample_of(op)
    assert warned(op, sample) == []
    [(text, file)] = warned(op, sample | {argument: 2.5 * sample[argument]})
    assert text.startswith(f"{op}: {argument} must have rows of length 1 along its last axis, got 2.5 in [")
    assert file == __file__


def test_a_shape_is_looked_at_once():
    sample = sample_of("pairwise_infonce")
    wrong = sample | {"query": 3 * sample["query"]}
    assert len(warned("pairwise_infonce", wrong)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OPERATORS["pairwise_infonce"][0](**wrong)


def test_channels_first_are_named():
    maps = F.normalize(torch.randn(2, 24, 4, 6, 9, generator=torch.Generator().manual_seed(0)), dim=1)
    extents = torch.tensor([[0.0, 4.0], [0.0, 1.0], [0.0, 1.0]]).expand(2, 3, 2)
    for op in ("pixel_contrast", "region_contrast"):
        sample = {"query": maps, "key": maps, "query_extent": extents, "key_extent": extents}
        assert [re.search(r"(\w+) must have rows", text)[1] for text, _ in warned(op, sample)] == ["query", "key"]
        last = maps.movedim(1, -1)
        assert warned(op, sample | {"query": last, "key": last}) == []


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_rows_without_a_length_are_not_meant(value):
    sample = sample_of("pairwise_infonce")
    sample["query"] = sample["query"].index_fill(0, torch.tensor([0, 3]), value)
    assert warned("pairwise_infonce", sample) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_what_rounding_does_to_a_length_is_not_meant(dtype):
    for op in OPERATORS:
        sample = {n: value.to(dtype) if n in ("query", "key") else value for n, value in sample_of(op).items()}
        assert warned(op, sample) == []
