"""The end-point error of tvl1_flow where the true flow is known, beside OpenCV's DualTVL1 at equal parameters.

Equal iterations: OpenCV with epsilon 0, innerIterations 30 and outerIterations 1, so that both filter by the median
once per warp. Run with `-s` to see the table of docs/results.md.
"""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from motionops.flow.tvl1_flow import tvl1_flow
from motionops.video.moving_shapes import scene
from tests.flow.samples import texture

cv2 = pytest.importorskip("cv2")
if not hasattr(cv2, "optflow"):
    pytest.skip("this OpenCV has no optflow module (opencv-contrib)", allow_module_level=True)

SIZE, MARGIN = 160, 24


def warped_pair(move):
    """A texture and the same moved: `move(x, y)` says by how much (u, v) the content at (x, y) of the first moves.

    The first is sampled from the second, `first(x) = second(x + u)`, so that the flow is exact.
    """
    second = texture(SIZE + 2 * MARGIN, SIZE + 2 * MARGIN, seed=3).double().numpy()
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    u, v = move(x - (SIZE - 1) / 2, y - (SIZE - 1) / 2)
    first = map_coordinates(second, [y + v + MARGIN, x + u + MARGIN], order=3, mode="nearest")
    inner = second[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return first, inner, np.stack([u + 0 * x, v + 0 * x])


def shift(pixels):
    return lambda x, y: (0.8 * pixels, -0.6 * pixels)


def rotation(pixels):
    """`pixels` at the middle of an edge."""
    angle = pixels / (SIZE / 2)
    c, s = math.cos(angle), math.sin(angle)
    return lambda x, y: (c * x - s * y - x, s * x + c * y - y)


def zoom(pixels):
    return lambda x, y: (x * pixels / (SIZE / 2), y * pixels / (SIZE / 2))


def occlusion(pixels):
    """A textured square over a background that moves the other way."""
    background, square = texture(200, 200, seed=5).numpy(), texture(60, 60, seed=6, detail=4).numpy()
    first, second = background[16:176, 16:176].copy(), background[16:176, 18:178].copy()
    first[50:110, 50:110] = square
    second[50:110, 50 + pixels : 110 + pixels] = square
    flow = np.zeros((2, SIZE, SIZE))
    flow[0] = -2
    flow[0, 50:110, 50:110] = pixels
    return first, second, flow


MOVES = (shift, rotation, zoom)
CASES = {
    **{f"{move.__name__} {pixels} px": warped_pair(move(pixels)) for move in MOVES for pixels in (1, 2, 4, 8)},
    **{f"occlusion {pixels} px": occlusion(pixels) for pixels in (2, 4)},
}


def opencv_flow(first, second):
    solver = cv2.optflow.createOptFlow_DualTVL1()
    solver.setEpsilon(0)
    solver.setInnerIterations(30)
    solver.setOuterIterations(1)
    return solver.calc(first, second, None).transpose(2, 0, 1)


def errors(first, second, flow):
    first, second = (np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (first, second))
    ours = tvl1_flow(first[None], second[None])[0].numpy()
    return tuple(float(np.hypot(*(found - flow)).mean()) for found in (ours, opencv_flow(first, second)))


@pytest.mark.parametrize("case", CASES)
def test_known_motion(case):
    ours, theirs = errors(*CASES[case])
    print(f"\n| {case} | {ours:.4f} | {theirs:.4f} |")
    assert ours <= 1.05 * theirs


def test_moving_shapes():
    found = []
    for number in range(8):
        video = scene("test", number, size=112, frames=8)
        frames = torch.as_tensor(video.render()).float()
        grey = (frames @ torch.tensor([0.299, 0.587, 0.114])).round().byte().numpy()
        flow = np.asarray(video.flow())
        found += [errors(grey[t], grey[t + 1], flow[t]) for t in range(0, 7, 3)]
    ours, theirs = np.mean(found, axis=0)
    print(f"\n| MovingShapes | {ours:.4f} | {theirs:.4f} |")
    assert ours <= 1.05 * theirs
