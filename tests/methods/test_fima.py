"""The losses of a step against dense formulas, written out from the same embeddings; queues and masks."""

import math
from dataclasses import replace

import pytest
import torch

import motionops
from motionops.errors import UserError
from motionops.methods import fima
from motionops.methods.fima.ablations import frame_term, pixel_contrast_per_video
from motionops.methods.fima.views import Clips, DrawViews, cut
from motionops.models.activation import foreground_mask
from motionops.models.pathway import embedded
from motionops.video import KnownVideo
from tests.made_batch import made_batch

BATCH, DIM, FRAMES, CELLS = 4, 8, 2, 3
TAU = 0.1


def config(**changes):
    own = {"batch_size": BATCH, "dim": DIM, "queue": 12, "size": 24, "hidden": 16, "decoder_width": 16}
    return replace(fima.FIMAConfig(), **{**own, "losses": ("vv", "pix", "fra"), **changes})


def module(**changes):
    torch.manual_seed(0)
    return fima.FIMA(config(**changes))


def unit(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def nce(query, key, negatives):
    """-log softmax of the first logit, row by row, in float64."""
    total = 0.0
    for q, k in zip(query.double(), key.double(), strict=True):
        logits = torch.cat([(q @ k)[None], negatives.double() @ q]) / TAU
        total += torch.logsumexp(logits, 0) - logits[0]
    return total / len(query)


def step_of_frames(made, videos=2):
    """A step's frames with their views as `DrawViews` draws them, and looks that change nothing."""
    draw = DrawViews(made)
    plans = [draw(KnownVideo(b, "v.mp4", 50, 40, 60), torch.Generator().manual_seed(b)) for b in range(videos)]
    neutral = motionops.Appearance.neutral(videos * len(plans[0].appearance))
    return made_batch(
        torch.randint(0, 256, (videos, *plans[0].frames.shape, 40, 60, 3), dtype=torch.uint8),
        extents=torch.stack([plan.extents for plan in plans]),
        appearance=neutral.map(lambda field: field.unflatten(0, (videos, -1))),
    )


def in_order(clips):
    return [*clips.rgb, *clips.difference, *(part for view in clips.parts for part in view)]


def test_every_clip_has_its_frames_its_place_and_its_look():
    """Two RGB clips, their differences, which are cut where those are, and the two parts of each view."""
    made = config(losses=("vv", "vd", "fra"), frames=4, stride=2)
    given = step_of_frames(made)
    clips = in_order(cut(made, given))
    assert len(clips) == 8

    def changed(other):
        return [not torch.equal(*both) for both in zip(clips, in_order(cut(made, other)), strict=True)]

    for look in range(8):
        grayscale = given.appearance.grayscale.clone()
        grayscale[:, look] = True
        grey = replace(given, appearance=replace(given.appearance, grayscale=grayscale))
        assert changed(grey) == [place == look for place in range(8)]
    for view, of_view in enumerate(([0, 2], [1, 3], [4], [5], [6], [7])):
        extents = given.extents.clone()
        extents[:, view, 2] = extents[:, view, 2].flip(-1)
        assert changed(replace(given, extents=extents)) == [place in of_view for place in range(8)]
        for frame in range(4):
            frames = given.frames.clone()
            frames[:, view, frame] = 255 - frames[:, view, frame]
            assert changed(replace(given, frames=frames)) == [place in of_view for place in range(8)]


def test_rgb_clips_are_strided_over_the_window_that_the_parts_make_up():
    drawn = DrawViews(config(losses=("vv", "vd", "fra"), frames=4, stride=2))
    for seed in range(10):
        frames = drawn(KnownVideo(0, "v.mp4", 50, 40, 60), torch.Generator().manual_seed(seed)).frames
        windows = frames[2:].view(2, 8)
        assert (windows.diff(dim=1) == 1).all()
        assert torch.equal(frames[:2], windows[:, ::2])


def test_the_motion_of_the_other_view_is_predicted_from_both_maps():
    """A decoder that hands back its target gives each view the map of the other one, and its source its own."""
    fima_ = module(losses=("pix", "fra"), stride=2)
    maps = [torch.randn(BATCH, 128, FRAMES, CELLS, CELLS) for _ in range(2)]
    for place, views in ((0, maps), (1, maps[::-1])):
        fima_.decoder.forward = lambda *both, place=place: (both[place], both[place].mean(dim=(3, 4)))
        pixels, frames = fima_.predict(maps)
        for pixel, frame, features in zip(pixels, frames, views, strict=True):
            torch.testing.assert_close(pixel, fima_.path.head(features.permute(0, 2, 3, 4, 1)))
            torch.testing.assert_close(frame, fima_.path.head(features.mean(dim=(3, 4)).transpose(1, 2)))


def test_clip_loss_is_the_mean_of_both_directions_and_enqueues_after_them():
    fima_ = module()
    queue = fima_.queues["vv"]
    before = queue.features.clone()
    queries, keys = [unit(BATCH, DIM) for _ in range(2)], [unit(BATCH, DIM) for _ in range(2)]
    loss, rank = fima_.clip_loss("vv", queries, keys)
    expected = (nce(queries[0], keys[1], before) + nce(queries[1], keys[0], before)) / 2
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    first = (queries[0] * keys[1]).sum(dim=1, keepdim=True)
    assert rank[:BATCH].tolist() == (queries[0] @ before.T > first).sum(dim=1).tolist()
    assert torch.equal(queue.features, before)


def test_what_a_step_enqueues():
    """The keys of both directions, the later view's first; parts and pixels in the same order; nothing at once."""
    fima_ = module(losses=("vv", "vd", "pix", "fra"), stride=2, pixel_queue=4 * BATCH * FRAMES * CELLS**2)
    clips = Clips(*([torch.randn(BATCH, 3, 8, 24, 24) for _ in range(2)] for _ in range(2)), [])
    clips = clips._replace(parts=[[torch.randn(BATCH, 3, 8, 24, 24) for _ in range(2)] for _ in range(2)])
    extents = torch.tensor([[0.0, 1.0]]).expand(BATCH, 2, 3, 2)
    before = {name: queue.features.clone() for name, queue in fima_.queues.items()}
    shuffles = clips.each(fima_.draw_shuffle)
    step = fima_.losses(clips, shuffles, extents)
    assert all(torch.equal(queue.features, before[name]) for name, queue in fima_.queues.items())
    key = fima_.path.key_maps(clips, shuffles)  # training mode: the same statistics again
    pooled = [[maps.mean(dim=(2, 3, 4)) for maps in views] for views in (key.rgb, key.difference)]
    expected = {
        f"queues.{name}": torch.cat([fima_.path.key_head(rows) for rows in views[::-1]])
        for name, views in zip(("vv", "vd"), pooled, strict=True)
    }
    cells = [fima_.path.key_head(maps.permute(0, 2, 3, 4, 1)).flatten(0, 3) for maps in key.difference[::-1]]
    expected["queues.pix"] = torch.cat(cells)
    parts = [fima_.path.key_head(maps.mean(dim=(2, 3, 4))) for view in key.parts[::-1] for maps in view]
    expected["queues.fra"] = torch.cat(parts)
    for name, rows in expected.items():
        entered = torch.cat([keys for queue, keys, ids in step.enqueue if queue == name])
        torch.testing.assert_close(entered, rows, rtol=1e-5, atol=1e-6)


def test_released_order_enqueues_between_the_directions():
    fima_ = module(enqueue="between")
    queue = fima_.queues["vv"]
    before = queue.features.clone()
    queries, keys = [unit(BATCH, DIM) for _ in range(2)], [unit(BATCH, DIM) for _ in range(2)]
    loss, _ = fima_.clip_loss("vv", queries, keys)
    between = torch.cat([keys[1], before[BATCH:]])
    expected = (nce(queries[0], keys[1], before) + nce(queries[1], keys[0], between)) / 2
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_frame_loss_has_the_other_parts_of_the_batch_and_the_queue_as_negatives():
    fima_ = module()
    queue = fima_.queues["fra"]
    before = queue.features.clone()
    frames = [unit(BATCH, FRAMES, DIM) for _ in range(2)]
    parts = [[unit(BATCH, DIM) for _ in range(FRAMES)] for _ in range(2)]
    loss, rank = fima_.frame_loss(frames, parts)
    expected = 0.0
    for v, o in ((0, 1), (1, 0)):
        for i in range(FRAMES):
            negatives = torch.cat([parts[o][1 - i], parts[v][0], parts[v][1], before])
            expected += nce(frames[v][:, i], parts[o][i], negatives) / 4
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert rank.shape == (4 * BATCH,)


def test_forms_of_the_frame_loss():
    """Table 9, of rows whose cosines are known: 0.6 with the key, 0.28 and -0.8 with a negative and the queue."""
    query, key = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    negatives, queue = torch.tensor([[0.28, 0.96]]), torch.tensor([[-0.8, 0.6], [0.6, -0.8]])
    cosines = [(0.6, (0.28, -0.8, 0.6)), (0.6, (0.96, 0.6, -0.8))]
    margins = [max(0.0, 0.5 - positive + other) for positive, others in cosines for other in others]
    softmax = [
        math.log(math.exp(positive / TAU) + sum(math.exp(other / TAU) for other in others)) - positive / TAU
        for positive, others in cosines
    ]
    expected = {"infonce": sum(softmax) / 2, "triplet": sum(margins) / 6, "mse": 2 - 2 * 0.6}
    for form, value in expected.items():
        loss, rank = frame_term(form, query, key, negatives, queue, TAU)
        assert loss.item() == pytest.approx(value, rel=1e-5)
        assert rank.tolist() == [0, 1]


def centre(extent, y, x):
    (_, _), (y0, y1), (x0, x1) = extent.double().tolist()
    return y0 + (y + 0.5) * (y1 - y0) / CELLS, x0 + (x + 0.5) * (x1 - x0) / CELLS


def diagonal(extent):
    (_, _), (y0, y1), (x0, x1) = extent.double().tolist()
    return (((y1 - y0) / CELLS) ** 2 + ((x1 - x0) / CELLS) ** 2) ** 0.5


def dense_pixel_loss(query, key, query_extent, key_extent, query_mask, key_mask, negatives, radius):
    """Eq. 8 with loops over every pair, in float64."""
    columns = torch.cat([key.reshape(-1, DIM), negatives]).double()
    samples = []
    for b in range(BATCH):
        longest = max(diagonal(query_extent[b]), diagonal(key_extent[b]))
        rows = []
        cells = [(y, x) for y in range(CELLS) for x in range(CELLS)]
        for t in range(FRAMES):
            for y, x in cells:
                near = []
                for ky, kx in cells:
                    (ay, ax), (by, bx) = centre(query_extent[b], y, x), centre(key_extent[b], ky, kx)
                    distance = ((ay - by) ** 2 + (ax - bx) ** 2) ** 0.5 / longest
                    if distance < radius and query_mask[b, y, x] and key_mask[b, ky, kx]:
                        near.append(key[b, t, ky, kx].double())
                if near:
                    q = query[b, t, y, x].double()
                    everything = torch.logsumexp(columns @ q / TAU, 0)
                    rows.append(everything - torch.logsumexp(torch.stack(near) @ q / TAU, 0))
        if rows:
            samples.append(torch.stack(rows).mean())
    return torch.stack(samples).mean()


@pytest.mark.parametrize("position", ["none", "prediction", "target", "both"])
@pytest.mark.parametrize("queue", [0, 40])
def test_pixel_loss(position, queue):
    fima_ = module(pixel_queue=queue, mask_position=position)
    pixels = [unit(BATCH, FRAMES, CELLS, CELLS, DIM) for _ in range(2)]
    motion = [unit(BATCH, FRAMES, CELLS, CELLS, DIM) for _ in range(2)]
    masks = [torch.rand(BATCH, CELLS, CELLS) > 0.4 for _ in range(2)]
    corners = torch.rand(BATCH, 2, 3, 1) * 0.4
    extents = torch.cat([corners, corners + 0.5], dim=3)
    extents[1, 0, 2] = extents[1, 0, 2].flip(0)  # a mirrored view
    negatives = fima_.queues["pix"].features.clone() if queue else torch.empty(0, DIM)
    everywhere = torch.ones_like(masks[0])
    expected = 0.0
    for v, o in ((0, 1), (1, 0)):
        query_mask = masks[v] if position in ("prediction", "both") else everywhere
        key_mask = masks[o] if position in ("target", "both") else everywhere
        where = extents[:, v], extents[:, o]
        expected += dense_pixel_loss(pixels[v], motion[o], *where, query_mask, key_mask, negatives, 0.7) / 2
    loss = fima_.pixel_loss(pixels, motion, extents, masks)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_video_without_a_pair_does_not_lower_the_mean_of_those_that_have_one():
    query, key = unit(2, 1, CELLS, CELLS, DIM), unit(2, 1, CELLS, CELLS, DIM)
    whole = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    left, right = whole.clone(), whole.clone()
    left[2], right[2] = torch.tensor([0.0, 0.2]), torch.tensor([0.8, 1.0])
    where = torch.stack([whole, left]), torch.stack([whole, right])
    alone = pixel_contrast_per_video(query[:1], key[:1], where[0][:1], where[1][:1], radius=0.7, temperature=TAU)
    both = pixel_contrast_per_video(query, key, *where, radius=0.7, temperature=TAU)
    assert alone > 0.1
    torch.testing.assert_close(both, alone)


def test_pixels_of_the_own_video_alone():
    fima_ = module(pixel_negatives="video", mask_position="none")
    pixels = [unit(BATCH, FRAMES, CELLS, CELLS, DIM) for _ in range(2)]
    motion = [unit(BATCH, FRAMES, CELLS, CELLS, DIM) for _ in range(2)]
    extents = torch.tensor([[0.0, 1.0]]).expand(BATCH, 2, 3, 2)
    expected = 0.0
    for v, o in ((0, 1), (1, 0)):
        for b in range(BATCH):
            columns = motion[o][b].reshape(-1, DIM).double()
            for t in range(FRAMES):
                # Equal views: at a radius of 0.7 diagonals a cell's positives are itself alone (a neighbour: 0.707).
                q, k = pixels[v][b, t].reshape(-1, DIM).double(), motion[o][b, t].reshape(-1, DIM).double()
                rows = torch.logsumexp(q @ columns.T / TAU, 1) - (q * k).sum(1) / TAU
                expected += rows.mean() / (2 * BATCH * FRAMES)
    loss = fima_.pixel_loss(pixels, motion, extents, [None, None])
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)


