"""The losses of a step against dense formulas, the views that a video gives, and motion on the fly."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import motionops
from motionops.methods.mcl import MCL, MCLConfig, pictures
from motionops.methods.mcl.motion_alignment import motion_alignment
from motionops.methods.mcl.recording import recorded
from motionops.methods.mcl.seco import intra_loss
from motionops.methods.mcl.views import DrawViews, Moving, clip_motion, cut, tubelets
from motionops.video import KnownVideo
from motionops.views.crop_map import crop_map
from tests.made_batch import made_batch

BATCH, DIM, TAU = 3, 8, 0.1


def config(**changes):
    own = {"batch_size": BATCH, "dim": DIM, "queue": 12, "hidden": 16, "frames": 4, "size": 32}
    return replace(MCLConfig(), **{**own, **changes})


def module(**changes):
    torch.manual_seed(0)
    return MCL(config(**changes))


def batch(views=2, clips=2, size=24):
    """As the reader makes it with prepared motion."""
    torch.manual_seed(1)
    starts = torch.arange(clips).repeat(BATCH, 1)
    extents = [
        motionops.sample_extents(views, frames=4, stride=2, frame_count=16, height=size, width=size)
        for _ in range(BATCH)
    ]
    looks = [motionops.Appearance.sample(views).fields() for _ in range(BATCH)]
    return made_batch(
        torch.randint(0, 256, (BATCH, clips, 4, size, size, 3), dtype=torch.uint8),
        starts=starts,
        extents=torch.stack(extents),
        appearance=motionops.Appearance(*(torch.stack(field) for field in zip(*looks, strict=True))),
        own=Moving(torch.rand(BATCH, 1, 4, 4)),
    )


def by_hand(mcl_, given):
    """Query, its keys, h and the similarity's gradient, written out."""
    path = mcl_.path
    with recorded(path.backbone) as outputs:
        clips = cut(mcl_.config, given, given.extents)
        query = path.backbone(clips[0]).mean(dim=(2, 3, 4))
    keys = [path.key_backbone(clip).mean(dim=(2, 3, 4)) for clip in clips[1:]]
    q = path.head["inter"](query)
    k = [path.key_head.network["inter"](key) for key in keys]
    (gradient,) = torch.autograd.grad((q * k[0]).sum(), outputs[0], create_graph=True)
    return query, keys, q, k, outputs[0], gradient


def nce(query, key, negatives):
    """-log softmax of the first logit, row by row, in float64."""
    rows = []
    for q, k in zip(query.double(), key.double(), strict=True):
        logits = torch.cat([(q @ k)[None], negatives.double() @ q]) / TAU
        rows.append(torch.logsumexp(logits, 0) - logits[0])
    return torch.stack(rows).mean()


@pytest.mark.parametrize(("variant", "form"), [("v1", "paper"), ("v2", "paper"), ("v3", "paper"), ("v3", "released")])
def test_a_step_is_instance_discrimination_and_alignment(variant, form):
    mcl_ = module(alignment_variant=variant, alignment_form=form, weight_nce=0.5, weight_alignment=2.0)
    given = batch()
    queue = mcl_.queue.features.clone()
    outputs = mcl_.training_step(given, 0)
    *_, q, (key,), h, gradient = by_hand(mcl_, given)
    torch.testing.assert_close(outputs["loss_nce"].double(), nce(q, key, queue), rtol=1e-4, atol=1e-4)
    parts = motion_alignment(gradient, given.own.motion, features=h, variant=variant, form=form)
    for name in ("st", "s", "t"):
        torch.testing.assert_close(outputs[f"loss_{name}"], getattr(parts, name).detach(), rtol=1e-3, atol=1e-4)
    expected = 0.5 * outputs["loss_nce"] + 2 * parts.loss
    torch.testing.assert_close(outputs["loss"].detach(), expected.detach(), rtol=1e-3, atol=1e-3)
    outputs["loss"].backward()
    assert all(parameter.grad is not None for parameter in mcl_.parameters() if parameter.requires_grad)
    assert torch.equal(mcl_.queue.features, queue)
    mcl_.total_steps = 100  # nothing is logged yet
    mcl_.finish_step(outputs)
    torch.testing.assert_close(mcl_.queue.features[:BATCH], key)


