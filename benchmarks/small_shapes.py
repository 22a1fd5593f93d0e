"""Every operator once, forward and backward, on small odd shapes: what compute-sanitizer watches.

python -m benchmarks.small_shapes [--device cuda]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

import motionops
from tests.codec.samples import covering_vectors
from tests.contrast.samples import pairwise_sample, pixel_sample, queue_sample, random_extents, unit_rows
from tests.flow.samples import clip_sample, flow_sample, image_pair
from tests.layers.samples import features_sample

Case = Callable[[torch.device], None]


def moved(sample: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Arguments on the device."""
    return {name: value.to(device) for name, value in sample.items()}


def with_gradients(operator: Callable, sample: dict[str, Tensor], wanted: tuple[str, ...], **arguments) -> None:
    """Call an operator and differentiate its first output."""
    for name in wanted:
        sample[name].requires_grad_()
    result = operator(**sample, **arguments)
    result = getattr(result, "loss", getattr(result, "output", result))
    torch.autograd.grad(result.sum(), [sample[name] for name in wanted])


def queue_infonce(device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        sample = moved(queue_sample(5, 37, 19, extra_rows=3, ids=True, dtype=dtype), device)
        with_gradients(motionops.queue_infonce, sample, ("query", "key"))
        with_gradients(motionops.queue_infonce, moved(queue_sample(17, 129, 64, dtype=dtype), device), ("query", "key"))


def pairwise_infonce(device: torch.device) -> None:
    for rows, keys, dim in ((5, 9, 19), (33, 65, 64)):
        with_gradients(motionops.pairwise_infonce, moved(pairwise_sample(rows, keys, dim), device), ("query", "key"))


def pixel_contrast(device: torch.device) -> None:
    sample = moved(pixel_sample(2, 3, 3, 5, 19, negative_rows=11, masks=True), device)
    with_gradients(motionops.pixel_contrast, sample, ("query", "key"), radius=0.7)


def region_contrast(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    sample = {
        "query": unit_rows(2, 2, 1, 3, 3, 19, generator=generator),
        "key": unit_rows(2, 2, 3, 3, 19, generator=generator),
        "query_extent": torch.stack([random_extents(2, generator) for _ in range(2)], dim=1).float(),
        "key_extent": random_extents(2, generator).float(),
    }
    with_gradients(motionops.region_contrast, moved(sample, device), ("query", "key"))


def soft_correspondence(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (random_extents(3, generator).float().to(device) for _ in range(2))
    motionops.soft_correspondence(query, key, (2, 3, 3), (1, 5, 3))


def ghost_batch_norm(device: torch.device) -> None:
    for channels, relu in ((5, False), (16, True), (1160, True)):
        sample = {"input": features_sample(5, channels, 2, 3, 3), "residual": features_sample(5, channels, 2, 3, 3)}
        sample |= {"weight": torch.rand(channels), "bias": torch.rand(channels)}
        names = tuple(sample)
        with_gradients(motionops.ghost_batch_norm, moved(sample, device), names, groups=[2, 3], relu=relu)
        del sample["residual"]
        with_gradients(motionops.ghost_batch_norm, moved(sample, device), names[:1], groups=[2, 3], relu=relu)


def flow_edges(device: torch.device) -> None:
    with_gradients(motionops.flow_edges, {"flow": flow_sample(2, 3, 2, 7, 13).to(device)}, ("flow",))


def motion_map(device: torch.device) -> None:
    for grid in (None, (2, 3, 5)):
        with_gradients(motionops.motion_map, {"flow": flow_sample(2, 4, 2, 9, 15).to(device)}, ("flow",), grid=grid)


def frame_difference(device: torch.device) -> None:
    with_gradients(motionops.frame_difference, {"clip": clip_sample(2, 3, 4, 7, 13).to(device)}, ("clip",))


def tvl1_flow(device: torch.device) -> None:
    previous, following = (image.to(device) for image in image_pair(2, 33, 41, shift=(1, 1)))
    motionops.tvl1_flow(previous, following, iterations=4, warps=2, scales=2)


def augment_clips(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (2, 3, 19, 23, 3), dtype=torch.uint8, generator=generator).to(device)
    where = random_extents(2, generator).float().to(device)
    looks = motionops.Appearance.sample(
        2, jitter_probability=1.0, grayscale_probability=0.5, blur_probability=1.0, generator=generator
    )
    looks = looks.to(device)
    for difference in (False, True):
        motionops.augment_clips(frames, where, 13, looks, mean=0.4, std=0.2, difference=difference)


def rasterize_motion_vectors(device: torch.device) -> None:
    motionops.rasterize_motion_vectors(covering_vectors(3, 48, 64).to(device), 3, 48, 64, cell=8)


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        queue_infonce,
        pairwise_infonce,
        pixel_contrast,
        region_contrast,
        soft_correspondence,
        ghost_batch_norm,
        flow_edges,
        motion_map,
        frame_difference,
        tvl1_flow,
        augment_clips,
        rasterize_motion_vectors,
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description="Every operator on small shapes.")
    parser.add_argument("--device", default="cuda", type=torch.device)
    device = parser.parse_args(arguments).device
    for name, case in CASES.items():
        case(device)
        if device.type == "cuda":
            torch.cuda.synchronize()  # an error is then of this operator
        print(name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
