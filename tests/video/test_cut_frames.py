"""Frames of which readers send the part that clips show: the clips are to the bit those of the whole pictures."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from motionops import Appearance, augment_clips, sample_extents
from motionops.video import Plan, RandomClips, Video, VideoBatchSampler, VideoDataset, collate_videos
from motionops.video.encoding import write_video
from motionops.video.readers.cut_frames import CutFrames, box_around, cut_out, shrunk, smallest, together
from motionops.video.readers.shared_memory import tensors_in
from motionops.views import augment_clips_reference

SIZES = ((33, 47), (64, 40), (18, 18), (35, 120))  # height, width
T = 3


def places_read(start: float, end: float, size: int, length: int) -> tuple[int, int]:
    """The first and the last pixel that a clip of `size` reads of a side, by the operator's formula in float32."""
    f = np.float32
    share = (np.arange(size, dtype=f) + f(0.5)) / f(size)
    place = np.clip((f(start) + (f(end) - f(start)) * share) * f(length) - f(0.5), f(0), f(length - 1))
    low = np.floor(place).astype(int)
    return int(low.min()), int(np.minimum(low + 1, length - 1).max())


def drawn_extents(count: int, generator: torch.Generator) -> torch.Tensor:
    """Random ones, mirrored or not; those of whole pictures, corners, single pixels, and parts outside of pictures."""
    extents = sample_extents(count, frames=1, frame_count=1, scale=(0.05, 1.0), generator=generator)
    special = [[[0, 1], [0, 1]], [[0, 1], [1, 0]], [[0, 0.1], [0.9, 1]], [[0.9, 1], [0.1, 0]], [[0.5, 0.5], [0.3, 0.3]]]
    special += [[[-0.5, 0.5], [0.5, 1.5]], [[1.2, 1.4], [-3, -2]], [[-1, 2], [2, -1]]]
    extents[: len(special), 1:] = torch.tensor(special)
    return extents


def made_and_cut():
    """Videos of several sizes, a clip of each, how it looks; and of each video the box of the clip alone."""
    generator = torch.Generator().manual_seed(1)
    count = 24
    videos = [
        torch.randint(0, 256, (T, *SIZES[number % len(SIZES)], 3), dtype=torch.uint8, generator=generator)
        for number in range(count)
    ]
    extents = drawn_extents(count, generator)
    look = Appearance.sample(count, blur_probability=0.5, generator=generator)
    every = torch.arange(T)[None]
    cut = together([cut_out(video, every, [[0]], where[None]) for video, where in zip(videos, extents, strict=True)])
    assert cut.pixels.numel() < sum(video.numel() for video in videos)
    return videos, extents, look, cut


def check_clips(augment, videos, extents, look, cut):
    """To the bit: sizes odd and even, all frames and every other one, differences or not."""
    for size, difference in ((16, False), (23, True), ((9, 31), False)):
        how = {"mean": 0.45, "std": 0.225, "difference": difference}
        for times in (slice(None), slice(None, None, 2)):
            expected = augment([video[times] for video in videos], extents, size, look, **how)
            assert torch.equal(augment([video[0, times] for video in cut], extents, size, look, **how), expected)


def test_clips_of_cut_frames_are_those_of_whole_pictures_to_the_bit(backend):
    videos, extents, look, cut = made_and_cut()
    moved = [backend.tensor(video) for video in videos]
    there = CutFrames(backend.tensor(cut.pixels), cut.videos)
    check_clips(augment_clips, moved, backend.tensor(extents), look.map(backend.tensor), there)


def test_so_they_are_by_the_reference():
    check_clips(augment_clips_reference, *made_and_cut())


def test_a_box_holds_what_is_read_and_hardly_more():
    generator = torch.Generator().manual_seed(2)
    for extent in drawn_extents(300, generator):
        for picture in ((33, 47), (1080, 1919), (2, 2)):
            box = box_around(extent[None], picture)
            sides = ((box.top, box.height, picture[0], extent[1]), (box.left, box.width, picture[1], extent[2]))
            for first, count, length, (start, end) in sides:
                assert 0 <= first < first + count <= length
                assert box.picture == picture
                read = [places_read(float(start), float(end), size, length) for size in (7, 224, 4096)]
                assert first <= min(low for low, _ in read)
                assert first + count - 1 >= max(high for _, high in read)
                # Of 4096 places the outermost are next to the edges.
                assert first >= read[-1][0] - 1
                assert first + count - 1 <= read[-1][1] + 1


