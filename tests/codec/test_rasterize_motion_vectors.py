"""rasterize_motion_vectors on every backend."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from motionops.codec import pack_records
from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors, rasterize_motion_vectors_reference
from tests.codec.samples import covering_vectors, random_vectors


def exact(vectors, frames, height, width, cell):
    """Pixel by pixel, in rational arithmetic: each pixel of a cell has the displacements of the blocks that hold it."""
    rows, columns = -(-height // cell), -(-width // cell)
    total = [[[[Fraction(0)] * columns for _ in range(rows)] for _ in range(2)] for _ in range(frames)]
    covered = np.zeros((frames, rows, columns), dtype=int)
    for frame, source, w, h, x, y, u, v, scale in vectors.tolist():
        if not 0 <= frame < frames:
            continue
        for row in range(max(0, y - h // 2), min(height, y - h // 2 + h)):
            for column in range(max(0, x - w // 2), min(width, x - w // 2 + w)):
                place = row // cell, column // cell
                covered[(frame, *place)] += 1
                for channel, motion in enumerate((u, v)):
                    total[frame][channel][place[0]][place[1]] += Fraction(motion, scale * source)
    result = np.zeros((frames, 2, rows, columns))
    for frame, channel, row, column in np.ndindex(*result.shape):
        pixels = (min(height, (row + 1) * cell) - row * cell) * (min(width, (column + 1) * cell) - column * cell)
        result[frame, channel, row, column] = total[frame][channel][row][column] / max(
            pixels, int(covered[frame, row, column])
        )
    return torch.from_numpy(result)


@pytest.mark.parametrize(
    ("count", "frames", "height", "width", "cell"),
    [
        (40, 3, 24, 40, 8),
        (60, 2, 19, 21, 8),
        (30, 4, 16, 16, 1),
        (25, 1, 7, 33, 16),
        (20, 2, 5, 6, 100),
        (0, 2, 9, 9, 4),
    ],
)
def test_equals_rational_arithmetic(backend, count, frames, height, width, cell):
    vectors = random_vectors(count, frames, height, width)
    result = rasterize_motion_vectors(backend.tensor(vectors), frames, height, width, cell=cell).cpu()
    wanted = exact(vectors, frames, height, width, cell)
    assert result.dtype == torch.float32
    assert result.shape == wanted.shape
    # One rounding to float32 of sums in float64.
    torch.testing.assert_close(result.double(), wanted, rtol=2**-24, atol=1e-12)


def test_matches_reference(backend):
    vectors = torch.cat([random_vectors(500, 6, 60, 90), covering_vectors(6, 60, 90)])
    ours = rasterize_motion_vectors(backend.tensor(vectors), 6, 60, 90)
    reference = rasterize_motion_vectors_reference(vectors, 6, 60, 90)
    torch.testing.assert_close(ours.cpu(), reference, rtol=1e-6, atol=1e-7)
    assert ours.device.type == backend.device.type


def one(source=-1, w=16, h=16, x=8, y=8, u=-8, v=4, scale=4, frame=0):
    return [frame, source, w, h, x, y, u, v, scale]


def rasterized(backend, rows, *size, **options):
    vectors = torch.tensor(rows, dtype=torch.int32).reshape(-1, 9)
    return rasterize_motion_vectors(backend.tensor(vectors), *size, **options).cpu()


def test_direction_and_scale(backend):
    """Content that came from 2 pixels to the left and 1 below: the motion leads back, so u = +2 and v = -1."""
    maps = rasterized(backend, [one()], 1, 16, 16)
    assert maps.tolist() == [[[[2.0, 2.0]] * 2, [[-1.0, -1.0]] * 2]]
    # To the frame after, the motion leads on; two frames away, half of it is a frame's.
    assert rasterized(backend, [one(source=1)], 1, 16, 16)[0, :, 0, 0].tolist() == [-2.0, 1.0]
    assert rasterized(backend, [one(source=-2)], 1, 16, 16)[0, :, 0, 0].tolist() == [1.0, -0.5]
    assert rasterized(backend, [one(scale=2)], 1, 16, 16)[0, :, 0, 0].tolist() == [4.0, -2.0]


def test_partial_cells_at_the_right_and_bottom_are_kept(backend):
    maps = rasterized(backend, [one(x=8, y=8), one(x=24, y=8), one(x=8, y=24), one(x=24, y=24)], 1, 20, 21)
    assert maps.shape == (1, 2, 3, 3)
    assert (maps[0, 0] == 2).all()
    assert (maps[0, 1] == -1).all()


def test_pixels_without_a_vector_are_still_and_blocks_on_one_another_are_averaged(backend):
    half = rasterized(backend, [one(w=4, h=8, x=2, y=4)], 1, 8, 8)
    assert half[0, :, 0, 0].tolist() == [1.0, -0.5]
    both = rasterized(backend, [one(w=8, h=8, x=4, y=4), one(w=8, h=8, x=4, y=4, source=1)], 1, 8, 8)
    assert both[0, :, 0, 0].tolist() == [0.0, 0.0]
    nothing = rasterized(backend, [], 2, 8, 8)
    assert not nothing.any()


def test_coarse_cells_are_the_means_of_fine_ones(backend):
    vectors = backend.tensor(covering_vectors(2, 64, 96))
    fine = rasterize_motion_vectors(vectors, 2, 64, 96, cell=4)
    coarse = rasterize_motion_vectors(vectors, 2, 64, 96, cell=32)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(fine, 8), coarse, rtol=1e-5, atol=1e-6)


def test_the_order_of_rows_does_not_matter_and_runs_are_alike(backend):
    vectors = covering_vectors(4, 40, 40)
    result = rasterize_motion_vectors(backend.tensor(vectors), 4, 40, 40)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    assert torch.equal(rasterize_motion_vectors(backend.tensor(vectors[order]), 4, 40, 40), result)
    mixed = backend.tensor(random_vectors(300, 4, 40, 40))
    first = rasterize_motion_vectors(mixed, 4, 40, 40)
    assert all(torch.equal(rasterize_motion_vectors(mixed, 4, 40, 40), first) for _ in range(5))


def test_other_layouts_of_rows(backend):
    vectors = random_vectors(50, 3, 30, 30)
    wanted = rasterize_motion_vectors(backend.tensor(vectors), 3, 30, 30)
    strided = backend.tensor(torch.stack([vectors, vectors], dim=2)[:, :, 0])
    assert torch.equal(rasterize_motion_vectors(strided, 3, 30, 30), wanted)
    assert torch.equal(rasterize_motion_vectors(backend.tensor(vectors.long()), 3, 30, 30), wanted)
    past = vectors.clone()
    past[:, 1] = -1
    without = backend.tensor(torch.cat([past[:, :1], past[:, 2:]], dim=1))
    wanted = rasterize_motion_vectors(backend.tensor(past), 3, 30, 30)
    assert torch.equal(rasterize_motion_vectors(without, 3, 30, 30), wanted)


FIELDS = ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")


def test_pyavs_records(backend):
    """One array a frame, one array of all, a mapping: the same maps as the rows."""
    if backend.name == "cuda":
        pytest.skip("records are arrays of NumPy")
    vectors = covering_vectors(3, 24, 32)
    wanted = rasterize_motion_vectors(vectors, 3, 24, 32)
    kinds = [(name, np.int16) for name in ("src_x", "src_y", "flags")] + [(name, np.int32) for name in FIELDS]

    def structured(rows, *more):
        array = np.zeros(len(rows), dtype=[*kinds, *more])
        for column, name in enumerate(FIELDS, start=1):
            array[name] = rows[:, column]
        return array

    frames = [structured(vectors[vectors[:, 0] == frame].numpy()) for frame in range(3)]
    assert torch.equal(rasterize_motion_vectors(frames, 3, 24, 32), wanted)
    assert torch.equal(rasterize_motion_vectors([None, frames[1], frames[2][:0]], 3, 24, 32)[1], wanted[1])
    assert torch.equal(rasterize_motion_vectors(frames[0], 1, 24, 32), wanted[:1])
    everything = structured(vectors.numpy(), ("frame", np.int64))
    everything["frame"] = vectors[:, 0]
    assert torch.equal(rasterize_motion_vectors(everything, 3, 24, 32), wanted)
    mapping = {name: everything[name] for name in ("frame", *FIELDS) if name != "source"}
    assert torch.equal(rasterize_motion_vectors(mapping, 3, 24, 32), wanted)
    assert torch.equal(pack_records(everything), vectors)
    with pytest.raises(ValueError, match="needs a field 'frame' or the argument frame"):
        rasterize_motion_vectors(frames[0], 3, 24, 32)
    with pytest.raises(ValueError, match=r"must have the fields source, w, .*; motion_scale is missing"):
        pack_records([frames[0][["w", "h", "dst_x", "dst_y", "motion_x", "motion_y"]]])
    with pytest.raises(TypeError, match="must be structured arrays as PyAV's, got list"):
        pack_records([[1, 2]])


@pytest.mark.parametrize("column", [1, 2, 3, 8])
def test_rows_that_are_no_vectors(backend, column):
    vectors = covering_vectors(1, 32, 32)
    vectors[2, column] = 0
    if backend.name == "cuda":  # to see it would wait for the device
        others = torch.cat([vectors[:2], vectors[3:]])
        wanted = rasterize_motion_vectors_reference(others, 1, 32, 32)
        assert torch.equal(rasterize_motion_vectors(backend.tensor(vectors), 1, 32, 32).cpu(), wanted)
        return
    with pytest.raises(
        ValueError, match=r"rasterize_motion_vectors: vectors must have a source other than 0 .* in row 2"
    ):
        rasterize_motion_vectors(vectors, 1, 32, 32)


def test_empty_sizes(backend):
    vectors = backend.tensor(covering_vectors(1, 16, 16))
    assert rasterize_motion_vectors(vectors, 0, 16, 16).shape == (0, 2, 2, 2)
    assert rasterize_motion_vectors(vectors, 1, 0, 16).shape == (1, 2, 0, 2)
