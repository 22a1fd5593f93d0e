"""The flow of clips: which frames are paired, what frames without a partner get, bad arguments."""

import pytest
import torch

import motionops
from motionops.flow.clip_flow import clip_flow

FAST = {"scales": 2, "warps": 2, "iterations": 10}


def clip(frames=4, size=24, shift=1):
    """A smooth picture that moves to the right by `shift` pixels a frame, `[1, T, H, W, 3]`."""
    torch.manual_seed(0)
    wide = torch.rand(1, 3, size + 8, 4 * size)
    wide = torch.nn.functional.avg_pool2d(wide, 7, 1, 3)
    wide = (wide - wide.min()) / (wide.max() - wide.min())
    views = [wide[0, :, 4:-4, size - shift * t : 2 * size - shift * t] for t in range(frames)]
    return (255 * torch.stack(views)).to(torch.uint8).permute(0, 2, 3, 1)[None]


def grey(frames):
    return frames.float() @ torch.tensor([0.299, 0.587, 0.114])


def test_what_moves_to_the_right_has_positive_u():
    inner = clip_flow(clip())[0, :, :, 6:-6, 6:-6]
    assert (inner[:, 0].mean(dim=(1, 2)) - 1).abs().max() < 0.15
    assert inner[:, 1].abs().mean() < 0.1


@pytest.mark.parametrize("interval", [1, 2, -1, -3])
def test_pairs_and_repeated_ends(interval):
    frames = clip(5)
    flow = clip_flow(frames, interval=interval, **FAST)
    assert flow.shape == (1, 5, 2, 24, 24)
    images = grey(frames[0])
    for t in range(5):
        # The nearest frame that has a partner.
        nearest = min(max(t, max(0, -interval)), 4 - max(0, interval))
        expected = motionops.tvl1_flow(images[nearest][None], images[nearest + interval][None], **FAST)[0]
        torch.testing.assert_close(flow[0, t], expected)


def test_clips_do_not_meet():
    frames = torch.cat([clip(3), clip(3, shift=2)])
    flow = clip_flow(frames, **FAST)
    torch.testing.assert_close(flow[1], clip_flow(frames[1:], **FAST)[0])


def test_clips_of_augment_clips_have_the_flow_of_their_frames():
    """Floating, channels first, 0 to 1: 255ths of what uint8 frames are."""
    frames = clip(4)
    clips = motionops.augment_clips(frames, None, 24, mean=0, std=1)
    torch.testing.assert_close(clip_flow(clips, **FAST), clip_flow(frames, **FAST), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8, 3), (0, 4, 8, 8, 3), (1, 0, 8, 8, 3)])
def test_without_a_pair_there_is_no_motion(shape):
    flow = clip_flow(torch.zeros(shape, dtype=torch.uint8))
    assert flow.shape == (shape[0], shape[1], 2, 8, 8)
    assert not flow.any()


@pytest.mark.parametrize(
    ("frames", "interval", "error", "message"),
    [
        (
            torch.zeros(1, 2, 8, 8, 3, dtype=torch.int32),
            1,
            TypeError,
            "frames must be uint8 or floating, got torch.int32",
        ),
        (torch.zeros(1, 2, 8, 8, 3), 1, ValueError, r"frames must be \[B, 3, T, H, W\] where they are floating"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), 1, ValueError, r"frames must be \[B, T, H, W, 3\]"),
        (torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8), 0, ValueError, "interval must be a whole number other than 0"),
        (torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8), 1.5, ValueError, "got 1.5"),
    ],
)
def test_bad_arguments(frames, interval, error, message):
    with pytest.raises(error, match=message):
        clip_flow(frames, interval=interval)
