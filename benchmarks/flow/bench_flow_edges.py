"""flow_edges beside plain PyTorch (slices, convolutions), torch.compile, SciPy, OpenCV, CuPy and kornia."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.peers import cupy_filters, optional
from motionops.flow.flow_edges import flow_edges, flow_edges_reference
from tests.flow.samples import flow_sample

kornia, scipy, cv2 = optional("kornia.filters"), optional("scipy.ndimage"), optional("cv2")
cupy = cupy_filters()

MAX_VALUE = 10.0


def _with_slices(flow):
    """The fastest eager form that we know: separable sums of slices of the padded magnitude, no copies to scale."""
    b, t, _, h, w = flow.shape
    magnitude = torch.hypot(flow[:, :, 0], flow[:, :, 1])
    m = F.pad(magnitude.view(b * t, 1, h, w), (1, 1, 1, 1), mode="replicate").view(b, t, h + 2, w + 2)
    difference = m[..., 2:] - m[..., :-2]
    smooth = (m[..., :-2] + m[..., 2:]).add_(m[..., 1:-1], alpha=2)
    gx = (difference[..., :-2, :] + difference[..., 2:, :]).add_(difference[..., 1:-1, :], alpha=2)
    gy = smooth[..., 2:, :] - smooth[..., :-2, :]
    return torch.hypot(gx, gy).clamp_(max=MAX_VALUE)


def _with_convolutions(flow):
    b, t, _, h, w = flow.shape
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=flow.dtype, device=flow.device)
    magnitude = torch.hypot(flow[:, :, 0], flow[:, :, 1]).view(b * t, 1, h, w)
    padded = F.pad(magnitude, (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, torch.stack([sobel, sobel.T])[:, None])
    return torch.hypot(slopes[:, 0], slopes[:, 1]).clamp_(max=MAX_VALUE).view(b, t, h, w)


def _with_kornia(flow):
    b, t, _, h, w = flow.shape
    magnitude = torch.hypot(flow[:, :, 0], flow[:, :, 1]).view(b * t, 1, h, w)
    slopes = kornia.spatial_gradient(magnitude, mode="sobel", normalized=False)
    return torch.hypot(slopes[:, 0, 0], slopes[:, 0, 1]).clamp_(max=MAX_VALUE).view(b, t, h, w)


def _with_scipy(flow):
    edges = []
    for u, v in flow.cpu().numpy().reshape(-1, *flow.shape[2:]):
        magnitude = np.hypot(u, v)
        gx, gy = (scipy.sobel(magnitude, axis=axis, mode="nearest") for axis in (1, 0))
        edges.append(np.minimum(np.hypot(gx, gy), MAX_VALUE))
    return torch.from_numpy(np.stack(edges)).view(*flow.shape[:2], *flow.shape[3:])


def _with_opencv(flow):
    edges = []
    for u, v in flow.cpu().numpy().reshape(-1, *flow.shape[2:]):
        magnitude = cv2.magnitude(u, v)
        gx, gy = (cv2.Sobel(magnitude, cv2.CV_32F, *step, borderType=cv2.BORDER_REPLICATE) for step in ((1, 0), (0, 1)))
        edges.append(cv2.min(cv2.magnitude(gx, gy), MAX_VALUE))
    return torch.from_numpy(np.stack(edges)).view(*flow.shape[:2], *flow.shape[3:])


def _with_cupy(flow):
    """The same filters on the GPU, on all frames at once; arrays are handed over by DLPack."""
    import cupy as cp

    u, v = cp.from_dlpack(flow[:, :, 0].contiguous()), cp.from_dlpack(flow[:, :, 1].contiguous())
    magnitude = cp.hypot(u, v)
    # Not its sobel(), which would smooth over time and videos too.
    smooth, slope = (cp.array(taps, dtype=magnitude.dtype) for taps in ([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]))
    gx, gy = (
        cupy.convolve1d(cupy.convolve1d(magnitude, smooth, across, mode="nearest"), slope, along, mode="nearest")
        for along, across in ((3, 2), (2, 3))
    )
    return torch.from_dlpack(cp.minimum(cp.hypot(gx, gy), MAX_VALUE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def bench_forward(comparison, dtype):
    on_gpu = comparison.device.type == "cuda"
    sizes = (64 if on_gpu else 8, 16, 2, 224, 224)
    flow = flow_sample(*sizes, dtype=dtype).to(comparison.device)
    compiled = torch.compile(flow_edges_reference, fullgraph=True)
    peers = {
        "eager, slices": lambda: _with_slices(flow),
        "eager, conv2d": lambda: _with_convolutions(flow),
        "torch.compile": lambda: compiled(flow),
    }
    if dtype == torch.float32:
        if kornia:
            peers["kornia"] = lambda: _with_kornia(flow)
        if cupy and comparison.device.type == "cuda":
            peers["CuPy"] = lambda: _with_cupy(flow)
        if scipy and comparison.device.type == "cpu":
            peers["SciPy"] = lambda: _with_scipy(flow)
        if cv2 and comparison.device.type == "cpu":
            cv2.setNumThreads(torch.get_num_threads())
            peers["OpenCV"] = lambda: _with_opencv(flow)
    comparison(
        f"{sizes} {str(dtype).removeprefix('torch.')}",
        ours=lambda: flow_edges(flow),
        reference=lambda: flow_edges_reference(flow.float()).to(dtype),
        peers=peers,
        # eager bfloat16 rounds every step
        atol=1e-4 if dtype == torch.float32 else 0.5,
        moved_bytes=flow.numel() // 2 * 3 * flow.element_size(),
        targets={"eager, slices": 5.0, "torch.compile": 1.3} if on_gpu else {"eager, slices": 6.0},
        aims={"of a copy": 0.85 if on_gpu else 0.6},
    )


def bench_forward_and_backward(comparison):
    sizes = (64 if comparison.device.type == "cuda" else 8, 16, 2, 112, 112)
    flow = flow_sample(*sizes).to(comparison.device).requires_grad_()
    weight = flow[:, :, 0].detach().contiguous()

    def step(function):
        return torch.autograd.grad(function(flow), flow, weight)

    def unclamped(function):
        # values beside the clamp fall to either side of it
        return lambda x: function(x, max_value=1e3)

    compiled = torch.compile(unclamped(flow_edges_reference), fullgraph=True)
    comparison(
        f"{sizes} float32, forward + backward",
        ours=lambda: step(unclamped(flow_edges)),
        reference=lambda: step(unclamped(flow_edges_reference)),
        peers={"eager": lambda: step(unclamped(flow_edges_reference)), "torch.compile": lambda: step(compiled)},
        # where an edge is near 0, its direction is the rounding's
        atol=1e-2,
        moved_bytes=flow.numel() // 2 * 8 * flow.element_size(),
    )
