"""augment_clips against torchvision's transforms and against a crop written out tap by tap."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv

import motionops
from motionops.views import Appearance, augment_clips_reference, sample_extents
from motionops.views.checks import default_blur_kernel

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
STEP = 1 / 255
SIZE = 18

pytestmark = pytest.mark.usefixtures("on_backend")
device = torch.device("cpu")  # of the backend that a test runs on


@pytest.fixture
def on_backend(backend):
    """Let ``augment_clips`` below run on a backend."""
    global device
    device = backend.device
    yield
    device = torch.device("cpu")


def there(value):
    """Tensors, in lists too, on the backend's device."""
    if isinstance(value, Appearance):
        return value.to(device)
    if isinstance(value, list):
        return [there(item) for item in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def augment_clips(frames, extents, size, appearance=None, **options):
    if device.type == "cuda":
        frames = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames
    return motionops.augment_clips(there(frames), there(extents), size, there(appearance), **options).cpu()


def crop_by_hand(frames, extent, size):
    """float64 [T, 3, height, width] in 0..1: four taps a pixel, worked out per axis from the extent's definition."""

    def taps(start, end, length, size):
        centre = (start + (end - start) * (torch.arange(size, dtype=torch.float64) + 0.5) / size) * length - 0.5
        centre = centre.clamp(0, length - 1)
        low = centre.floor().long()
        return low, (low + 1).clamp(max=length - 1), centre - low

    pictures = frames.permute(0, 3, 1, 2).double() / 255
    height, width = size if isinstance(size, tuple) else (size, size)
    y0, y1, wy = taps(*extent[1].double(), frames.shape[1], height)
    x0, x1, wx = taps(*extent[2].double(), frames.shape[2], width)
    rows = pictures[:, :, y0] * (1 - wy)[:, None] + pictures[:, :, y1] * wy[:, None]
    return rows[..., x0] * (1 - wx) + rows[..., x1] * wx


def expected(frames, extents, size, appearance=None, difference=False, kernel=None):
    """float32 [B, 3, T, height, width] before normalisation, clip by clip with torchvision."""
    clips = []
    for b in range(len(frames)):
        clip = crop_by_hand(frames[b], extents[b], size)
        if difference:
            clip = torch.stack([(clip[t] - clip[t - 1] + 1) / 2 for t in range(len(clip))])  # t = 0 meets the last
        clip = clip.float()
        if appearance is not None:
            for step in appearance.order[b].tolist():
                adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[step]
                clip = adjust(clip, appearance.jitter[b, step].item())
            if appearance.grayscale[b]:
                clip = tv.rgb_to_grayscale(clip, 3)
            sigma = appearance.blur_sigma[b].item()
            if sigma > 0:
                kernel = kernel or default_blur_kernel(min(size) if isinstance(size, tuple) else size)
                clip = tv.gaussian_blur(clip, [kernel, kernel], [sigma, sigma])
        clips.append(clip.permute(1, 0, 2, 3))
    return torch.stack(clips)


def run(frames, extents, size, appearance=None, **options):
    """augment_clips with the normalisation undone."""
    clips = augment_clips(frames, extents, size, appearance, mean=MEAN, std=STD, **options)
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (MEAN, STD))
    return clips * std + mean


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (6, 5, 20, 26, 3), dtype=torch.uint8, generator=generator)
    extents = sample_extents(6, frames=5, frame_count=9, height=20, width=26, generator=generator)
    return frames, extents


def appearance_with(batch, **fields):
    return replace(Appearance.neutral(batch), **fields)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 7, 5), (3, 2, 40, 40), (0, 4, 8, 8), (2, 0, 8, 8)])
