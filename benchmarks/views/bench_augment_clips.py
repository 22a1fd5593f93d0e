"""augment_clips beside its definition, torch.compile of that, torchvision's transforms and kornia's."""

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.peers import optional
from motionops.views import Appearance, augment_clips, augment_clips_reference, sample_extents
from motionops.views.checks import default_blur_kernel

kornia, tv = optional("kornia"), optional("torchvision.transforms.functional")

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
GRAY = torch.tensor([0.2989, 0.587, 0.114])  # torchvision's weights
# the demo's step; clips of Kinetics, few and as many as a GPU is to take
SHAPES = [(32, 8, 40, 40, 32), (8, 16, 256, 340, 112), (64, 16, 256, 340, 112)]


def _sample(shape, device):
    """Videos and extents on the device, and the appearances that were drawn, on the CPU."""
    batch, length, height, width, _ = shape
    if shape == SHAPES[-1] and device.type != "cuda":
        pytest.skip("for a GPU")
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (batch, length, height, width, 3), dtype=torch.uint8, generator=generator)
    extents = sample_extents(
        batch, frames=length, frame_count=length, height=height, width=width, mirror=0.0, generator=generator
    )
    drawn = Appearance.sample(
        batch, jitter_probability=0.8, grayscale_probability=0.2, blur_probability=0.5, generator=generator
    )
    return frames.to(device), extents.to(device), drawn


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def bench_everything_on(comparison, shape):
    batch, length, height, width, size = shape
    frames, extents, drawn = _sample(shape, comparison.device)
    there = drawn.to(comparison.device)
    compiled = torch.compile(augment_clips_reference)

    def reference():
        return augment_clips_reference(frames, extents, size, there, mean=MEAN, std=STD)

    peers = {
        "eager": reference,
        "torch.compile": lambda: compiled(frames, extents, size, there, mean=MEAN, std=STD),
    }
    if tv:
        peers["torchvision, crop alike"] = lambda: _torchvision(frames, extents, size, drawn)
    if kornia:
        peers["kornia, crop alike"] = lambda: _kornia(frames, extents, size, drawn)
    comparison(
        f"B {batch}, T {length}, {height}×{width} to {size}², all on",
        ours=lambda: augment_clips(frames, extents, size, there, mean=MEAN, std=STD),
        reference=reference,
        peers=peers,
        # In units of 1 / std; torchvision's blur and hue round otherwise.
        atol=1 / 255 / min(STD),
        moved_bytes=frames.numel() + 4 * batch * 3 * length * size * size,
        targets=dict.fromkeys(("eager", "torchvision, crop alike", "kornia, crop alike"), 5.0),
        aims={"of a copy": 0.5} if shape == SHAPES[-1] else None,
    )


@pytest.mark.skipif(kornia is None, reason="kornia is not installed")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def bench_one_order(comparison, shape):
    """Colours change in one order for the whole batch, as kornia has it, which then needs no loop over clips."""
    batch, length, height, width, size = shape
    frames, extents, drawn = _sample(shape, comparison.device)
    order = drawn.order[0].tolist()
    there = replace(drawn, order=drawn.order[:1].expand(batch, -1).contiguous()).to(comparison.device)
    compiled = torch.compile(_kornia_in_a_batch)
    comparison(
        f"B {batch}, T {length}, {height}×{width} to {size}², all on, one order",
        ours=lambda: augment_clips(frames, extents, size, there, mean=MEAN, std=STD),
        reference=lambda: augment_clips_reference(frames, extents, size, there, mean=MEAN, std=STD),
        peers={
            "kornia, a batch": lambda: _kornia_in_a_batch(frames, extents, size, there, order),
            "kornia, a batch, torch.compile": lambda: compiled(frames, extents, size, there, order),
        },
        atol=1 / 255 / min(STD),
        moved_bytes=frames.numel() + 4 * batch * 3 * length * size * size,
        targets=dict.fromkeys(("kornia, a batch", "kornia, a batch, torch.compile"), 5.0),
    )


