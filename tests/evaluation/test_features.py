"""Clips lie where they should, the feature is the mean that is promised, and nothing depends on batches or workers."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from motionops.errors import UserError
from motionops.evaluation import extract_features
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.video_clips import VideoClips, in_batches
from motionops.video import Video, read_frames
from motionops.video.encoding import write_video
from motionops.views import augment_clips_reference
from motionops.views.even_clips import centre_extent, clip_starts, square_extents

SETTINGS = {"clips": 3, "frames": 4, "stride": 2, "size": 16, "mean": (0.0,) * 3, "std": (1.0,) * 3}


class FirstAndLast(nn.Module):
    """Grey level of the first and of the last frame, as feature maps [B, 2, 1, S, S] in units of source frames."""

    channels = 2

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm3d(2)
        self.modes = []

    def forward(self, clip):
        self.modes.append(self.training)
        grey = clip.mean(dim=1, keepdim=True) * 255 / 8
        return torch.cat([grey[:, :, :1], grey[:, :, -1:]], dim=1)


def test_starts_are_spread_evenly():
    assert clip_starts(20, 3, 4, 2).tolist() == [0, 7, 13]
    assert clip_starts(7, 3, 4, 2).tolist() == [0, 0, 0]
    assert clip_starts(20, 1, 4, 2).tolist() == [6]
    starts = clip_starts(1000, 10, 16, 2)
    assert starts[0] == 0
    assert starts[-1] == 1000 - 31
    assert (starts.diff() - 969 / 9).abs().max() < 1
    with pytest.raises(ValueError, match="length must be at least 7, got 6"):
        clip_starts(6, 3, 4, 2)


def test_centre_extent_is_a_centred_square():
    extent = centre_extent(100, 200, crop=0.5)
    assert torch.allclose(extent, torch.tensor([[0.0, 1.0], [0.25, 0.75], [0.375, 0.625]]))


def test_the_feature_is_the_mean_over_clips(counting_videos):
    features = extract_features(FirstAndLast(), counting_videos[:3], **SETTINGS)
    assert features.shape == (3, 2)
    assert features.dtype == torch.float32
    for row, (length, offset) in zip(features, ((24, 0), (24, 10), (20, 20)), strict=True):
        starts = clip_starts(length, 3, 4, 2).double().mean()
        expected = torch.stack([starts, starts + 6]) + offset / 8
        # Encoded grey levels are off by a level or two of 255: a quarter of a frame's step.
        assert torch.allclose(row.double(), expected, atol=0.3)


def test_each_clip_counts_also_where_several_are_the_same(counting_frames, tmp_path):
    """Of 8 frames clips of 7 begin at 0, 1 and 1."""
    write_video(tmp_path / "short.mp4", counting_frames(8))
    assert clip_starts(8, 3, 4, 2).tolist() == [0, 1, 1]
    video = [Video(str(tmp_path / "short.mp4"), "a")]
    (row,) = extract_features(FirstAndLast(), video, **SETTINGS)
    of_start = [
        extract_features(FirstAndLast(), video, **{**SETTINGS, "clips": clips})[0] for clips in (1, 2)
    ]  # the one in the middle begins at 0; both
    last = 2 * of_start[1] - of_start[0]
    torch.testing.assert_close(row, (of_start[0] + 2 * last) / 3)


def test_batches_and_workers_change_nothing(counting_videos):
    reference = extract_features(FirstAndLast(), counting_videos[:3], **SETTINGS)
    for batch_size, workers in ((1, 0), (4, 0), (64, 0), (4, 2)):
        features = extract_features(
            FirstAndLast(), counting_videos[:3], **SETTINGS, batch_size=batch_size, workers=workers
        )
        assert torch.allclose(features, reference, atol=1e-6)


def test_eval_mode_and_back(counting_videos):
    backbone = FirstAndLast().train()
    extract_features(backbone, counting_videos[:1], **SETTINGS)
    assert not any(backbone.modes)
    assert backbone.training
    assert backbone.norm.training
    features = extract_features(backbone.eval(), counting_videos[:1], **SETTINGS)
    assert not backbone.training
    assert not features.is_inference()
    assert not features.requires_grad


def test_still_repeats_the_middle_frame(counting_videos):
    first, last = extract_features(FirstAndLast(), counting_videos[:1], **SETTINGS, still=True)[0].tolist()
    assert first == pytest.approx(last, abs=1e-5)
    assert first == pytest.approx(clip_starts(24, 3, 4, 2).double().mean().item() + 4, abs=0.3)


def test_shuffled_frames_are_the_same_frames_in_another_order(counting_videos):
    class Frames(FirstAndLast):
        def forward(self, clip):
            return (clip.mean(dim=(1, 3, 4)) * 255 / 8)[:, :, None, None, None]  # one channel a frame

    settings = {**SETTINGS, "clips": 1}
    plain = extract_features(Frames(), counting_videos[:1], **settings)[0]
    orders = [
        extract_features(Frames(), counting_videos[:1], **settings, shuffle_frames=True, seed=seed)[0]
        for seed in range(6)
    ]
    assert all(torch.allclose(order.sort().values, plain, atol=1e-5) for order in orders)
    assert any(not torch.allclose(order, plain) for order in orders)
    again = extract_features(Frames(), counting_videos[:1], **settings, shuffle_frames=True, seed=3)[0]
    assert torch.equal(again, orders[3])


def test_unusable_videos_are_named(counting_videos, counting_frames, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    short = tmp_path / "short.mp4"
    write_video(short, counting_frames(5))
    videos = [Video(str(broken), "a"), counting_videos[0], Video(str(short), "a"), Video(str(tmp_path / "no.mp4"), "b")]
    skipped = []
    features = extract_features(FirstAndLast(), videos, **SETTINGS, skipped=skipped)
    assert features.shape == (1, 2)
    assert [s.path for s in skipped] == [videos[0].path, videos[2].path, videos[3].path]
    assert "too short: 5 frames" in skipped[1].reason
    assert "7 are needed" in skipped[1].reason
    with pytest.raises(UserError, match=re.escape("broken.mp4")):
        extract_features(FirstAndLast(), videos, **SETTINGS)
    assert extract_features(FirstAndLast(), videos[:1], **SETTINGS, skipped=[]).shape == (0, 2)


def test_videos_of_different_sizes(tmp_path, counting_videos, counting_frames):
    tall = tmp_path / "tall.mp4"
    write_video(tall, counting_frames(24, height=64, width=30))
    features = extract_features(FirstAndLast(), [counting_videos[0], Video(str(tall), "a")], **SETTINGS)
    assert torch.allclose(features[0], features[1], atol=0.3)


def test_the_centre_is_what_is_seen(tmp_path):
    frames = np.zeros((8, 32, 64, 3), dtype=np.uint8)
    frames[:, :, 16:48] = 200  # the centre square; the rest is black
    write_video(tmp_path / "bright.mp4", frames)
    feature = extract_features(FirstAndLast(), [Video(str(tmp_path / "bright.mp4"), None)], **SETTINGS)
    assert feature[0, 0].item() == pytest.approx(200 / 8, abs=0.6)


@pytest.mark.parametrize("name", ["clips", "frames", "stride", "size", "batch_size"])
def test_settings_out_of_range(name, counting_videos):
    with pytest.raises(ValueError, match=f"extract_features: {name} must be at least 1, got 0"):
        extract_features(FirstAndLast(), counting_videos, **{**SETTINGS, name: 0})


def test_crop_out_of_range(counting_videos):
    with pytest.raises(ValueError, match=r"extract_features: crop must be in \(0, 1\], got 1.5"):
        extract_features(FirstAndLast(), counting_videos, **SETTINGS, crop=1.5)


def test_three_squares_lie_along_the_long_side(tmp_path):
    for height, width, row in ((32, 96, 2), (96, 32, 1)):
        extents = square_extents(height, width, 1.0, 3)
        assert torch.allclose(extents[:, row], torch.tensor([[0, 1 / 3], [1 / 3, 2 / 3], [2 / 3, 1]]), atol=1e-6)
        assert torch.allclose(extents[:, 3 - row], torch.tensor([0.0, 1.0]).expand(3, 2))
    frames = np.zeros((8, 32, 96, 3), dtype=np.uint8)
    for part, level in enumerate((0, 100, 200)):
        frames[:, :, 32 * part : 32 * part + 32] = level
    write_video(tmp_path / "parts.mp4", frames)
    videos = [Video(str(tmp_path / "parts.mp4"), None)]
    centre, three = (
        extract_features(FirstAndLast(), videos, **SETTINGS, crop=1.0, crops=crops)[0, 0].item() for crops in (1, 3)
    )
    assert centre == pytest.approx(100 / 8, abs=0.6)
    assert three == pytest.approx(100 / 8, abs=0.6)  # the mean of all three
    (row,) = extract_features(FirstAndLast(), videos, **SETTINGS, crop=1.0, crops=2)
    assert row[0].item() == pytest.approx(100 / 8, abs=0.6)


def test_a_short_video_holds_its_last_frame(counting_videos, counting_frames, tmp_path):
    write_video(tmp_path / "short.mp4", counting_frames(5))
    videos = [counting_videos[0], Video(str(tmp_path / "short.mp4"), "a")]
    features = extract_features(FirstAndLast(), videos, **SETTINGS, short="hold")
    assert features[1].tolist() == pytest.approx([0, 4], abs=0.3)  # of frames 0, 2, 4 and 4 again
    plain = extract_features(FirstAndLast(), videos[:1], **SETTINGS)
    assert torch.equal(features[:1], plain)
    with pytest.raises(ValueError, match="short must be one of skip, hold, got 'loop'"):
        extract_features(FirstAndLast(), videos, **SETTINGS, short="loop")


@pytest.mark.parametrize("size", [4, 40])
def test_a_reader_sends_the_fewer_bytes_and_the_views_are_the_same(size, counting_videos):
    """10 clips of 4 frames, 2 crops each: 10 x 2 x 4 x 3 x size^2 floats, or the squares' box of each frame once."""
    recipe = ClipRecipe(clips=10, crops=2, frames=4, stride=2, size=size)
    views = VideoClips(counting_videos[:1], recipe)[0]
    frames = torch.from_numpy(read_frames(counting_videos[0].path, range(24)).numpy())
    starts = clip_starts(24, 10, 4, 2)
    whole = [frames[starts[clip] + 2 * torch.arange(4)] for clip in range(10) for _ in range(2)]
    extents = square_extents(*frames.shape[1:3], recipe.crop, 2).repeat(10, 1, 1)
    expected = augment_clips_reference(whole, extents, size, mean=recipe.mean, std=recipe.std)
    cut = torch.cat(list(in_batches([views], recipe, 3)))
    assert torch.allclose(cut, expected, atol=1e-6)
    used = {int(start) + 2 * step for start in starts for step in range(4)}
    height, width = frames.shape[1:3]
    short = round(recipe.crop * min(height, width)) + 2  # and a pixel on either side
    assert height < width
    cut_bytes, frame_bytes = 4 * expected.numel(), len(used) * 3 * min(short, height) * width
    assert views.pixels.nbytes == min(cut_bytes, frame_bytes)
    assert (views.numbers is None) == (size == 4)


def test_equal_clips_pass_the_network_once(counting_frames, tmp_path):
    """A video of one clip's length has one start: the other nine clips, each of three squares, are the same."""
    write_video(tmp_path / "short.mp4", counting_frames(7))
    network = FirstAndLast()
    seen = []
    network.register_forward_pre_hook(lambda _, clips: seen.append(len(clips[0])))
    videos = [Video(str(tmp_path / "short.mp4"), None)]
    settings = {**SETTINGS, "clips": 10, "crops": 3}
    (row,) = extract_features(network, videos, **settings)
    assert sum(seen) == 3
    assert row.tolist() == pytest.approx([0, 6], abs=0.3)


def test_low_precision_is_near(counting_videos):
    network = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU())
    full, low = (
        extract_features(network, counting_videos[:2], **SETTINGS, precision=precision)
        for precision in ("32", "bf16-mixed")
    )
    assert low.dtype == torch.float32
    assert not torch.equal(low, full)
    assert torch.allclose(low, full, rtol=0.02, atol=0.02)
