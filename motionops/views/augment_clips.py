"""Cut clips out of videos and change how they look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from motionops.fake_kernels import register_shapes
from motionops.library import NAMESPACE, ops
from motionops.views import colour
from motionops.views.appearance import BRIGHTNESS, CONTRAST, HUE, NEUTRAL, SATURATION, Appearance
from motionops.views.checks import check_arguments

ADJUSTMENTS = {
    BRIGHTNESS: colour.brightness,
    CONTRAST: colour.contrast,
    SATURATION: colour.saturation,
    HUE: colour.hue,
}


def augment_clips(
    frames: Tensor | Sequence[Tensor],
    extents: Tensor | None,
    size: int | tuple[int, int],
    appearance: Appearance | None = None,
    *,
    mean: float | Sequence[float] | Tensor,
    std: float | Sequence[float] | Tensor,
    difference: bool = False,
    dtype: torch.dtype = torch.float32,
    blur_kernel: int | None = None,
) -> Tensor:
    """Cut each clip out of its video by its extent, resample it to one size and change its appearance.

    In this order: crop (bilinear, pixel centres at half-integers, edges clamped, shrinking does not smooth) and mirror;
    values / 255; the frame difference (x_t - x_{t-1} + 1) / 2, whose first frame wraps round to the last, if asked
    for; brightness, contrast, saturation, hue in each clip's own order, each as torchvision's ``adjust_*`` (the
    contrast's mean is that of each frame); grayscale; Gaussian blur (borders reflected); (x - mean) / std. One
    appearance a clip, the same for its frames.

    Args:
        frames: uint8 RGB ``[B, T, H, W, 3]``, or a sequence of B tensors ``[T, H_i, W_i, 3]``; any strides. A CUDA
            graph that has captured a sequence reads those very tensors at every replay.
        extents: ``[B, 3, 2]``, rows (t, y, x), columns (start, end); y and x are fractions of the picture, x with
            start > end is a mirror image, parts outside 0..1 repeat the edge. The t row is not looked at: the
            frames have been chosen. None: the whole picture.
        size: height and width of the result in pixels: one number for both, or (height, width).
        appearance: of B clips; None changes nothing.
        mean, std: of the normalisation of values in 0..1, one number or one a channel.
        difference: whether to take the frame difference.
        dtype: of the result: float32, bfloat16, float16 or float64; the arithmetic is in float32, or in float64 for
            float64.
        blur_kernel: odd width of the blur's kernel in pixels; by default 23 / 224 of the shorter side to the nearest
            odd number, at least 3 (1 where a side is a single pixel): 23 for 224, 11 for 112, 3 for 32.

    Returns:
        ``[B, 3, T, height, width]`` of ``dtype``, contiguous, on the frames' device. No gradients flow through it.

    Raises:
        TypeError: frames that are not uint8 tensors, a dtype that is not floating.
        ValueError: a shape, value or device that does not fit; the text says what was expected and what was given.
            The values of tensors are looked at on the CPU alone: on a GPU that would wait for them.
    """

    frames, extents, sides, appearance, mean, std, blur_kernel = check_arguments(
        frames, extents, size, appearance, mean, std, dtype, blur_kernel
    )
    look = (None,) * 4 if appearance is None else tuple(field.detach() for field in appearance.fields())
    videos = [frames] if isinstance(frames, Tensor) else frames
    return ops().augment_clips.default(
        videos, extents.detach(), *sides, *look, mean, std, bool(difference), dtype, blur_kernel
    )


def augment_clips_reference(
    frames: Tensor | Sequence[Tensor],
    extents: Tensor | None,
    size: int | tuple[int, int],
    appearance: Appearance | None = None,
    *,
    mean: float | Sequence[float] | Tensor,
    std: float | Sequence[float] | Tensor,
    difference: bool = False,
    dtype: torch.dtype = torch.float32,
    blur_kernel: int | None = None,
) -> Tensor:
    """:func:`augment_clips` in plain PyTorch: the definition of the operator. Arguments and errors are the same."""

    frames, extents, sides, appearance, mean, std, blur_kernel = check_arguments(
        frames, extents, size, appearance, mean, std, dtype, blur_kernel
    )
    working = torch.float64 if dtype == torch.float64 else torch.float32
    clips = _crop_all(frames, extents.to(working), sides)
    if difference:
        clips = (clips - clips.roll(1, dims=2)).add_(1).mul_(0.5)
    if appearance is not None:
        jitter = appearance.jitter.to(working)
        clips = _jitter(clips, jitter, appearance.order)
        _replace(clips, appearance.grayscale, lambda part, _: colour.gray(part).expand_as(part))
        sigma = appearance.blur_sigma.to(working)
        _replace(clips, sigma > 0, lambda part, chosen: _blur(part, sigma[chosen], blur_kernel))
    mean, std = (clips.new_tensor(value).view(3, 1, 1, 1) for value in (mean, std))
    return clips.sub_(mean).div_(std).to(dtype)


def _crop_all(frames: Tensor | list[Tensor], extents: Tensor, sides: tuple[int, int]) -> Tensor:
    """Values in 0..1, ``[B, 3, T, *sides]``."""
    if isinstance(frames, Tensor):
        return _crop(frames, extents, sides)
    length = len(frames[0]) if frames else 0
    clips = torch.empty(len(frames), 3, length, *sides, dtype=extents.dtype, device=extents.device)
    places: dict[torch.Size, list[int]] = {}
    for place, video in enumerate(frames):
        places.setdefault(video.shape, []).append(place)
    for chosen in places.values():  # videos of one size together
        clips[chosen] = _crop(torch.stack([frames[place] for place in chosen]), extents[chosen], sides)
    return clips


def _crop(frames: Tensor, extents: Tensor, sides: tuple[int, int]) -> Tensor:
    """Crop and mirror ``[B, T, H, W, 3]`` to values in 0..1 ``[B, 3, T, *sides]``."""
    batch, length, height, width, _ = frames.shape
    if batch == 0 or length == 0:
        return torch.empty(batch, 3, length, *sides, dtype=extents.dtype, device=frames.device)
    places = []  # [B, side] each; grid_sample's -1..1 are the edges
    for axis, side in zip((1, 2), sides, strict=True):
        centres = (torch.arange(side, dtype=extents.dtype, device=frames.device) + 0.5) / side
        start, end = extents[:, axis, :1], extents[:, axis, 1:]
        places.append(2 * (start + (end - start) * centres) - 1)
    y, x = places
    grid = torch.stack([x[:, None, :].expand(-1, sides[0], -1), y[:, :, None].expand(-1, -1, sides[1])], dim=-1)
    # Time and colour are both channels: the taps of a clip are worked out once for all of its frames.
    planes = torch.empty(batch, 3, length, height, width, dtype=extents.dtype, device=frames.device)
    planes.copy_(frames.permute(0, 4, 1, 2, 3))
    planes = planes.view(batch, 3 * length, height, width)
    clips = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return clips.div_(255).view(batch, 3, length, *sides)


def _jitter(clips: Tensor, jitter: Tensor, order: Tensor) -> Tensor:
    """Apply the four adjustments in each clip's own order; neutral factors are left out."""
    needed = jitter != jitter.new_tensor(NEUTRAL)
    for turn in order.unbind(1):
        for adjustment, adjust in ADJUSTMENTS.items():
            factor = jitter[:, adjustment]
            _replace(
                clips,
                (turn == adjustment) & needed[:, adjustment],
                lambda part, chosen, adjust=adjust, factor=factor: adjust(part, factor[chosen]),
            )
    return clips


def _replace(clips: Tensor, where: Tensor, change) -> None:
    """Replace the clips that ``where`` ``[B]`` chooses by ``change(clips, chosen)``, in place."""
    chosen = where.nonzero()[:, 0]
    if len(chosen):
        clips.index_copy_(0, chosen, change(clips.index_select(0, chosen), chosen))


def _blur(clips: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of ``[n, 3, T, H, W]`` with one sigma a clip, borders reflected.

    Blurring a line of S pixels, reflection included, is one S × S matrix, and a picture is multiplied by one from each
    side: two batched matrix products whatever the kernel.
    """
    count, *_, height, width = clips.shape
    rows = clips.flatten(1, 3) @ _blur_matrix(sigma, kernel, width).transpose(1, 2)
    return (_blur_matrix(sigma, kernel, height)[:, None] @ rows.view(count, -1, height, width)).view_as(clips)


def _blur_matrix(sigma: Tensor, kernel: int, size: int) -> Tensor:
    """``[n, size, size]``: what every pixel of a blurred line takes from every pixel of the line."""
    offsets = torch.arange(kernel, device=sigma.device) - kernel // 2
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    source = (torch.arange(size, device=sigma.device)[:, None] + offsets).abs()  # reflected at the first pixel
    source = torch.where(source >= size, 2 * (size - 1) - source, source)  # and at the last one
    matrix = weights.new_zeros(len(sigma), size, size)
    return matrix.scatter_add_(2, source.expand(len(sigma), -1, -1), weights[:, None].expand(-1, size, -1))


def register(namespace: str) -> None:
    """Register the shapes (fake kernel) of the operator in ``namespace``."""

    def shapes(frames, extents, height, width, *others):
        together = len(frames) == 1 and frames[0].ndim == 5
        batch = frames[0].shape[0] if together else len(frames)
        length = frames[0].shape[-4] if len(frames) else 0
        *_, dtype, _ = others
        return extents.new_empty(batch, 3, length, height, width, dtype=dtype)

    register_shapes(namespace, "augment_clips", shapes)


register(NAMESPACE)
