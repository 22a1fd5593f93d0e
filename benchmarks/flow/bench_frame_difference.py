"""frame_difference beside plain PyTorch and torch.compile."""

import pytest
import torch

from motionops.flow.frame_difference import frame_difference, frame_difference_reference
from tests.flow.samples import clip_sample


@pytest.mark.parametrize("layout", ["contiguous", "frames first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def bench_forward(comparison, dtype, layout):
    sizes = (16, 3, 16, 112, 112)
    clip = clip_sample(*sizes, dtype=dtype, layout=layout).to(comparison.device)
    comparison(
        f"{sizes} {str(dtype).removeprefix('torch.')}, {layout}",
        ours=lambda: frame_difference(clip),
        reference=lambda: frame_difference_reference(clip.double()).to(dtype),
        peers={
            "eager": lambda: frame_difference_reference(clip),
            "torch.compile": _compiled(clip),
        },
        rtol=0,
        atol=2 * torch.finfo(dtype).eps,
        moved_bytes=2 * clip.numel() * clip.element_size(),
        targets={"eager": 2.0},
    )


def _compiled(clip):
    function = torch.compile(frame_difference_reference, fullgraph=True)
    return lambda: function(clip)


def bench_forward_and_backward(comparison):
    sizes = (16, 3, 16, 112, 112)
    clip = clip_sample(*sizes).to(comparison.device).requires_grad_()
    weight = torch.randn_like(clip)

    def step(function):
        return torch.autograd.grad(function(clip), clip, weight)

    compiled = torch.compile(frame_difference_reference, fullgraph=True)
    comparison(
        f"{sizes} float32, forward + backward",
        ours=lambda: step(frame_difference),
        reference=lambda: step(frame_difference_reference),
        peers={"eager": lambda: step(frame_difference_reference), "torch.compile": lambda: step(compiled)},
        moved_bytes=4 * clip.numel() * clip.element_size(),
        targets={"eager": 2.0},
    )
