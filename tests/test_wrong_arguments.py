"""What is no operator of its own says in one line what it was given and what it wants, as the operators do."""

import pytest
import torch

import motionops
from motionops.models import ProjectionHead, activation_map
from motionops.views import local_extents, motion_starts, sample_extents

VIEW = torch.tensor([[0.0, 16.0], [0.0, 1.0], [0.0, 1.0]])
EXTENTS = VIEW.expand(2, 3, 2)
MAPS = torch.rand(2, 3, 8, 8)
MASK = torch.ones(2, 4, 4, dtype=torch.bool)


def crop(maps=MAPS, extents=EXTENTS, grid=(1, 2, 2)):
    return motionops.crop_map(maps, extents, grid)


def weight(query_extent=EXTENTS, key_extent=EXTENTS, height=4, **others):
    return motionops.rank_weight(query_extent, key_extent, height, 4, **others)


def local(view=VIEW, starts=(0, 4)):
    return local_extents(view, starts, frames=4)


def sample(frame_count=9, starts=None):
    return sample_extents(2, frames=4, frame_count=frame_count, starts=starts)


WRONG = [
    (crop, {"extents": EXTENTS.to("meta")}, ValueError, "crop_map: extents must be on cpu as maps is, got meta"),
    (crop, {"extents": EXTENTS.int()}, TypeError, "crop_map: extents must be of a floating type, got torch.int32"),
    (crop, {"grid": 4}, TypeError, r"crop_map: grid must be three whole numbers \(t, h, w\), got 4"),
    (weight, {"query_extent": [1]}, TypeError, "rank_weight: query_extent must be a tensor or an array"),
    (weight, {"query_extent": VIEW}, ValueError, r"rank_weight: query_extent must be \[B, 3, 2\], got \[3, 2\]"),
    (weight, {"key_extent": EXTENTS[:1]}, ValueError, r"rank_weight: key_extent must be \[M >= B=2, 3, 2\]"),
    (weight, {"height": 2.5}, TypeError, "rank_weight: height must be a whole number, got 2.5"),
    (weight, {"height": 0}, ValueError, "rank_weight: height and width must be at least 1, got 0 and 4"),
    (weight, {"query_mask": MASK.float()}, TypeError, "rank_weight: query_mask must be bool, got torch.float32"),
    (weight, {"key_mask": MASK[:, 1:]}, ValueError, r"rank_weight: key_mask must be \[B=2, H=4, W=4\] or .*, got"),
    (local, {"view": VIEW[0]}, ValueError, r"local_extents: view must be \[3, 2\], got \[2\]"),
    (local, {"view": None}, TypeError, "local_extents: view must be numbers, got NoneType"),
    (local, {"starts": [0.5, 4.0]}, TypeError, "local_extents: starts must be integers, got torch.float32"),
    (local, {"starts": [[0, 4]]}, ValueError, r"local_extents: starts must be \[K\], got \[1, 2\]"),
    (sample, {"frame_count": "9"}, TypeError, "sample_extents: frame_count must be integers, got str"),
    (sample, {"frame_count": 9.5}, TypeError, "sample_extents: frame_count must be integers, got torch.float32"),
    (sample, {"starts": torch.empty(2, device="meta")}, ValueError, "sample_extents: starts must hold values"),
    (motion_starts, {"frame_motion": torch.empty(9, device="meta"), "span": 4}, ValueError, "must hold values, got a"),
    (ProjectionHead(8), {"features": [1.0]}, TypeError, "ProjectionHead: features must be a tensor or an array"),
    (
        ProjectionHead(8),
        {"features": torch.ones(2, 8).int()},
        TypeError,
        "ProjectionHead: features must be of a floatin",
    ),
    (activation_map, {"features": MAPS}, ValueError, r"activation_map: features must be \[B, C, T, H, W\], got"),
    (
        motionops.FeatureQueue(8, 4).enqueue,
        {"features": torch.rand(2, 4), "ids": torch.empty(2, dtype=torch.int64, device="meta")},
        ValueError,
        "FeatureQueue.enqueue: ids must be on cpu, got meta",
    ),
    (
        motionops.ghost_batch_norm,
        {"input": torch.rand(4, 8), "residual": torch.tensor(1.0)},
        ValueError,
        "ghost_batch_norm: residual must be ",
    ),
]


@pytest.mark.parametrize(("function", "wrong", "error", "words"), WRONG)
def test_one_line_says_what_is_wrong(function, wrong, error, words):
    with pytest.raises(error, match=words) as raised:
        function(**wrong)
    assert "\n" not in str(raised.value)


def test_sequences_and_arrays_are_tensors():
    """Where a function looks at values, lists and arrays do."""
    given = local(starts=torch.tensor([0, 4])), sample(torch.tensor([9, 9]), torch.tensor([1, 2]))
    for one, other in zip(given, (local(VIEW.numpy(), [0, 4]), sample([9, 9], [1, 2])), strict=True):
        assert torch.equal(one[:, 0], other[:, 0])