def test_any_network_is_a_backbone_and_its_own_output_is_aligned():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(3, 8, 3, stride=(2, 8, 8), padding=1), nn.BatchNorm3d(8), nn.ReLU())
    mcl_ = MCL(config(), backbone=network)
    assert mcl_.backbone is network
    given = batch()
    outputs = mcl_.training_step(given, 0)
    query, key = cut(mcl_.config, given, given.extents)
    h = network(query)
    assert h.shape == (BATCH, 8, *mcl_.grid)
    q = mcl_.path.head["inter"](h.mean(dim=(2, 3, 4)))
    k = mcl_.path.key_head.network["inter"](mcl_.path.key_backbone(key).mean(dim=(2, 3, 4)))
    (gradient,) = torch.autograd.grad((q * k).sum(), h)
    parts = motion_alignment(gradient, given.own.motion)
    for name in ("st", "s", "t"):
        torch.testing.assert_close(outputs[f"loss_{name}"], getattr(parts, name), rtol=1e-3, atol=1e-4)
    outputs["loss"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_report_of_any_network_shows_the_motion_that_is_aligned(tmp_path, monkeypatch):
    """The readers' motion is of the cells of the network that the flags name, here (1, 4, 4) of (2, 8, 8)."""
    network = nn.Conv3d(3, 8, 3, stride=(2, 4, 4), padding=1)
    mcl_, given, shown = MCL(config(), backbone=network), batch(), []
    monkeypatch.setattr(pictures, "activation_overlay", lambda *what, **_: shown.append(what))
    mcl_.report(tmp_path, given)
    (_, maps, *_), scaled = shown[0], pictures.scaled_activation
    expected = given.own.motion.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert maps.shape == (2 * BATCH, 2, 8, 8)
    torch.testing.assert_close(maps[::2], scaled(expected[:, None]))


def test_only_the_named_parts_count_and_the_first_epochs_more():
    given = batch()
    mcl_ = module(alignment=("s",), alignment_boost=3.0, alignment_boost_epochs=1)
    outputs = mcl_.training_step(given, 0)
    assert "loss_st" not in outputs
    torch.testing.assert_close(outputs["loss"].detach(), outputs["loss_nce"] + 3 * outputs["loss_s"])
    mcl_.step = 1  # of one step an epoch: the second epoch
    outputs = mcl_.training_step(given, 0)
    torch.testing.assert_close(outputs["loss"].detach(), outputs["loss_nce"] + outputs["loss_s"])


def test_the_gradient_map_follows_the_motion():
    """Steps on the alignment alone bring the gradient map of the clips nearer to their motion."""
    mcl_ = module(weight_nce=0.0, alignment_variant="v3", momentum=1.0)
    given = batch()
    given.own = Moving(torch.zeros(BATCH, 1, 4, 4))
    given.own.motion[:, :, 1:3, 2:] = 1.0
    optimizer = torch.optim.Adam(mcl_.parameters(), lr=2e-3)
    values = []
    for _ in range(30):
        outputs = mcl_.training_step(given, 0)
        optimizer.zero_grad()
        outputs["loss"].backward()
        optimizer.step()
        values.append(outputs["loss"].item())
    assert values[-1] < 0.5 * values[0]


def test_seco_has_three_positive_keys_and_two_losses():
    mcl_ = module(seco=("intra", "order"), queue=16, epochs=4)
    given = batch(views=4, clips=3)
    given.starts[1] = torch.tensor([2, 0, 1])  # the query comes last
    queue = mcl_.queue.features.clone()
    rows = []
    hook = mcl_.path.key_head.network["inter"].register_forward_hook(
        lambda head, inputs, output: rows.append(len(output))
    )
    outputs = mcl_.training_step(given, 0)
    assert rows == [3 * BATCH]  # one call
    hook.remove()
    query, keys, q, k, *_ = by_hand(mcl_, given)
    expected = torch.stack([nce(q, key, queue) for key in k]).mean()
    torch.testing.assert_close(outputs["loss_nce"].double(), expected, rtol=1e-4, atol=1e-4)
    same, *others = [mcl_.path.key_head.network["intra"](key) for key in keys]
    intra = intra_loss(mcl_.path.head["intra"](query), same, torch.stack(others, dim=1), temperature=TAU)
    torch.testing.assert_close(outputs["loss_intra"], intra.detach(), rtol=1e-4, atol=1e-4)
    rows = [mcl_.path.head["order"](query), *(mcl_.path.key_head.network["order"](key) for key in keys[1:])]
    rows = torch.nn.functional.normalize(torch.cat(rows, dim=1).double(), dim=1)
    weight, bias = (parameter.detach().double() for parameter in mcl_.order.classifier.parameters())
    after, before = (rows @ weight.T + bias).unbind(dim=1)
    first = torch.tensor([True, False, True])  # of the clips' starts, as they are given above
    order = torch.nn.functional.softplus(torch.where(first, after - before, before - after)).mean()
    torch.testing.assert_close(outputs["loss_order"].double(), order.detach(), rtol=1e-4, atol=1e-4)
    parts = sum(outputs[f"loss_{name}"] for name in ("st", "s", "t"))
    total = outputs["loss_nce"] + parts + outputs["loss_intra"] + outputs["loss_order"] / 4
    torch.testing.assert_close(outputs["loss"].detach(), total, rtol=1e-4, atol=1e-4)


class Motion:
    """A motion file of a video that moves in its second half, at the lower right."""

    def __init__(self, frames=40):
        self.maps = torch.zeros(frames, 10, 10)
        self.maps[frames // 2 :, 7:, 7:] = 1.0

    def read(self, path):
        return self.maps


def drawing(**changes):
    own = {"crop_area": (0.1, 0.4), **changes}
    return DrawViews(config(**own), None if changes.get("motion") is False else Motion())


KNOWN = KnownVideo(0, "a.mp4", 40, 40, 40)


def starts_of(draw, generators):
    return [draw(KNOWN, generator).frames[:, 0] for generator in generators]


def generators(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_clips_start_where_the_video_moves():
    starts = starts_of(drawing(), generators(50))
    assert min(int(start.min()) for start in starts) > 12
    anywhere = starts_of(drawing(temporal_sampling=False), generators(50))
    assert min(int(start.min()) for start in anywhere) < 4
    sometimes = starts_of(drawing(temporal_probability=0.5), generators(50))
    assert min(int(start.min()) for start in sometimes) < 12
    numbers = drawing()(KNOWN, generators(1)[0]).frames
    assert numbers.shape == (2, 4)
    assert (numbers.diff(dim=1) == 2).all()


def test_crops_cover_what_moves_and_the_motion_is_that_of_the_query():
    strongest = []
    for generator in generators(20):
        plan = drawing()(KNOWN, generator)
        low, high = plan.extents[:, 1:].sort(dim=2).values.unbind(dim=2)
        inside = (high - low.clamp(min=0.7)).clamp(min=0).prod(dim=1)
        assert (inside / 0.09 >= 0.8 - 1e-4).all()
        expected = crop_map(Motion().maps[plan.frames[:1]], plan.extents[:1], (1, 4, 4))[0]
        torch.testing.assert_close(plan.own.motion, expected)
        if plan.frames[0, 0] >= 20:  # all of the clip moves
            strongest.append(plan.own.motion.max())
    assert len(strongest) > 5
    assert min(strongest) > 0.9
    plain = [drawing(spatial_crop=False)(KNOWN, one).extents for one in generators(20)]
    assert min(float(extents[:, 1:].max()) for extents in plain) < 0.9


def test_without_motion_nothing_looks_at_it():
    assert drawing(motion=False)(KNOWN, generators(1)[0]).own is None
    mcl_ = module(motion=False)
    given = replace(batch(), own=None)
    outputs = mcl_.training_step(given, 0)
    assert set(outputs) == {"loss", "loss_nce", "accuracy"}


def test_the_query_comes_before_or_after_the_two_others():
    draw = drawing(seco=("intra", "order"), queue=16)
    before = []
    for generator in generators(40):
        query, first, second = draw(KNOWN, generator).frames[:, 0].tolist()
        assert first <= second
        assert query <= first or query >= second
        before.append(query <= first)
    assert 8 < sum(before) < 32


def test_motion_on_the_fly_is_that_of_every_frame_and_the_next():
    from motionops.flow.clip_flow import clip_flow

    strided = config(motion_source="on-the-fly")
    frames = torch.randint(0, 256, (2, 2, 8, 24, 24, 3), dtype=torch.uint8)
    frames = frames.float().flatten(0, 1).permute(0, 4, 1, 2, 3)
    frames = torch.nn.functional.avg_pool3d(frames, (1, 5, 5), 1, (0, 2, 2)).permute(0, 2, 3, 4, 1)
    frames = frames.to(torch.uint8).unflatten(0, (2, 2))
    motion = torch.stack(clip_motion(strided, frames))
    assert motion.shape == (2, 2, 4, 24, 24)
    expected = motionops.motion_map(clip_flow(frames[1, 0, 4:6][None]))[0, 0]
    torch.testing.assert_close(motion[1, 0, 2], expected)
    several = clip_motion(strided, [frames[0], frames[1, :, :, :, :20]])
    torch.testing.assert_close(several[0], motion[0])
    assert several[1].shape == (2, 4, 24, 20)
    dense = config(motion_source="on-the-fly", stride=1, frames=8)
    whole = torch.stack(clip_motion(dense, frames))
    torch.testing.assert_close(whole[1, 0, 4], expected)
    assert torch.equal(whole[:, :, 7], whole[:, :, 6])  # the last frame takes the one before


def test_views_on_the_fly_depend_on_the_video_alone():
    mcl_ = module(motion_source="on-the-fly")
    frames = torch.randint(0, 256, (BATCH, 2, 8, 24, 24, 3), dtype=torch.uint8)
    starts = torch.zeros(BATCH, 2, dtype=torch.int64)
    given = made_batch(frames, starts=starts, own=Moving(seed=torch.arange(BATCH)))
    extents, motion = tubelets(mcl_.config, given, mcl_.grid)
    assert extents.shape == (BATCH, 2, 3, 2)
    assert motion.shape == (BATCH, 1, 4, 4)
    second = made_batch(frames[1:2], starts=starts[1:2], own=Moving(seed=torch.tensor([1])))
    alone, own = tubelets(mcl_.config, second, mcl_.grid)
    assert torch.equal(alone[0], extents[1])
    torch.testing.assert_close(own[0], motion[1])


def test_keys_of_the_own_video_are_negatives_or_not():
    """--no-own-negatives: "the other instances" of Eq. 3; the released code has them among the negatives."""
    for own in (True, False):
        mcl_ = module(weight_alignment=0.0, own_negatives=own)
        given = batch()
        _, _, q, *_ = by_hand(mcl_, given)
        near = q.detach()[torch.arange(12) % 3] + 0.2 * torch.randn(12, DIM)  # of the own video and of another
        mcl_.queue.enqueue(torch.nn.functional.normalize(near, dim=1), torch.arange(12) % 6)
        queue, owners = mcl_.queue.features.clone(), mcl_.queue.ids.tolist()
        step = mcl_.losses(*mcl_.prepare(given))
        _, _, q, (k,), *_ = by_hand(mcl_, given)
        rows = []
        for b in range(BATCH):
            kept = [place for place, owner in enumerate(owners) if own or owner != b]
            rows.append(nce(q[b : b + 1], k[b : b + 1], queue[kept]))
        torch.testing.assert_close(step.losses["nce"].double(), torch.stack(rows).mean(), rtol=1e-4, atol=1e-4)
        assert step.losses["nce"] > 0.3
        assert step.enqueue[0][2].tolist() == [0, 1, 2]