@pytest.mark.parametrize("size", [1, 2, 9, 32])
@pytest.mark.parametrize("difference", [False, True])
def test_shapes(shape, size, difference):
    frames = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8)
    extents = sample_extents(shape[0], frames=1, frame_count=1)
    appearance = Appearance.sample(shape[0], jitter_probability=1, grayscale_probability=0.5, blur_probability=1)
    clips = run(frames, extents, size, appearance, difference=difference)
    assert clips.shape == (shape[0], 3, shape[1], size, size)
    if clips.numel() and size > 1:
        assert (clips - expected(frames, extents, size, appearance, difference)).abs().max() < STEP


def test_crop_by_hand():
    # One row of four pixels; the left half, resampled to two pixels, is the first two pixels themselves.
    row = torch.tensor([10, 20, 60, 100], dtype=torch.uint8).view(1, 1, 1, 4, 1).expand(1, 1, 2, 4, 3)

    def crop(start, end, size=2):
        extents = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [start, end]]])
        return (augment_clips(row, extents, size, mean=0, std=1) * 255)[0, 0, 0, 0].tolist()

    assert crop(0.0, 0.5) == pytest.approx([10, 20])
    assert crop(0.5, 0.0) == pytest.approx([20, 10])  # mirrored
    assert crop(0.125, 0.625) == pytest.approx([15, 40])  # half a pixel further
    assert crop(0.0, 1.0) == pytest.approx([15, 80])  # between two pixels each
    assert crop(-0.5, 0.5) == pytest.approx([10, 15])  # outside: the edge, repeated
    assert crop(0.0, 1.0, 4) == pytest.approx([10, 20, 60, 100])


@pytest.mark.every_simd_target
def test_crop(batch):
    frames, extents = batch
    assert (run(frames, extents, SIZE) - expected(frames, extents, SIZE)).abs().max() < 0.01 * STEP


def test_crop_of_whole_picture_is_torchvisions_resize(batch):
    frames, _ = batch
    whole = torch.tensor([[0.0, 5.0], [0.0, 1.0], [0.0, 1.0]]).expand(6, 3, 2)
    resized = tv.resize(frames.permute(0, 1, 4, 2, 3).flatten(0, 1).float() / 255, [SIZE, SIZE], antialias=False)
    got = run(frames, whole, SIZE).transpose(1, 2).flatten(0, 1)
    assert (got - resized).abs().max() < 0.01 * STEP


def test_mirror_is_the_flipped_crop(batch):
    frames, extents = batch
    mirrored = extents.clone()
    mirrored[:, 2] = extents[:, 2].flip(-1)
    torch.testing.assert_close(run(frames, mirrored, SIZE), run(frames, extents, SIZE).flip(-1))


def test_difference_wraps_round(batch):
    frames, extents = batch
    clips = run(frames, extents, SIZE)
    torch.testing.assert_close(
        run(frames, extents, SIZE, difference=True)[:, :, 0], (clips[:, :, 0] - clips[:, :, -1] + 1) / 2
    )
    assert (
        run(frames, extents, SIZE, difference=True) - expected(frames, extents, SIZE, difference=True)
    ).abs().max() < (0.01 * STEP)


@pytest.mark.every_simd_target
@pytest.mark.parametrize("difference", [False, True])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("brightness", [0.0, 0.5, 1.0, 1.3, 2.5, 1.0]),
        ("contrast", [0.0, 0.5, 1.0, 1.3, 2.5, 1.0]),
        ("saturation", [0.0, 0.5, 1.0, 1.3, 2.5, 1.0]),
        ("hue", [-0.5, -0.1, 0.0, 0.1, 0.5, 0.0]),
    ],
)
def test_each_adjustment_alone(batch, name, values, difference):
    frames, extents = batch
    appearance = Appearance.neutral(6)
    appearance.jitter[:, ("brightness", "contrast", "saturation", "hue").index(name)] = torch.tensor(values)
    got = run(frames, extents, SIZE, appearance, difference=difference)
    assert (got - expected(frames, extents, SIZE, appearance, difference)).abs().max() < 0.1 * STEP


