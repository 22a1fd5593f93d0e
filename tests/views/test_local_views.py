"""Local clips: where in the video, where in the global view, and what is refused."""

import pytest
import torch

import motionops
from motionops.views import local_extents, local_starts


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_centres_lie_in_their_segments():
    frame_count, clips = 300, 4
    starts = torch.stack(
        [local_starts(frame_count, clips, frames=8, stride=2, generator=generator(seed)) for seed in range(300)]
    )
    centres = starts + 16 / 2
    for k in range(clips):
        assert centres[:, k].min() >= k * frame_count / clips
        assert centres[:, k].max() <= (k + 1) * frame_count / clips
        assert len(starts[:, k].unique()) > 50  # the starts of an inner segment are 76
    assert starts.min() >= 0
    assert starts.max() + 16 <= frame_count


def test_every_allowed_start_is_drawn():
    starts = torch.stack([local_starts(24, 3, frames=8, generator=generator(seed)) for seed in range(300)])
    assert [sorted(set(starts[:, k].tolist())) for k in range(3)] == [
        list(range(5)),  # centres 4 .. 8: no clip begins before the video
        list(range(4, 13)),  # 8 .. 16
        list(range(12, 17)),  # 16 .. 20: none ends behind it
    ]


@pytest.mark.parametrize(("frame_count", "clips", "frames"), [(31, 3, 3), (23, 4, 2), (40, 3, 7)])
def test_segments_may_end_between_frames(frame_count, clips, frames):
    """Of all starts within the video those, and no others, whose centres lie in the segment, in whole numbers."""
    every = range(frame_count - frames + 1)
    drawn = [local_starts(frame_count, clips, frames=frames, generator=generator(seed)) for seed in range(300)]
    for k, starts in enumerate(torch.stack(drawn).T.tolist()):
        low, high = 2 * k * frame_count, 2 * (k + 1) * frame_count  # over 2 clips
        assert sorted(set(starts)) == [start for start in every if low <= clips * (2 * start + frames) <= high]


def test_long_clips_in_a_short_video_stay_inside():
    """Centres of 20 frames in 24 are 10 to 14, so the outer segments hold none: the nearest starts are taken."""
    assert local_starts(24, 4, frames=20, generator=generator())[[0, 3]].tolist() == [0, 4]
    assert local_starts(16, 4, frames=16).tolist() == [0, 0, 0, 0]
    for seed in range(50):
        starts = local_starts(24, 4, frames=20, generator=generator(seed))
        assert starts.tolist() == sorted(starts.tolist())


def test_one_clip_may_be_anywhere():
    starts = {int(local_starts(20, 1, frames=16, generator=generator(seed))) for seed in range(100)}
    assert starts == set(range(5))


@pytest.mark.parametrize(("frame_count", "clips", "frames"), [(7, 7, 1), (7, 5, 2), (9, 7, 3), (5, 4, 4), (10, 10, 3)])
def test_segments_of_about_a_frame(frame_count, clips, frames):
    starts = local_starts(frame_count, clips, frames=frames, generator=generator())
    assert starts.tolist() == sorted(starts.tolist())
    assert starts[0] >= 0
    assert starts[-1] + frames <= frame_count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0, 2), "clips, frames and stride must be at least 1, got 0, 2, 1"),
        ((10, 2, 11), "a clip of 11 source frames does not fit a video of 10"),
        ((3, 4, 2), "a video of 3 frames has no 4 segments"),
    ],
)
def test_what_has_no_clips_is_refused(arguments, message):
    frame_count, clips, frames = arguments
    with pytest.raises(ValueError, match=f"local_starts: {message}"):
        local_starts(frame_count, clips, frames=frames)


VIEW = torch.tensor([[0.0, 40.0], [0.1, 0.7], [0.9, 0.25]])  # mirrored


def draw(view=VIEW, count=200, **changes):
    starts = torch.arange(count) % 24
    own = {"frames": 8, "stride": 2, "height": 30, "width": 40, "scale": (0.2, 1.0), "generator": generator()}
    return local_extents(view, starts, **{**own, **changes}), starts


def test_clips_are_inside_their_view_and_rows_sum_to_one():
    extents, starts = draw()
    assert torch.equal(extents[:, 0], torch.stack([starts, starts + 16], dim=1).float())
    for axis in (1, 2):
        low, high = VIEW[axis].min(), VIEW[axis].max()
        assert extents[:, axis].min() >= low
        assert extents[:, axis].max() <= high
    mirrored = extents[:, 2, 0] > extents[:, 2, 1]
    assert 60 < mirrored.sum() < 140
    for mirror in (0.0, 1.0):
        (extents, _) = draw(mirror=mirror)
        assert ((extents[:, 2, 0] > extents[:, 2, 1]) == bool(mirror)).all()
    shares = motionops.soft_correspondence(extents, VIEW.expand(200, 3, 2), (2, 4, 4), (8, 4, 4))
    torch.testing.assert_close(shares.sum(dim=2), torch.ones(200, 32), rtol=0, atol=2e-5)


def test_area_and_aspect_are_those_of_pixels():
    extents, _ = draw(scale=(0.3, 0.5), ratio=(0.9, 1.2))
    sides = (extents[:, 1:, 1] - extents[:, 1:, 0]).abs().double()
    share = sides.prod(dim=1) / (0.6 * 0.65)
    aspect = (sides[:, 1] * 40) / (sides[:, 0] * 30)
    assert 0.3 - 1e-5 < share.min() < 0.32
    assert 0.48 < share.max() < 0.5 + 1e-5
    assert 0.9 - 1e-5 < aspect.min() < aspect.max() < 1.2 + 1e-5


def test_a_clip_outside_its_view_is_refused():
    for view in ([4.0, 60.0], [0.0, 39.0 - 1.0]):
        outside = torch.tensor([view, *VIEW[1:].tolist()])
        with pytest.raises(ValueError, match=r"local_extents: the clip of source frames \d+ to \d+ lies outside its"):
            draw(outside)


def test_a_clip_outside_the_view_has_no_target():
    """What the operators do with extents from elsewhere: a part outside has no share, and no pull."""
    query_extent = torch.tensor([[[0.0, 16.0], [0.0, 0.5], [0.0, 0.5]]])
    half, apart = query_extent.clone(), query_extent.clone()
    half[0, 0], apart[0, 0] = torch.tensor([8.0, 24.0]), torch.tensor([16.0, 32.0])
    rows = [motionops.soft_correspondence(e, query_extent, (2, 1, 1), (4, 1, 1)).sum(2) for e in (half, apart)]
    assert rows[0].tolist() == [[1.0, 0.0]]
    assert rows[1].tolist() == [[0.0, 0.0]]
    query = torch.nn.functional.normalize(torch.randn(1, 1, 2, 1, 1, 4), dim=-1).requires_grad_()
    key = torch.nn.functional.normalize(torch.randn(1, 4, 1, 1, 4), dim=-1)
    loss = motionops.region_contrast(query, key, apart[:, None], query_extent)
    loss.backward()
    assert loss.item() == 0.0
    assert query.grad.abs().max() == 0.0
