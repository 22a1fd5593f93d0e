"""The losses of a step against dense formulas in float64; which clips, orders and levels a step draws."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from motionops.errors import UserError
from motionops.methods.controllable import Controllable, ControllableConfig, make_dataset, method
from motionops.methods.controllable.drawn import draw, wrong_orders
from motionops.methods.controllable.level_pairs import level_pairs, other_videos
from motionops.methods.controllable.order_heads import order_table
from motionops.methods.controllable.views import Clips, cut
from motionops.views import IntensityLevels
from tests.made_batch import made_batch
from tests.methods.compare_compiled import compare
from tests.methods.small_network import SmallNetwork

BATCH, CLIPS, TAU = 3, 4, 0.1


def module(backbone=None, **changes):
    torch.manual_seed(0)
    own = {"batch_size": BATCH, "dim": 8, "hidden": 16, "size": 16, "clips": CLIPS, "global_cells": 8}
    return Controllable(replace(ControllableConfig(), **{**own, **changes}), backbone)


def drawn(controllable_, levels=None):
    levels = torch.zeros(BATCH, controllable_.config.clips, dtype=torch.int64) if levels is None else levels
    generators = controllable_.shared_generator(1), controllable_.shared_generator(2)
    return draw(controllable_.config, levels, *generators, torch.device("cpu"))


def clips_of(controllable_, data):
    return cut(controllable_.config, data, controllable_.shared_generator(0))


def overlap(a, b):
    return max(0.0, min(max(a), max(b)) - max(min(a), min(b)))


def cells(extent, count):
    """The intervals of an axis's cells, as the extent runs."""
    start, end = extent
    return [(start + (end - start) * i / count, start + (end - start) * (i + 1) / count) for i in range(count)]


def share(query_cell, key_cell):
    """Eq. 1: the intersection over the volume of the local cell; a cell is an interval of t, y and x."""
    value = 1.0
    for q, k in zip(query_cell, key_cell, strict=True):
        value *= overlap(q, k) / abs(q[1] - q[0])
    return value


def grid(extent, shape):
    axes = [cells(extent[axis].tolist(), count) for axis, count in enumerate(shape)]
    return [(t, y, x) for t in axes[0] for y in axes[1] for x in axes[2]]


def test_region_loss_is_the_dense_formula():
    """Eqs. 1, 3 and 4, a row at a time, and their gradients: to both maps and, through queries and keys, the head."""
    controllable_ = module()
    local_map = torch.randn(BATCH, 2, 2, 2, 2, 128, requires_grad=True)
    view_map = torch.randn(BATCH, 4, 2, 2, 128, requires_grad=True)
    extents = torch.empty(BATCH, 3, 3, 2)
    extents[:, 0] = torch.tensor([[0.0, 24.0], [0.0, 1.0], [1.0, 0.0]])  # the global view, mirrored
    for b in range(BATCH):
        extents[b, 1] = torch.tensor([[2.0 + b, 10.0 + b], [0.1, 0.6], [0.2, 0.9]])
        extents[b, 2] = torch.tensor([[12.0, 20.0], [0.3, 1.0], [0.8, 0.1 * b]])
    loss = controllable_.region_loss(local_map, view_map, extents)
    head = copy.deepcopy(controllable_.head).double()
    wide = [a_map.detach().double().requires_grad_() for a_map in (local_map, view_map)]
    query, key = head(wide[0]).reshape(BATCH, 2, 8, 8), head(wide[1]).reshape(BATCH * 16, 8)
    total = 0.0
    for b in range(BATCH):
        key_cells = grid(extents[b, 0].double(), (4, 2, 2))
        for v in range(2):
            for i, cell in enumerate(grid(extents[b, 1 + v].double(), (2, 2, 2))):
                logits = key @ query[b, v, i] / TAU
                log_p = logits - logits.logsumexp(0)
                shares = [share(cell, other) for other in key_cells]
                assert sum(shares) == pytest.approx(1, abs=1e-6)
                total -= sum(s * log_p[b * 16 + j] for j, s in enumerate(shares))
    expected = total / (BATCH * 2 * 8)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(loss, [local_map, view_map, *controllable_.head.parameters()])
    for got, wanted in zip(gradients, torch.autograd.grad(expected, [*wide, *head.parameters()]), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max().item())