def test_hue_of_grey_black_and_pure_colours():
    colours = torch.tensor(
        [
            [0, 0, 0],
            [255, 255, 255],
            [128, 128, 128],
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [255, 255, 0],
            [0, 255, 255],
        ],
        dtype=torch.uint8,
    )
    frames = colours.view(1, 1, 1, 8, 3).expand(1, 1, 8, 8, 3)
    extents = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]])
    for shift in (-0.5, -0.25, 1 / 3, 0.5):
        appearance = Appearance.neutral(1)
        appearance.jitter[0, 3] = shift
        got = run(frames, extents, 8, appearance)
        assert (got - expected(frames, extents, 8, appearance)).abs().max() < 0.1 * STEP
    turned = Appearance.neutral(1)
    turned.jitter[0, 3] = 1 / 3
    torch.testing.assert_close(
        run(frames, extents, 8, turned)[0, :, 0, 0, 3], torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0
    )


def test_grayscale_and_blur_alone(batch):
    frames, extents = batch
    grey = appearance_with(6, grayscale=torch.tensor([True, False] * 3))
    assert (run(frames, extents, SIZE, grey) - expected(frames, extents, SIZE, grey)).abs().max() < 0.1 * STEP
    blurred = appearance_with(6, blur_sigma=torch.tensor([0.0, 0.1, 0.5, 1.0, 2.0, 8.0]))
    for kernel in (1, 3, 9, 23, 35):
        got = run(frames, extents, SIZE, blurred, blur_kernel=kernel)
        assert (got - expected(frames, extents, SIZE, blurred, kernel=kernel)).abs().max() < 0.1 * STEP


@pytest.mark.parametrize("difference", [False, True])
def test_all_together_in_every_order(difference):
    generator = torch.Generator().manual_seed(1)
    orders = torch.tensor([[a, b, c, d] for a in range(4) for b in range(4) for c in range(4) for d in range(4)])
    orders = orders[(orders.sort(dim=1).values == torch.arange(4)).all(dim=1)]
    frames = torch.randint(0, 256, (24, 3, 24, 20, 3), dtype=torch.uint8, generator=generator)
    extents = sample_extents(24, frames=3, frame_count=3, height=24, width=20, generator=generator)
    drawn = Appearance.sample(
        24, jitter_probability=1, grayscale_probability=0.2, blur_probability=0.5, generator=generator
    )
    drawn = replace(drawn, order=orders)
    got = run(frames, extents, SIZE, drawn, difference=difference)
    assert (got - expected(frames, extents, SIZE, drawn, difference)).abs().max() < STEP


def test_default_kernel_is_the_released_one_scaled():
    assert [default_blur_kernel(size) for size in (224, 112, 128, 32, 16, 2, 1)] == [23, 11, 13, 3, 3, 3, 1]