def _kornia_in_a_batch(frames, extents, size, appearance, order):
    """As `_kornia`, of all clips at once; what a clip has not is chosen away behind it."""
    batch, length = frames.shape[:2]
    centres = (torch.arange(size, device=frames.device) + 0.5) / size
    low, high = extents[:, 1:, :, None].unbind(2)
    y, x = (low + (high - low) * centres).unbind(1)
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    grid = (2 * grid - 1).repeat_interleave(length, 0)
    clips = frames.permute(0, 1, 4, 2, 3).flatten(0, 1).float().div(255)
    clips = torch.nn.functional.grid_sample(clips, grid, padding_mode="border", align_corners=False)

    def of_frames(values):
        return values.repeat_interleave(length, 0).view(-1, *[1] * 3)

    weights = GRAY.to(clips.device)
    for step in order:
        factor = appearance.jitter[:, step]
        if step == 3:
            changed = kornia.enhance.adjust_hue(clips, 2 * math.pi * factor.repeat_interleave(length, 0))
            clips = torch.where(of_frames(factor != 0), changed, clips)
            continue
        gray = kornia.color.rgb_to_grayscale(clips, weights)
        base = (0.0, gray.mean(dim=(-2, -1), keepdim=True), gray)[step]
        clips = torch.where(
            of_frames(factor != 1), (of_frames(factor) * clips + of_frames(1 - factor) * base).clamp(0, 1), clips
        )
    gray = kornia.color.rgb_to_grayscale(clips, weights)
    clips = torch.where(of_frames(appearance.grayscale), gray.expand_as(clips), clips)
    sigma, kernel = appearance.blur_sigma, default_blur_kernel(size)
    sigmas = sigma.clamp(min=1e-3).repeat_interleave(length, 0)[:, None].expand(-1, 2)
    blurred = kornia.filters.gaussian_blur2d(clips, (kernel, kernel), sigmas, separable=True)
    clips = torch.where(of_frames(sigma > 0), blurred, clips)
    mean, std = (torch.tensor(each, device=clips.device) for each in (MEAN, STD))
    clips = kornia.enhance.normalize(clips, mean, std)
    return clips.view(batch, length, *clips.shape[1:]).transpose(1, 2)


def _crop(video, extent, size):
    """One clip in 0..1, ``[T, 3, S, S]``: grid_sample, as both libraries round crops to whole pixels."""
    centres = (torch.arange(size, device=video.device) + 0.5) / size
    (y0, y1), (x0, x1) = extent[1:].tolist()
    y, x = torch.meshgrid(y0 + (y1 - y0) * centres, x0 + (x1 - x0) * centres, indexing="ij")
    grid = (2 * torch.stack([x, y], dim=-1) - 1).expand(len(video), -1, -1, -1)
    clip = video.permute(0, 3, 1, 2).float().div(255)
    return torch.nn.functional.grid_sample(clip, grid, padding_mode="border", align_corners=False)


def _kornia(frames, extents, size, appearance):
    """A loop over clips with kornia's functions where the formula is torchvision's: hue, blur; the rest by hand."""
    kernel = default_blur_kernel(size)
    clips = []
    for b, video in enumerate(frames):
        clip = _crop(video, extents[b], size)
        jitter = appearance.jitter[b].tolist()
        for step in appearance.order[b].tolist():
            factor = jitter[step]
            if factor == (0.0 if step == 3 else 1.0):
                continue
            if step == 3:
                clip = kornia.enhance.adjust_hue(clip, 2 * math.pi * factor)
                continue
            gray = kornia.color.rgb_to_grayscale(clip, GRAY.to(clip.device))
            base = (0.0, gray.mean(dim=(-2, -1), keepdim=True), gray)[step]
            clip = (factor * clip + (1 - factor) * base).clamp(0, 1)
        if appearance.grayscale[b]:
            clip = kornia.color.rgb_to_grayscale(clip, GRAY.to(clip.device)).expand(-1, 3, -1, -1)
        sigma = appearance.blur_sigma[b].item()
        if sigma > 0:
            clip = kornia.filters.gaussian_blur2d(clip, (kernel, kernel), (sigma, sigma), separable=True)
        clip = kornia.enhance.normalize(clip, torch.tensor(MEAN), torch.tensor(STD))
        clips.append(clip.transpose(0, 1))
    return torch.stack(clips)


def _torchvision(frames, extents, size, appearance):
    """A loop over clips: grid_sample crops (torchvision rounds to whole pixels), its transforms do the rest."""
    clips = []
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    kernel = default_blur_kernel(size)
    for b, video in enumerate(frames):
        clip = _crop(video, extents[b], size)
        if (appearance.jitter[b] != torch.tensor([1.0, 1.0, 1.0, 0.0])).any():
            for step in appearance.order[b].tolist():
                clip = steps[step](clip, appearance.jitter[b, step].item())
        if appearance.grayscale[b]:
            clip = tv.rgb_to_grayscale(clip, 3)
        if appearance.blur_sigma[b] > 0:
            clip = tv.gaussian_blur(clip, [kernel, kernel], [appearance.blur_sigma[b].item()] * 2)
        clips.append(tv.normalize(clip, MEAN, STD).transpose(0, 1))
    return torch.stack(clips)