def test_every_pixel_of_every_picture_lies_in_the_memory_of_the_batch():
    picture = (20, 31)
    corners = [[[0.0, 0.1], [0.0, 0.1]], [[0.9, 1.0], [0.9, 1.0]], [[0.0, 0.1], [0.9, 1.0]], [[0.9, 1.0], [0.0, 0.1]]]
    pictures = torch.arange(2 * 20 * 31 * 3, dtype=torch.uint8).view(2, *picture, 3)
    for first in corners:
        for last in corners:
            extents = torch.zeros(2, 3, 2)
            extents[:, 1:] = torch.tensor([first, last])
            items = [cut_out(pictures, torch.tensor([[1, 0]]), [[0]], each[None]) for each in extents]
            cut = together(items)
            for video, item in zip(cut, items, strict=True):
                view = video[0]  # as_strided refuses what does not lie in the memory
                box = item.boxes[0]
                rows, columns = (slice(a, a + n) for a, n in ((box.top, box.height), (box.left, box.width)))
                assert view.shape == (2, *picture, 3)
                assert torch.equal(view[:, rows, columns], pictures[[1, 0], rows, columns])


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Of two sizes."""
    folder, generator = tmp_path_factory.mktemp("videos"), torch.Generator().manual_seed(0)
    made = []
    for number, (height, width) in enumerate(((48, 64), (50, 34), (48, 64), (50, 34))):
        pictures = torch.randint(0, 256, (12, height // 2, width // 2, 3), dtype=torch.uint8, generator=generator)
        path = folder / f"{number}.mp4"
        write_video(path, pictures.repeat_interleave(2, 1).repeat_interleave(2, 2))
        made.append(Video(str(path), "x", 12))
    return made


def with_cuts(draw, cuts):
    def plan(video, generator):
        drawn = draw(video, generator)
        return Plan(drawn.frames, drawn.extents, drawn.appearance, cuts=cuts)

    return plan


@pytest.mark.parametrize("cache", [0, 1 << 30])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_hold_the_boxes_of_their_clips_alone(videos, cache, workers):
    """And two clips that share frames share a box."""
    draw = RandomClips(2, 4, 2, scale=(0.05, 0.3))
    for cuts in ([[0], [1]], [[0, 1], [0, 1]]):
        data = VideoDataset(videos, with_cuts(draw, cuts), cache_bytes=cache)
        how = {"collate_fn": collate_videos, "num_workers": workers}
        cut, whole = (
            next(iter(DataLoader(part, batch_sampler=VideoBatchSampler(part, 4, seed=3), **how)))
            for part in (data, data.of_whole_pictures())
        )
        assert torch.equal(cut.extents, whole.extents)
        for view in range(2):
            assert torch.equal(cut.clip(view, 16, mean=0.5, std=0.25), whole.clip(view, 16, mean=0.5, std=0.25))
            assert torch.equal(
                cut.clip(view, 16, stride=2, mean=0.5, std=0.25), whole.clip(view, 16, stride=2, mean=0.5, std=0.25)
            )
        pictures = sum(video.numel() for video in whole.frames)
        # Each side of a box has at most two pixels more than its share of the picture's; and one picture's rest around.
        share = cut.extents[:, :, 1:].diff(dim=-1).abs()[..., 0] if len(cuts[0]) == 1 else None
        if share is not None:
            sides = torch.ceil(share * whole.picture[:, None]) + 2
            most = 4 * 3 * int(sides.prod(dim=-1).sum())
            assert cut.frames.pixels.numel() <= most + 2 * 3 * int(whole.picture.prod(dim=1).max())
        assert cut.frames.pixels.numel() < pictures
        moved = cut.to("cpu")
        assert torch.equal(moved.frames[1][0], cut.frames[1][0])


def test_a_view_is_a_list_for_whoever_takes_views_apart(videos):
    draw = RandomClips(3, 4, cut=True)
    data = VideoDataset(videos, draw)
    batch = collate_videos([data[0, number] for number in range(4)])
    assert len(batch) == 4
    assert [len(video) for video in batch.frames] == [3] * 4
    apart = batch.view(slice(1, None))
    assert [len(views) for views in apart] == [2] * 4
    assert torch.equal(apart[2][0], batch.view(1)[2])
    assert torch.equal(batch.view(1, slice(None, None, 2))[0], batch.view(1)[0][::2])


def test_an_item_takes_what_its_boxes_take(videos):
    """uint8, three channels, four frames of each view."""
    data = VideoDataset(videos, RandomClips(2, 4, cut=True))
    item = data[0, 0]
    boxes = [box_around(extent[None], (48, 64)) for extent in item.extents]
    assert sum(part.nbytes for part in item.frames.parts) == sum(4 * 3 * box.height * box.width for box in boxes)
    assert item.frames.shape == (2, 4, 48, 64, 3)
    assert sum(tensor.nbytes for tensor in tensors_in(item.frames)) == sum(part.nbytes for part in item.frames.parts)


def test_what_an_item_is_expected_to_take_is_the_mean_of_many(videos):
    data = VideoDataset(videos[:1], RandomClips(2, 4, scale=(0.05, 1.0), cut=True))
    taken = [sum(tensor.nbytes for tensor in tensors_in(data[epoch, 0])) for epoch in range(200)]
    assert data.item_bytes() == pytest.approx(np.mean(taken), rel=0.15)
    whole = data.of_whole_pictures()
    assert whole.item_bytes() == sum(tensor.nbytes for tensor in tensors_in(whole[0, 0]))


def test_pictures_are_made_no_smaller_than_the_smallest_clip_needs():
    """A crop of half of 340 columns has 170 pixels: for 112 of them the picture needs 224 columns."""
    extents = torch.tensor([[[0, 1], [0.0, 0.25], [0.25, 0.75]], [[0, 1], [0.0, 1.0], [0.0, 1.0]]])
    assert smallest(extents, (256, 340), 112) == (256, 224)  # a quarter of 256 rows are 64: fewer than are needed
    assert smallest(extents[1:], (256, 340), 112) == (112, 112)
    assert smallest(extents[1:], (100, 340), 112) == (100, 112)


def test_shrunk_pictures_are_means_of_what_they_stand_for():
    """On a line that rises evenly, half its size: a pixel is the mean of the two that it lies over."""
    line = torch.arange(0, 200, 2, dtype=torch.uint8)
    pictures = line.view(1, 1, -1, 1).expand(2, 6, -1, 3).contiguous()
    half = shrunk(pictures, (3, 50))
    assert half.shape == (2, 3, 50, 3)
    inside = half[0, 1, 1:-1, 0].double()
    expected = line.double().view(50, 2).mean(dim=1)[1:-1]
    assert (inside - expected).abs().max() <= 0.5
    assert shrunk(pictures, (6, 100)) is pictures


def test_a_shrunk_batch_shows_the_same_place_in_fewer_bytes(videos):
    """A picture whose left half is dark and whose right half is bright: the border lies where it lay."""
    pictures = torch.zeros(1, 120, 160, 3, dtype=torch.uint8)
    pictures[:, :, 80:] = 200
    extents = torch.tensor([[[0.0, 1.0], [0.1, 0.9], [0.25, 0.85]]])
    every = torch.zeros(1, 1, dtype=torch.int64)
    clips, sizes = [], []
    for size in (None, 24):
        cut = together([cut_out(pictures, every, [[0]], extents, size)])
        clips.append(augment_clips([cut[0][0]], extents, 24, mean=0.0, std=1.0)[0, 0, 0])
        sizes.append(cut.pixels.numel())
    assert sizes[1] * 8 < sizes[0]
    border = (0.5 - 0.25) / 0.6 * 24
    for clip in clips:
        rises = int((clip[12] > 100 / 255).nonzero()[0])
        assert rises == pytest.approx(border, abs=1)
        assert math.isclose(float(clip[12, 0]), 0, abs_tol=1e-6)
        assert math.isclose(float(clip[12, -1]), 200 / 255, abs_tol=1e-6)