def test_a_clip_depends_on_itself_alone(batch):
    frames, extents = batch
    appearance = Appearance.sample(6, jitter_probability=0.8, blur_probability=0.5)
    together = run(frames, extents, SIZE, appearance)
    for b in range(6):
        alone = run(frames[b : b + 1], extents[b : b + 1], SIZE, appearance[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-6, rtol=0)


def test_videos_of_several_sizes():
    shapes = [(20, 26), (31, 17), (20, 26), (5, 5)]
    frames = [torch.randint(0, 256, (4, h, w, 3), dtype=torch.uint8) for h, w in shapes]
    extents = sample_extents(4, frames=4, frame_count=4)
    appearance = Appearance.sample(4, jitter_probability=0.8)
    got = run(frames, extents, SIZE, appearance)
    assert (got - expected(frames, extents, SIZE, appearance)).abs().max() < STEP
    assert augment_clips([], torch.empty(0, 3, 2), SIZE, mean=0, std=1).shape == (0, 3, 0, SIZE, SIZE)


def test_size_may_be_an_integer_of_numpy(batch):
    frames, extents = batch
    for size in (1, 5):
        got = augment_clips(frames, extents, np.int64(size), mean=0.0, std=1.0)
        assert torch.equal(got, augment_clips(frames, extents, size, mean=0.0, std=1.0))


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(batch, dtype):
    frames, extents = batch
    appearance = Appearance.sample(6, jitter_probability=1, generator=torch.Generator().manual_seed(0))
    clips = augment_clips(frames, extents, SIZE, appearance, mean=MEAN, std=STD, dtype=dtype)
    assert clips.dtype == dtype
    assert clips.is_contiguous()
    exact = augment_clips(frames, extents, SIZE, appearance, mean=MEAN, std=STD)
    torch.testing.assert_close(clips.float(), exact, atol=1e-4 if dtype == torch.float64 else 4e-2, rtol=0)


def test_normalisation(batch):
    frames, extents = batch
    raw = augment_clips(frames, extents, SIZE, mean=0.0, std=1.0)
    assert raw.min() >= 0
    assert raw.max() <= 1
    for mean, std in ((0.5, 0.25), ([0.5], [0.25]), (torch.tensor([0.5] * 3), torch.tensor([0.25] * 3))):
        torch.testing.assert_close(augment_clips(frames, extents, SIZE, mean=mean, std=std), (raw - 0.5) / 0.25)


def test_a_launcher_trusts_no_value(backend, batch):
    """NaN places and unknown steps: the public function refuses them on the CPU; the kernel stays in its memory."""
    frames, _ = batch
    nan = torch.full((6, 3, 2), float("nan"))
    steps = torch.full((6, 4), 7)
    look = (torch.full((6, 4), 2.0), steps, torch.zeros(6, dtype=torch.bool), torch.full((6,), float("nan")))
    operands = [there(value) for value in ([frames], nan, *look)]
    clips = backend.ops.augment_clips(
        operands[0], operands[1], SIZE, SIZE, *operands[2:], [0.0] * 3, [1.0] * 3, False, torch.float32, 3
    )
    assert clips.shape == (6, 3, 5, SIZE, SIZE)


def sample_operands(listed=False, appearance=True, dtype=torch.float32, kernel=3):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 9, 14, 3), (3, 6, 5, 3)] if listed else [(2, 3, 9, 14, 3)]
    frames = [torch.randint(256, shape, dtype=torch.uint8, generator=generator) for shape in shapes]
    extents = sample_extents(2, frames=3, frame_count=3, generator=generator)
    look = Appearance.sample(2, jitter_probability=1, blur_probability=0.5, generator=generator)
    fields = look.fields() if appearance else (None,) * 4
    operands = (frames, extents, 6, 6, *fields, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3], True, dtype, kernel)
    return tuple(there(value) for value in operands)


@pytest.mark.parametrize(
    ("place", "value", "error", "text"),
    [
        (0, [torch.zeros(2, 3, 9, 14, 4, dtype=torch.uint8)], ValueError, r"frames must be \[B, T, H, W, 3\]"),
        (0, [torch.zeros(2, 3, 9, 14, 3)], TypeError, "frames must be uint8, got float32"),
        (0, [torch.zeros(3, 9, 4, 3, dtype=torch.uint8)] * 3, ValueError, r"extents must be \[B=3, 3, 2\]"),
        (
            0,
            [torch.zeros(length, 9, 4, 3, dtype=torch.uint8) for length in (3, 4)],
            ValueError,
            "frames must be of T=3 frames",
        ),
        (1, torch.zeros(2, 3, 2, dtype=torch.int64), TypeError, "extents must be float32"),
        (2, 0, ValueError, r"size must be in \[1, 2\^15\), got 0 x 6"),
        (3, 1 << 15, ValueError, r"size must be in \[1, 2\^15\), got 6 x 32768"),
        (5, None, ValueError, "order must be given together with jitter"),
        (6, torch.zeros(3, dtype=torch.bool), ValueError, r"grayscale must be \[2\], got \[3\]"),
        (8, [0.0], ValueError, "mean and std must be 3 numbers, got 1 and 3"),
        (11, torch.int32, TypeError, "dtype must be float32, float64, bfloat16 or float16, got int32"),
        (12, 4, ValueError, "blur_kernel must be odd"),
    ],
)
def test_the_raw_operator_checks_shapes(backend, place, value, error, text):
    operands = list(sample_operands())
    operands[place] = there(value)
    with pytest.raises(error, match=f"^augment_clips: .*{text}"):
        backend.ops.augment_clips(*operands)