def test_without_a_head_cells_are_compared_themselves():
    controllable_ = module(head="none", losses=("rc",))
    assert controllable_.head is None
    features = torch.randn(2, 3, 128)
    torch.testing.assert_close(controllable_.project(features), functional.normalize(features, dim=-1))


@pytest.mark.parametrize("pairs", ["clips", "global"])
def test_clip_loss_is_the_dense_formula(pairs):
    controllable_ = module(losses=("nce",), nce_pairs=pairs)
    local, view = torch.randn(BATCH, CLIPS, 128), torch.randn(BATCH, 128)
    loss, accuracy = controllable_.clip_loss(local, view)
    query, whole = controllable_.head(local).double(), controllable_.head(view).double()
    total, right = 0.0, 0
    for k in range(CLIPS):
        for b in range(BATCH):
            keys = whole if pairs == "global" else query[:, (k + 1) % CLIPS]
            logits = keys @ query[b, k] / TAU
            total += (logits.logsumexp(0) - logits[b]).item()
            right += int(logits.argmax() == b)
    assert loss.item() == pytest.approx(total / (BATCH * CLIPS), rel=1e-5)
    assert accuracy.item() == pytest.approx(right / (BATCH * CLIPS))


def test_one_clip_meets_the_global_view():
    controllable_ = module(losses=("nce",), clips=1)
    assert controllable_.config.uses_global()
    local, view = torch.randn(BATCH, 1, 128), torch.randn(BATCH, 128)
    loss, _ = controllable_.clip_loss(local, view)
    logits = controllable_.head(local[:, 0]).double() @ controllable_.head(view).double().T / TAU
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, torch.arange(BATCH)).item(), rel=1e-5)


def bound(joint, marginal, estimator):
    """Eq. 7 and its alternatives in plain numbers."""
    mean = sum(joint) / len(joint)
    flat = [value for row in marginal for value in row]
    if estimator == "mine":
        return mean - math.log(sum(map(math.exp, flat)) / len(flat))
    if estimator == "nwj":
        return mean - sum(map(math.exp, flat)) / len(flat) / math.e
    ratios = [
        math.log(math.exp(j) * (len(row) + 1) / (math.exp(j) + sum(map(math.exp, row))))
        for j, row in zip(joint, marginal, strict=True)
    ]
    return sum(ratios) / len(ratios)


@pytest.mark.parametrize("estimator", ["mine", "infonce", "nwj"])
@pytest.mark.parametrize("head", ["gru", "mlp", "gru-mlp"])
def test_order_loss_is_the_dense_formula(head, estimator):
    controllable_ = module(order_head=head, order_estimator=estimator, shuffles=3)
    local, view = torch.randn(BATCH, CLIPS, 128), torch.randn(BATCH, 128)
    orders = wrong_orders(BATCH * 3, CLIPS, controllable_.shared_generator(1))
    score = controllable_.order
    joint, marginal = [], []
    for b in range(BATCH):
        joint.append(score(local[b : b + 1], view[b : b + 1]).item())
        rows = orders[3 * b : 3 * b + 3]
        marginal.append([score(local[b : b + 1, row], view[b : b + 1]).item() for row in rows])
    loss, accuracy = controllable_.order_loss(local, view, drawn(controllable_))
    assert loss.item() == pytest.approx(-bound(joint, marginal, estimator), abs=1e-5)
    wins = [all(j > value for value in row) for j, row in zip(joint, marginal, strict=True)]
    assert accuracy.item() == pytest.approx(sum(wins) / BATCH)