def test_mask_sources():
    key_map, motion_map = torch.randn(2, 5, 2, 4, 4), torch.randn(2, 5, 2, 4, 4)
    both = module(mask_source="both").foreground(key_map, motion_map)
    assert torch.equal(both, foreground_mask(key_map, motion_map))
    zero = torch.zeros_like(key_map)
    rgb = module(mask_source="rgb").foreground(key_map, motion_map)
    assert torch.equal(rgb, foreground_mask(key_map, zero))
    difference = module(mask_source="difference").foreground(key_map, motion_map)
    assert torch.equal(difference, foreground_mask(zero, motion_map))


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_the_foreground_ratio_is_the_share_of_the_foreground(ratio):
    """Section 3.2: "the portion of the foreground"; of 100 cells the 30 most active at 0.3, not 70."""
    activation = torch.stack([torch.randperm(100).float() for _ in range(3)]).view(3, 1, 1, 10, 10)
    for source in ("both", "rgb", "difference"):
        mask = module(mask_source=source, foreground_ratio=ratio).foreground(activation, activation)
        assert mask.sum(dim=(1, 2)).tolist() == [round(100 * ratio)] * 3
        assert torch.equal(mask, activation[:, 0, 0] >= 100 - round(100 * ratio))


def test_the_negatives_of_a_papers_gpu():
    """A step of two GPUs' videos in groups is the mean of two steps: 2 x 18 columns of pix each, not 4 x 18."""
    grouped, alone = module(columns="group", group=2), module(columns="local")
    pixels, motion = ([unit(4, FRAMES, CELLS, CELLS, DIM) for _ in range(2)] for _ in range(2))
    extents = torch.tensor([[0.0, 1.0]]).expand(4, 2, 3, 2)
    masks = [torch.rand(4, CELLS, CELLS) > 0.3 for _ in range(2)]
    halves = [slice(0, 2), slice(2, 4)]

    def half(tensors, rows):
        return [tensor[rows] for tensor in tensors]

    found = grouped.pixel_loss(pixels, motion, extents, masks)
    parts = [
        alone.pixel_loss(half(pixels, rows), half(motion, rows), extents[rows], half(masks, rows)) for rows in halves
    ]
    torch.testing.assert_close(found, torch.stack(parts).mean())
    assert not torch.isclose(found, alone.pixel_loss(pixels, motion, extents, masks))

    frames, parts_of = [unit(4, FRAMES, DIM) for _ in range(2)], [[unit(4, DIM) for _ in range(2)] for _ in range(2)]
    alone.queues["fra"].load_state_dict(grouped.queues["fra"].state_dict())
    found, rank = grouped.frame_loss(frames, parts_of)
    parts = [alone.frame_loss(half(frames, rows), [half(view, rows) for view in parts_of])[0] for rows in halves]
    torch.testing.assert_close(found, torch.stack(parts).mean())
    assert len(rank) == 4 * 4