@pytest.mark.every_simd_target
@pytest.mark.parametrize("kernel", [None, 1, 35, 63, 127])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_definition(dtype, kernel):
    """Views of several tiles, and kernels that are too wide for a tile."""
    generator = torch.Generator().manual_seed(4)
    frames = torch.randint(256, (3, 2, 40, 50, 3), dtype=torch.uint8, generator=generator)
    extents = sample_extents(3, frames=2, frame_count=2, generator=generator)
    look = Appearance.sample(3, jitter_probability=1, generator=generator)
    look = replace(look, blur_sigma=torch.tensor([0.0, 1.5, 20.0]))
    options = {"mean": MEAN, "std": STD, "difference": True, "dtype": dtype, "blur_kernel": kernel}
    expected = augment_clips_reference(frames, extents, 67, look, **options)
    got = augment_clips(frames, extents, 67, look, **options)
    torch.testing.assert_close(got, expected, atol=2e-4 if dtype == torch.float32 else 1e-9, rtol=0)


def test_empty_appearances_and_numbers_of_all_kinds(batch):
    frames, extents = batch
    plain = augment_clips(frames, extents, SIZE, mean=0.5, std=0.25)
    neutral = augment_clips(frames, extents, SIZE, Appearance.neutral(6), mean=np.float32(0.5), std=np.array([0.25]))
    assert torch.equal(plain, neutral)


@pytest.mark.parametrize("listed", [False, True])
def test_no_extents_are_the_whole_picture(batch, listed):
    frames, _ = batch
    given = list(frames) if listed else frames
    whole = torch.tensor([0.0, 1.0]).expand(len(frames), 3, 2)
    got = augment_clips(given, None, 8, mean=0.0, std=1.0)
    assert torch.equal(got, augment_clips(given, whole, 8, mean=0.0, std=1.0))
    first = torch.as_tensor(frames[0]).permute(0, 3, 1, 2).double() / 255
    theirs = torch.nn.functional.interpolate(first, (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got[0].transpose(0, 1).double(), theirs, rtol=0, atol=1e-5)
    assert augment_clips([], None, 8, mean=0.0, std=1.0).shape == (0, 3, 0, 8, 8)


@pytest.mark.parametrize("size", [(18, 7), (5, 33), (1, 9), (70, 40)])
@pytest.mark.parametrize("listed", [False, True])
def test_height_and_width(batch, size, listed):
    frames, extents = batch
    look = Appearance.sample(6, jitter_probability=1, blur_probability=1, generator=torch.Generator().manual_seed(2))
    got = run(list(frames) if listed else frames, extents, size, look, difference=True)
    assert got.shape == (6, 3, 5, *size)
    assert (got - expected(frames, extents, size, look, True)).abs().max() < STEP
    options = {"mean": 0.0, "std": 1.0}
    for same in (list(size), torch.tensor(size), np.array(size)):
        assert torch.equal(
            augment_clips(frames, extents, same, **options), augment_clips(frames, extents, size, **options)
        )


@pytest.mark.parametrize("number", [np.int32, np.uint8, torch.tensor])
def test_a_size_of_any_kind_of_whole_number(batch, number):
    frames, extents = batch
    options = {"mean": 0.5, "std": 0.25}
    expected = augment_clips(frames, extents, 9, blur_kernel=5, **options)
    assert torch.equal(augment_clips(frames, extents, number(9), blur_kernel=number(5), **options), expected)