def test_vcop_names_the_order_without_the_video():
    controllable_ = module(order_head="vcop", clips=3)
    local = torch.randn(BATCH, 3, 128)
    target = torch.randint(6, (BATCH,), generator=controllable_.shared_generator(1))
    table = order_table(3)
    logits = torch.cat([controllable_.order(local[b : b + 1, table[target[b]]]) for b in range(BATCH)])
    loss, accuracy = controllable_.order_loss(local, None, drawn(controllable_))
    assert loss.item() == pytest.approx(functional.cross_entropy(logits.double(), target).item(), rel=1e-5)
    assert accuracy.item() == pytest.approx((logits.argmax(1) == target).float().mean().item())


@pytest.mark.parametrize("clips", [2, 3, 4])
def test_wrong_orders_are_never_right(clips):
    orders = wrong_orders(3000, clips, torch.Generator().manual_seed(0))
    assert torch.equal(orders.sort(dim=1).values, torch.arange(clips).expand(3000, clips))
    assert not (orders == torch.arange(clips)).all(dim=1).any()
    assert len({tuple(order) for order in orders.tolist()}) == math.factorial(clips) - 1


@pytest.mark.parametrize("estimator", ["mine", "nwj", "infonce"])
def test_information_is_its_formulas_and_moves_the_features_alone(estimator):
    controllable_ = module(estimator=estimator, marginals=2)
    local = torch.randn(BATCH, CLIPS, 128, requires_grad=True)
    view = torch.randn(BATCH, 128, requires_grad=True)
    levels = torch.randint(3, (BATCH, CLIPS), generator=torch.Generator().manual_seed(1))
    of_levels, of_views = controllable_.information(local, view, drawn(controllable_, levels))

    generator = controllable_.shared_generator(2)
    videos = torch.arange(BATCH).repeat_interleave(CLIPS)
    first, second, others = level_pairs(levels.flatten(), videos, 2, generator)
    strangers = other_videos(videos, torch.arange(BATCH), 2, generator)
    network = controllable_.information.theta
    weight = torch.cat([network.first_x.weight, network.first_y.weight], dim=1)

    def score(x, y):
        hidden = (weight @ torch.cat([x, y]) + network.first_x.bias).clamp(min=0)
        return (network.second.weight[0] @ hidden + network.second.bias[0]).item()

    flat = local.detach().flatten(0, 1)
    expected = bound(
        [score(flat[i], flat[j]) for i, j in zip(first, second, strict=True)],
        [[score(flat[i], flat[m]) for m in others[i]] for i in first],
        estimator,
    )
    assert of_levels.item() == pytest.approx(expected, abs=1e-5)
    rows = range(BATCH * CLIPS)
    expected = bound(
        [score(flat[i], view[videos[i]]) for i in rows],
        [[score(flat[i], view[m]) for m in strangers[i]] for i in rows],
        estimator,
    )
    assert of_views.item() == pytest.approx(expected, abs=1e-5)
    (of_levels + of_views).backward()
    assert local.grad.abs().sum() > 0
    assert view.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_information_without_a_shared_level_is_zero_and_differentiable():
    controllable_ = module()
    local, view = torch.randn(BATCH, CLIPS, 128, requires_grad=True), torch.randn(BATCH, 128)
    own_levels = torch.arange(BATCH * CLIPS).view(BATCH, CLIPS)
    of_levels, _ = controllable_.information(local, view, drawn(controllable_, own_levels))
    assert of_levels.item() == 0.0
    of_levels.backward()


def test_the_loss_of_information_goes_down_to_zero_and_no_further(monkeypatch):
    """Information is not negative: where a bound is below 0, nothing moves the network."""
    controllable_ = module(losses=("rc", "mi"))
    for levels, views in ((0.3, -0.2), (-0.1, 0.4), (-0.1, -0.2), (0.5, 0.25)):
        below = torch.tensor([levels, views], requires_grad=True)
        monkeypatch.setattr(controllable_.information, "forward", lambda *given, below=below: (below[0], below[1]))
        step = controllable_.losses(*controllable_.prepare(batch(controllable_.config)))
        assert step.losses["mi"].item() == pytest.approx(max(levels, 0) + max(views, 0))
        (gradient,) = torch.autograd.grad(step.losses["mi"], below)
        assert gradient.tolist() == [float(levels > 0), float(views > 0)]
        assert step.shown["mi_levels"].item() == pytest.approx(levels)  # as it is: a bound that is held out
        assert step.shown["mi_views"].item() == pytest.approx(views)


