"""motion_map beside plain PyTorch, torch.compile, OpenCV, CuPy and kornia, whole and averaged over a grid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.peers import cupy_filters, optional
from motionops.flow.motion_map import motion_map, motion_map_reference
from tests.flow.samples import flow_sample

kornia, cv2, cupy = optional("kornia.filters"), optional("cv2"), cupy_filters()
GRID = (4, 7, 7)


def _averaged(motion, grid):
    if grid is None:
        return motion
    split = [n for size, cells in zip(motion.shape[1:], grid, strict=True) for n in (cells, size // cells)]
    return motion.view(motion.shape[0], *split).mean(dim=(2, 4, 6))


def _with_slices(flow, grid=None):
    b, t, c, h, w = flow.shape
    f = F.pad(flow.reshape(b * t, c, h, w), (1, 1, 1, 1), mode="replicate")
    across = f[..., 1:-1, 2:] - f[..., 1:-1, :-2]
    down = f[..., 2:, 1:-1] - f[..., :-2, 1:-1]
    motion = (across.square_() + down.square_()).sum(dim=1).sqrt_().div_(2).view(b, t, h, w)
    return _averaged(motion, grid)


def _with_kornia(flow, grid=None):
    b, t, c, h, w = flow.shape
    slopes = kornia.spatial_gradient(flow.view(b * t, c, h, w), mode="diff", normalized=False)
    motion = slopes.square().sum(dim=(1, 2)).sqrt().div(2).view(b, t, h, w)
    return _averaged(motion, grid)


def _with_opencv(flow, grid=None):
    """A frame and a direction at a time: Sobel's filter of size 1 is the difference of the two neighbours."""
    b, t, c, h, w = flow.shape
    maps = []
    for frame in flow.cpu().numpy().reshape(-1, c, h, w):
        slopes = [
            cv2.Sobel(component, cv2.CV_32F, *step, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
            for component in frame
            for step in ((1, 0), (0, 1))
        ]
        maps.append(cv2.magnitude(cv2.magnitude(*slopes[:2]), cv2.magnitude(*slopes[2:])))
    return _averaged(torch.from_numpy(np.stack(maps)).view(b, t, h, w), grid)


def _with_cupy(flow, grid=None):
    """Filters of all frames at once, on the GPU; arrays are handed over by DLPack."""
    import cupy as cp

    array = cp.from_dlpack(flow)
    taps = cp.array([0.5, 0.0, -0.5], dtype=array.dtype)
    across, down = (cupy.convolve1d(array, taps, axis, mode="nearest") for axis in (4, 3))
    motion = cp.sqrt((across**2 + down**2).sum(axis=2))
    return _averaged(torch.from_dlpack(motion), grid)


@pytest.mark.parametrize("grid", [None, GRID], ids=["whole", "grid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def bench_forward(comparison, dtype, grid):
    on_gpu = comparison.device.type == "cuda"
    sizes = (64 if on_gpu else 8, 16, 2, 224, 224)
    flow = flow_sample(*sizes, dtype=dtype).to(comparison.device)
    compiled = torch.compile(motion_map_reference, fullgraph=True)
    peers = {
        "eager, slices": lambda: _with_slices(flow, grid),
        "torch.compile": lambda: compiled(flow, grid=grid),
    }
    if dtype == torch.float32:
        if kornia:
            peers["kornia"] = lambda: _with_kornia(flow, grid)
        if cupy and on_gpu:
            peers["CuPy"] = lambda: _with_cupy(flow, grid)
        if cv2 and not on_gpu:
            cv2.setNumThreads(torch.get_num_threads())
            peers["OpenCV"] = lambda: _with_opencv(flow, grid)
    comparison(
        f"{sizes} {str(dtype).removeprefix('torch.')}" + (f", grid {grid}" if grid else ""),
        ours=lambda: motion_map(flow, grid=grid),
        reference=lambda: motion_map_reference(flow.float(), grid=grid).to(dtype),
        peers=peers,
        # eager bfloat16 rounds every step
        atol=1e-4 if dtype == torch.float32 else 0.25,
        moved_bytes=flow.numel() * flow.element_size() + (0 if grid else flow.numel() // 2 * flow.element_size()),
        targets={"eager, slices": 5.0, "torch.compile": 1.3} if on_gpu else {"torch.compile": 3.0},
        aims={"of a copy": 0.85} if on_gpu else None,
    )


@pytest.mark.parametrize("grid", [None, GRID], ids=["whole", "grid"])
def bench_forward_and_backward(comparison, grid):
    sizes = (64 if comparison.device.type == "cuda" else 8, 16, 2, 112, 112)
    flow = flow_sample(*sizes).to(comparison.device).requires_grad_()
    weight = torch.randn_like(motion_map(flow, grid=grid))

    def step(function):
        return torch.autograd.grad(function(flow, grid=grid), flow, weight)

    compiled = torch.compile(motion_map_reference, fullgraph=True)
    comparison(
        f"{sizes} float32, forward + backward" + (f", grid {grid}" if grid else ""),
        ours=lambda: step(motion_map),
        reference=lambda: step(motion_map_reference),
        peers={"eager": lambda: step(motion_map_reference), "torch.compile": lambda: step(compiled)},
        moved_bytes=flow.numel() * 4 * flow.element_size(),
    )
