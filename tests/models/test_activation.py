"""Foreground masks against NumPy and cases worked by hand."""

import numpy as np
import pytest
import torch

from motionops.models.activation import above_quantile, activation_map, foreground_mask


def maps_of(activation):
    """Feature maps [1, 1, 1, H, W] whose fused activation is `activation`."""
    features = torch.tensor(activation, dtype=torch.float32)[None, None, None]
    return features, torch.zeros_like(features)


def test_by_hand():
    mask = foreground_mask(*maps_of([[1.0, 2.0], [3.0, 4.0]]))
    assert mask.tolist() == [[[False, False], [True, True]]]  # the median is 2.5
    assert mask.dtype == torch.bool
    mask = foreground_mask(*maps_of([[5.0, 1.0, 2.0], [4.0, 3.0, 6.0], [9.0, 8.0, 7.0]]), quantile=0.75)
    assert mask.tolist() == [[[False, False, False], [False, False, False], [True, True, False]]]  # quantile 7


def test_ties_with_the_quantile_are_background():
    assert not foreground_mask(*maps_of([[1.0, 1.0], [1.0, 1.0]])).any()
    mask = foreground_mask(*maps_of([[0.0, 2.0, 2.0], [2.0, 2.0, 3.0], [0.0, 2.0, 4.0]]))
    assert mask.tolist() == [[[False, False, False], [False, False, True], [False, False, True]]]


def test_24_of_49_cells_at_one_half():
    torch.manual_seed(0)
    assert foreground_mask(torch.randn(5, 8, 2, 7, 7), torch.randn(5, 8, 2, 7, 7)).sum(dim=(1, 2)).tolist() == [24] * 5


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(3, 4, 2, 7, 7), (2, 3, 1, 4, 4), (1, 1, 3, 1, 5)])
def test_against_numpy(ratio, shape):
    torch.manual_seed(1)
    rgb, difference = torch.randn(shape), torch.randn(shape)
    fused = rgb.double().numpy().mean(axis=(1, 2)) + difference.double().numpy().mean(axis=(1, 2))
    threshold = np.quantile(fused.reshape(len(fused), -1), ratio, axis=1)[:, None, None]
    # A margin: a cell that is the quantile itself may lie above or below it by rounding in NumPy's float64.
    clear = np.abs(fused - threshold) > 1e-6
    ours = foreground_mask(rgb, difference, ratio).numpy()
    assert (ours == (fused > threshold))[clear].all()
    assert not ours[~clear].any()


def test_modalities_are_added_as_they_are():
    rgb = torch.zeros(1, 2, 2, 2, 2)
    difference = torch.zeros(1, 2, 2, 2, 2)
    rgb[0, :, :, 0, 0] = 1.0
    difference[0, :, :, 1, 1] = 100.0
    assert foreground_mask(rgb, difference, 0.9).tolist() == [[[False, False], [False, True]]]
    # Time and channels only enter by their mean: one loud channel of one frame is as good as all of them.
    rgb = torch.zeros(1, 4, 2, 2, 2)
    rgb[0, 3, 1, 0, 1] = 8.0
    assert activation_map(rgb)[0].tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_no_gradient_and_half_precision():
    rgb = torch.randn(2, 3, 2, 4, 4, requires_grad=True)
    mask = foreground_mask(rgb, rgb)
    assert not mask.requires_grad
    assert foreground_mask(rgb.detach().bfloat16(), rgb.detach().bfloat16()).sum(dim=(1, 2)).tolist() == [8, 8]
    assert foreground_mask(torch.empty(0, 3, 2, 4, 4), torch.empty(0, 3, 2, 4, 4)).shape == (0, 4, 4)
    assert above_quantile(torch.arange(4.0).view(1, 2, 2), 0.5).sum() == 2


def test_wrong_arguments():
    good = torch.randn(2, 3, 2, 4, 4)
    with pytest.raises(ValueError, match=r"foreground_mask: rgb_map must be \[B, C, T, H, W\], got \[2, 3\]"):
        foreground_mask(good[:, :, 0, 0, 0], good)
    with pytest.raises(ValueError, match=r"difference_map must be \[B=2, C, T, H=4, W=4\], got \[2, 3, 2, 4, 3\]"):
        foreground_mask(good, good[..., :3])
    with pytest.raises(ValueError, match=r"quantile must be in \[0, 1\], got 1.5"):
        foreground_mask(good, good, 1.5)
    with pytest.raises(ValueError, match="quantile"):
        foreground_mask(good, good, float("nan"))
    with pytest.raises(
        TypeError, match=r"foreground_mask: difference_map must be a tensor or an array .*, got NoneType"
    ):
        foreground_mask(good, None)
    with pytest.raises(TypeError, match=r"foreground_mask: rgb_map must be of a floating type, got torch\.int64"):
        foreground_mask(good.long(), good)
    with pytest.raises(ValueError, match="foreground_mask: difference_map must be on cpu as rgb_map is, got meta"):
        foreground_mask(good, good.to("meta"))


def test_arrays_of_numpy():
    rgb, difference = torch.randn(2, 2, 3, 2, 4, 4)
    assert torch.equal(foreground_mask(rgb.numpy(), difference.numpy()), foreground_mask(rgb, difference))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("side", [1, 2, 4, 7])
def test_the_quantile_is_that_of_torch(side, ratio, dtype):
    generator = torch.Generator().manual_seed(side)
    activation = torch.randn(50, side, side, generator=generator, dtype=dtype)
    activation[25:] = (activation[25:] * 2).round()  # ties
    activation[3, 0, 0], activation[4, 0, 0] = torch.nan, torch.inf
    expected = activation > activation.flatten(1).quantile(ratio, dim=1)[:, None, None]
    assert torch.equal(above_quantile(activation, ratio), expected)