def batch(config, size=20, count=BATCH, seed=0):
    """A batch as the data set gives it."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (count, config.clips + 1, config.frames, size, size, 3), generator=generator)
    extents = torch.tensor([[0.0, 24.0], [0.0, 1.0], [0.0, 1.0]]).repeat(count, config.clips + 1, 1, 1)
    return made_batch(frames.to(torch.uint8), extents=extents)


def test_clips_of_a_step_share_its_levels(monkeypatch):
    controllable_ = module(drawn_levels=2)
    looks = []
    original = IntensityLevels.appearance
    monkeypatch.setattr(IntensityLevels, "appearance", lambda s, n, g: looks.append(n) or original(s, n, g))
    clips = clips_of(controllable_, batch(controllable_.config))
    assert clips.view.shape == (BATCH, 3, 8, 16, 16)
    assert clips.local.shape == (BATCH * CLIPS, 3, 8, 16, 16)
    assert clips.levels.shape == (BATCH, CLIPS)
    assert torch.equal(looks[0].view(BATCH, CLIPS + 1)[:, 1:], clips.levels)
    assert len(set(looks[0].tolist())) == 2
    controllable_.step = 1
    clips_of(controllable_, batch(controllable_.config))
    assert set(looks[0].tolist()) != set(looks[1].tolist())


def test_ranks_cut_their_own_part_of_what_one_process_would(monkeypatch):
    made = module().config
    data, generator = batch(made), torch.Generator()

    def cut_on(rank, ranks, given):
        monkeypatch.setattr("motionops.methods.controllable.views.world", lambda: (rank, ranks))
        return cut(made, given, generator.manual_seed(3))

    frames, extents = torch.cat([data.frames] * 2), torch.cat([data.extents] * 2)
    whole = cut_on(0, 1, made_batch(frames, extents=extents))
    assert whole.levels.shape == (2 * BATCH, CLIPS)
    for rank, (view, local) in enumerate(zip(whole.view.chunk(2), whole.local.chunk(2), strict=True)):
        part = cut_on(rank, 2, data)
        assert torch.equal(part.levels, whole.levels)
        assert torch.equal(part.view, view)
        assert torch.equal(part.local, local)
    assert not torch.equal(*whole.view.chunk(2))


def test_videos_of_several_sizes_are_cut_as_those_of_one():
    controllable_ = module()
    data = batch(controllable_.config)
    together = clips_of(controllable_, data)
    apart = clips_of(controllable_, replace(data, frames=list(data.frames)))
    assert torch.equal(together.local, apart.local)
    assert torch.equal(together.view, apart.view)


@pytest.mark.parametrize("losses", [("rc",), ("nce",), ("rc", "mi", "td"), ("nce", "mi", "td")])
def test_a_step_adds_what_its_losses_name(losses):
    controllable_ = module(losses=losses, weight_mi=0.5, weight_td=3.0, weight_rc=2.0)
    out = controllable_.training_step(batch(controllable_.config), 0)
    weights = {"rc": 2.0, "mi": 0.5, "td": 3.0, "nce": 1.0}
    assert {name for name in out if name.startswith("loss_")} == {f"loss_{name}" for name in losses}
    total = sum(weights[name] * out[f"loss_{name}"] for name in losses)
    assert out["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    if "mi" in losses:
        terms = out["mi_levels"].clamp(min=0) + out["mi_views"].clamp(min=0)
        assert out["loss_mi"].item() == pytest.approx(terms.item(), abs=1e-6)
    out["loss"].backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in controllable_.parameters())


def test_plain_contrast_needs_no_global_view():
    controllable_ = module(losses=("nce",))
    assert clips_of(controllable_, batch(controllable_.config)).view is None
    assert controllable_.clips_per_step == BATCH * CLIPS
    assert module().clips_per_step == BATCH * (CLIPS + 1)


class Bare(torch.nn.Module):
    """A backbone that says nothing of itself: 8 frames of 16 x 16 -> 4 x 8 x 8 cells of 6 channels."""

    def __init__(self):
        super().__init__()
        self.layer1 = torch.nn.Conv3d(3, 6, 3, stride=2, padding=1)

    def forward(self, clips):
        return self.layer1(clips).relu()


@pytest.mark.parametrize("cells_", [4, 8])
def test_any_network_can_be_the_backbone(monkeypatch, cells_):
    c = module(global_cells=cells_, order_input="map").config
    controllable_ = Controllable(c, Bare())
    seen, original = [], controllable_.region_loss
    monkeypatch.setattr(controllable_, "region_loss", lambda *maps: seen.append(maps) or original(*maps))
    controllable_.training_step(batch(c), 0)["loss"].backward()
    ((local_map, view_map, _),) = seen
    assert (local_map.shape, view_map.shape) == ((BATCH, CLIPS, 4, 8, 8, 6), (BATCH, cells_, 8, 8, 6))
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in controllable_.parameters())
    with pytest.raises(UserError, match="--global-cells: Bare makes 4 or 8 temporal cells of --frames 8, not 2"):
        Controllable(replace(c, global_cells=2), Bare())


@pytest.mark.parametrize("cells_", [2, 4, 8])
def test_the_global_map_has_the_temporal_cells_that_were_asked_for(monkeypatch, cells_):
    controllable_ = module(global_cells=cells_)
    seen = []
    monkeypatch.setattr(controllable_, "region_loss", lambda q, k, e: seen.append((q.shape, k.shape)) or q.sum() * 0)
    controllable_.training_step(batch(controllable_.config), 0)
    assert seen == [((BATCH, CLIPS, 2, 2, 2, 128), (BATCH, cells_, 2, 2, 128))]


def test_frames_of_the_global_view_are_spread_and_local_ones_are_dense(tmp_path):
    from motionops.training.data.videos import TrainingVideos
    from motionops.video import KnownVideo, Video

    config = replace(ControllableConfig(), stride=2, clips=4)
    dataset = make_dataset(config, TrainingVideos([Video("a.mp4", "x", 80), Video("b.mp4", "x", 80)]))
    generator = torch.Generator().manual_seed(0)
    plan = dataset.plan(KnownVideo(0, "a.mp4", 80, 30, 40), generator)
    numbers, extents = plan.frames, plan.extents
    assert numbers[0].tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert (numbers[1:].diff(dim=1) == 2).all()
    assert extents.shape == (5, 3, 2)
    assert extents[0, 0].tolist() == [0, 80]
    assert torch.equal(extents[1:, 0, 0], numbers[1:, 0].float())
    assert torch.equal(extents[1:, 0, 1], numbers[1:, 0].float() + 16)
    low, high = extents[0, 1:].amin(1), extents[0, 1:].amax(1)
    assert (extents[1:, 1:].amin(2) >= low).all()
    assert (extents[1:, 1:].amax(2) <= high).all()
    assert 0.8 - 1e-5 <= (high - low).prod() <= 1


def test_however_many_clips_share_a_level(graphs, monkeypatch):
    """One graph for some, and one for none."""
    flags = {"batch_size": 4, "frames": 4, "clips": 2, "global_cells": 4, "stride": 1, "compile": True}
    controllable_ = module(SmallNetwork(4), **flags)
    view, local = torch.randn(4, 3, 4, 16, 16), torch.randn(8, 3, 4, 16, 16)
    different = torch.arange(8).view(4, 2)

    def prepare(module, shared):
        clips = Clips(view, local, torch.where(different < shared, 0, different))
        monkeypatch.setattr(method, "cut", lambda *given: clips)

    compare(controllable_, prepare, [4, 8, 0, 5, 6])
    assert len(graphs) == 2