def test_columns_that_cannot_be():
    with pytest.raises(UserError, match="--columns ranks: --pixel-negatives video takes no other video's pixels"):
        config(columns="ranks", pixel_negatives="video").check()
    with pytest.raises(UserError, match="--columns group: --group says how many"):
        config(columns="group").check()


def test_a_head_is_called_once_for_all_clips_of_a_loss():
    fima_ = module(stride=2, losses=("vv", "vd", "pix", "fra"))
    clip = torch.randn(BATCH, 3, 8, 24, 24)
    clips = Clips([clip] * 2, [clip] * 2, [[clip] * 2] * 2)
    rows, key_rows = [], []
    fima_.path.head.register_forward_hook(lambda head, inputs, output: rows.append(output[..., 0].numel()))
    fima_.path.key_head.register_forward_hook(lambda head, inputs, output: key_rows.append(output[..., 0].numel()))
    extents = torch.tensor([[0.0, 1.0]]).expand(BATCH, 2, 3, 2)
    fima_.losses(clips, clips.each(fima_.draw_shuffle), extents)
    frames, height, width = fima_.config.map_shape()
    pixels = 2 * BATCH * frames * height * width
    assert key_rows == [2 * BATCH, 2 * BATCH, pixels, 4 * BATCH]  # vv, vd, pix, fra
    assert rows == [2 * BATCH, pixels, 2 * BATCH * frames]  # queries, predicted pixels, predicted frames
    maps = [torch.randn(BATCH, 128, frames, height, width) for _ in range(3)]
    for features, one in zip(maps, embedded(fima_.path.head, maps), strict=True):
        torch.testing.assert_close(one, fima_.path.head(features.mean(dim=(2, 3, 4))))


