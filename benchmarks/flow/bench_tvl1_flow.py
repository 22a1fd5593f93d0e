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


@pytest.mark.parametrize("pairs", [1, 4])
def bench_forward(comparison, pairs):
    previous, following = (image.to(comparison.device) for image in image_pair(pairs, 224, 224, shift=(1, 2)))
    host = [image.cpu().numpy() for image in (previous, following)]

    def of_opencv():
        return torch.stack(
            [torch.from_numpy(opencv.calc(a, b, None)).movedim(-1, 0) for a, b in zip(*host, strict=True)]
        )

    def of_skimage():
        pairs_of_images = zip(*host, strict=True)
        flows = [skimage.optical_flow_tvl1(a, b, num_warp=5, num_iter=30, tol=0)[::-1] for a, b in pairs_of_images]
        return torch.from_numpy(np.stack(flows))

    peers = {"eager": lambda: tvl1_flow_reference(previous, following)}
    if hasattr(cv2, "optflow"):  # of opencv-contrib
        cv2.setNumThreads(torch.get_num_threads())
        opencv = cv2.optflow.createOptFlow_DualTVL1()
        opencv.setEpsilon(0)
        opencv.setInnerIterations(30)
        opencv.setOuterIterations(1)
        peers["OpenCV"] = of_opencv
    if skimage:
        peers["scikit-image"] = of_skimage
    comparison(
        f"{pairs} pairs of 224² uint8",
        ours=lambda: tvl1_flow(previous, following),
        reference=lambda: tvl1_flow_reference(previous, following).cpu(),
        peers=peers,
        rtol=0,
        atol=2.5,
        targets={"OpenCV": 4.0},
    )
