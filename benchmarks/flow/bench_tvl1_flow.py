"""tvl1_flow beside OpenCV's DualTVL1 at equal iterations and scikit-image's optical_flow_tvl1.

The peers have other borders, interpolation and pyramids, so single pixels near an edge may differ by pixels: the check
here only catches what is plainly wrong, and tests/flow/test_tvl1_accuracy.py compares errors.
"""

import numpy as np
import pytest
import torch

from benchmarks.peers import optional
from motionops.flow.tvl1_flow import tvl1_flow, tvl1_flow_reference
from tests.flow.samples import image_pair

cv2, skimage = optional("cv2"), optional("skimage.registration")


# Of one pixel in one iteration, as the definition has them, a root and a division counted once: the residual 4, the
# step 3, the flow with the divergence 14, the dual's differences 4, its denominators 12, its new values 12.
OPERATIONS = 4 + 3 + 14 + 4 + 12 + 12
SIDE, WARPS, ITERATIONS = 224, 5, 30
# Pairs that OpenCV computes of a batch that would take it minutes.
FEW = 2


def operations(pairs):
    """Of the iterations at the five scales; pyramid, warps and medians are not counted."""
    sides = [SIDE]
    while len(sides) < 5:
        sides.append(round(0.8 * sides[-1]))
    return OPERATIONS * pairs * WARPS * ITERATIONS * sum(side**2 for side in sides)


def flows_of_opencv(previous, following):
    flow = cv2.optflow.createOptFlow_DualTVL1()
    flow.setEpsilon(0)
    flow.setInnerIterations(ITERATIONS)
    flow.setOuterIterations(1)
    return torch.stack(
        [torch.from_numpy(flow.calc(a, b, None)).movedim(-1, 0) for a, b in zip(previous, following, strict=True)]
    )


@pytest.mark.parametrize("pairs", [1, 4])
def bench_forward(comparison, pairs):
    on_gpu = comparison.device.type == "cuda"
    previous, following = (image.to(comparison.device) for image in image_pair(pairs, SIDE, SIDE, shift=(1, 2)))
    host = [image.cpu().numpy() for image in (previous, following)]

    def of_skimage():
        pairs_of_images = zip(*host, strict=True)
        flows = [
            skimage.optical_flow_tvl1(a, b, num_warp=WARPS, num_iter=ITERATIONS, tol=0)[::-1]
            for a, b in pairs_of_images
        ]
        return torch.from_numpy(np.stack(flows))

    peers = {}
    # A GPU's run has little time, and its hours are not for peers on the CPU: bench_batch has OpenCV.
    if hasattr(cv2, "optflow") and not on_gpu:  # of opencv-contrib
        cv2.setNumThreads(torch.get_num_threads())
        peers["OpenCV"] = lambda: flows_of_opencv(*host)
    if skimage and not on_gpu:
        peers["scikit-image"] = of_skimage
    compare(comparison, previous, following, peers, targets={"OpenCV": 4.0})


def bench_batch(comparison):
    """As many pairs as a GPU wants at once; the aim of 128 ms is 2000 pairs a second."""
    if comparison.device.type != "cuda":
        pytest.skip("for a GPU")
    pairs = 256
    few = image_pair(FEW, SIDE, SIDE, shift=(1, 2))
    previous, following = (image.to(comparison.device).repeat(pairs // FEW, 1, 1) for image in few)
    peers = {}
    if hasattr(cv2, "optflow"):
        cv2.setNumThreads(1)
        host = [image.numpy() for image in few]
        peers["OpenCV, one core"] = lambda: flows_of_opencv(*host).repeat(pairs // FEW, 1, 1, 1)
    compare(
        comparison,
        previous,
        following,
        peers,
        targets={"OpenCV, one core": 500.0},
        aims={"ms": 128.0},
        portions={"OpenCV, one core": FEW / pairs},
    )


def compare(comparison, previous, following, peers, **wanted):
    """A batch of pairs beside its peers, which solve the same problem by other steps: within 2.5 pixels everywhere."""
    pairs = len(previous)
    comparison(
        f"{pairs} pairs of {SIDE}² uint8",
        ours=lambda: tvl1_flow(previous, following),
        reference=lambda: tvl1_flow_reference(previous, following).cpu(),
        peers={"eager": lambda: tvl1_flow_reference(previous, following), **peers},
        rtol=0,
        atol=2.5,
        operations=operations(pairs),
        **wanted,
    )