def test_one_head_and_one_momentum_copy_for_everything():
    """The decoder has no momentum copy; what has one is trained by it alone."""
    fima_ = module()
    names = {".".join(name.split(".")[:2]) for name, _ in fima_.named_parameters() if name.startswith("path.")}
    assert names == {"path.backbone", "path.head", "path.key_backbone", "path.key_head"}
    assert {name.split(".")[0] for name, _ in fima_.named_parameters()} == {"path", "decoder"}
    frozen = {".".join(n.split(".")[:2]) for n, parameter in fima_.named_parameters() if not parameter.requires_grad}
    assert frozen == {"path.key_backbone", "path.key_head"}
    trained = {id(parameter) for group in fima_.configure_optimizers().param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in fima_.parameters() if parameter.requires_grad}


def test_presets_hold_the_papers_numbers():
    ucf, kinetics, released = (fima.PRESETS[name] for name in ("ucf101", "kinetics400", "ucf101-released"))
    assert (ucf.learning_rate, ucf.batch_size, ucf.epochs, ucf.queue, ucf.momentum) == (0.00375, 24, 200, 2048, 0.999)
    assert (kinetics.learning_rate, kinetics.batch_size, kinetics.epochs) == (0.01, 64, 100)
    assert (kinetics.queue, kinetics.pixel_queue) == (65536, 31360)
    assert (released.jitter, released.blur, released.enqueue) == (0.8, 0.5, "between")
    for preset in (ucf, kinetics, released):
        assert (preset.temperature, preset.radius, preset.foreground_ratio) == (0.1, 0.7, 0.5)
        assert (preset.decoder_depth, preset.decoder_width, preset.decoder_heads) == (2, 512, 4)
        assert (preset.hidden, preset.dim, preset.decoder_dropout) == (1024, 128, 0.1)
        assert (preset.frames, preset.stride, preset.size, preset.backbone) == (16, 2, 224, "i3d")
        assert {preset.weight_vv, preset.weight_pix, preset.weight_fra} == {1.0}
        assert preset.losses == ("vv", "pix", "fra")
        preset.check_backbone()


def test_draws_depend_on_the_generator_alone_and_parts_follow_the_window():
    """A window of 16 source frames is a clip of 8 with a stride of 2, and two parts of 8 without one."""
    draw = DrawViews(config(frames=8, stride=2))
    video = KnownVideo(0, "v.mp4", 50, 40, 60)
    one, two = (draw(video, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.extents, two.extents)
    assert torch.equal(one.frames, two.frames)
    assert one.extents.shape == (6, 3, 2)
    assert one.appearance.jitter.shape == (8, 4)
    first, second = one.frames[:2, 0].tolist()
    assert torch.equal(one.frames[:2], torch.tensor([[first], [second]]) + torch.arange(0, 16, 2))
    parts = torch.tensor([[first], [first + 8], [second], [second + 8]])
    assert torch.equal(one.frames[2:], parts + torch.arange(8))
    without = DrawViews(config(frames=8, stride=2, losses=("vv", "pix")))(video, torch.Generator().manual_seed(4))
    assert torch.equal(without.frames, one.frames[:2])  # what no loss looks at is not read
    assert torch.equal(without.extents, one.extents)
    begin_and_end = [[first, first + 16], [second, second + 16]]
    begin_and_end += [[start, start + 8] for start in (first, first + 8, second, second + 8)]
    assert one.extents[:, 0].tolist() == begin_and_end
