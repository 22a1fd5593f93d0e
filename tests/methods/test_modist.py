"""The losses of a step against dense formulas in float64; the choice of motion clips; ids of the queues."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import motionops
from motionops.contrast.feature_queue import FeatureQueue
from motionops.errors import UserError
from motionops.methods.modist import PRESETS, MoDist, MoDistConfig, method, moving_clips, views
from motionops.methods.modist.views import Clips, DrawClips, Pair, cut
from motionops.motion import pair_motion as motion_input
from motionops.motion.pair_motion import tvl1_pairs
from motionops.video import KnownVideo
from tests.made_batch import made_batch
from tests.methods.compare_compiled import compare
from tests.methods.small_network import SmallNetwork

BATCH, DIM, TAU = 4, 8, 0.1


def config(**changes):
    own = {"batch_size": BATCH, "dim": DIM, "queue": 12, "size": 16, "hidden": 16, "frames": 2, "motion_frames": 2}
    return replace(MoDistConfig(), **{**own, "motion": "frame-difference", **changes})


def module(**changes):
    torch.manual_seed(0)
    return MoDist(config(**changes))


def unit(*shape, dtype=torch.float32):
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


def dense(query, key, ids, queue, queue_ids):
    """IN(query, key, negatives of other videos), a row at a time, in float64."""
    total = 0.0
    for q, k, video in zip(query.double(), key.double(), ids.tolist(), strict=True):
        others = [row.double() for row, owner in zip(queue, queue_ids.tolist(), strict=True) if owner != video]
        logits = torch.stack([q @ k, *(q @ row for row in others)]) / TAU
        total = total + torch.logsumexp(logits, 0) - logits[0]
    return total / len(query)


def test_no_negative_is_of_the_query_own_video():
    modist_ = module()
    queue = modist_.queues["motion"]
    query, key = unit(BATCH, DIM), unit(BATCH, DIM)
    ids = torch.full((BATCH,), 7)
    queue.enqueue(unit(12, DIM), torch.full((12,), 7))
    loss, rank = modist_.moving_loss(query, key, queue, ids, torch.arange(BATCH))
    assert loss.item() == 0.0  # the key is alone
    assert rank.tolist() == [0] * BATCH


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 0], []])
def test_a_term_equals_the_dense_formula_in_double(rows):
    modist_ = module()
    queue = FeatureQueue(40, DIM, dtype=torch.float64)
    queue.enqueue(unit(30, DIM, dtype=torch.float64), torch.arange(30) % 6)
    query, key = unit(BATCH, DIM, dtype=torch.float64).requires_grad_(), unit(BATCH, DIM, dtype=torch.float64)
    ids, rows = torch.tensor([0, 3, 5, 9]), torch.tensor(rows, dtype=torch.int64)
    loss, _ = modist_.moving_loss(query, key, queue, ids, rows)
    loss.backward()
    assert query.grad is not None
    if len(rows):
        expected = dense(query.detach()[rows], key[rows], ids[rows], queue.features, queue.ids)
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=1e-12)
    else:
        assert loss.item() == 0.0


def step(modist_, visual, motion, moving, paired, ids, monkeypatch):
    """A training step with given embeddings `(query, key)` of both pathways."""
    monkeypatch.setattr(method, "cut", lambda *given: Clips(Pair(*visual), Pair(*motion), moving, paired))
    monkeypatch.setattr(modist_, "embed", lambda pathway, embeddings, shuffle: embeddings)
    modist_.total_steps = modist_.steps_per_epoch = 1000
    return modist_.training_step(made_batch(count=len(ids), index=ids), 0)


@pytest.mark.parametrize("negatives", ["query", "key"])
def test_the_four_terms_and_what_enters_the_queues(monkeypatch, negatives):
    modist_ = module(mv_negatives=negatives, weight_v=1.0, weight_m=1.0)
    for queue in modist_.queues.values():
        queue.enqueue(unit(12, DIM), torch.arange(12) % 5)
    (v_q, v_k), (m_q, m_k) = (unit(BATCH, DIM), unit(BATCH, DIM)), (unit(BATCH, DIM), unit(BATCH, DIM))
    moving, ids = torch.tensor([True, False, True, True]), torch.tensor([0, 2, 4, 8])
    paired = torch.tensor([True, False, False, True])
    queues = zip("vm", modist_.queues.values(), strict=True)
    before = {name: (queue.features.clone(), queue.ids.clone()) for name, queue in queues}
    out = step(modist_, (v_q, v_k), (m_q, m_k), moving, paired, ids, monkeypatch)
    rows, pairs = torch.tensor([0, 2, 3]), torch.tensor([0, 3])
    to_motion, to_visual = ("v", "m") if negatives == "query" else ("m", "v")
    expected = {
        "v": dense(v_q, v_k, ids, *before["v"]),
        "m": dense(m_q[pairs], m_k[pairs], ids[pairs], *before["m"]),
        "mv": dense(v_q[rows], m_k[rows], ids[rows], *before[to_motion])
        + dense(m_q[rows], v_k[rows], ids[rows], *before[to_visual]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(out[f"loss_{name}"].double(), value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out["loss"].double(), sum(expected.values()), rtol=1e-5, atol=1e-5)
    assert out["low_motion"] == 1
    assert torch.equal(modist_.queues["visual"].features, before["v"][0])  # not before the backward pass
    modist_.finish_step(out)
    assert torch.equal(modist_.queues["visual"].features[:4], v_k)
    assert modist_.queues["visual"].ids[:4].tolist() == ids.tolist()
    assert torch.equal(modist_.queues["motion"].features[:3], m_k[rows])
    assert modist_.queues["motion"].ids[:3].tolist() == [0, 4, 8]
    assert torch.equal(modist_.queues["motion"].features[3:], before["m"][0][3:])


def squares_of(config, moves):
    """Squares as readers send them; candidate c of video b changes within its pairs where moves[b][c]."""
    still = torch.full((16, 16, 3), 90, dtype=torch.uint8)
    moved = still.clone()
    moved[:, ::2] = 200
    batch = []
    for video in moves:
        squares = []
        for candidate in video:
            squares += [still, moved if candidate else still] * config.motion_frames
        batch.append(torch.stack(squares))
    return torch.stack(batch)  # uint8 [B, n, S, S, 3]


def choose_motion(config, moves):
    return moving_clips.choose_motion(config, squares_of(config, moves), tvl1_pairs)


def test_motion_clips_are_the_first_candidates_above_gamma(monkeypatch):
    four = config(gamma=0.05, candidates=4)
    moves = [[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    computed = []
    original = moving_clips.motion_of_pairs
    monkeypatch.setattr(moving_clips, "motion_of_pairs", lambda p, *rest: computed.append(len(p)) or original(p, *rest))
    clips, moving, chosen = choose_motion(four, moves)
    assert moving.tolist() == [True, True, True, False]
    assert chosen.tolist() == [[0, 1], [1, 3], [3, 3], [0, 1]]
    assert computed == [4, 4, 3, 3]  # the third candidate of the first video was not needed
    for clip in clips:
        assert clip.shape == (4, 3, 2, 16, 16)
        assert clip[:3].abs().mean() > 0.05
        assert clip[3].abs().max() == 0


def test_without_gamma_nothing_is_refused():
    clips, moving, chosen = choose_motion(config(gamma=0.0), [[0, 0], [1, 0]])
    assert moving.tolist() == [True, True]
    assert chosen.tolist() == [[0, 1], [0, 1]]
    assert len(clips) == 2


VIDEO = KnownVideo(0, "v.mp4", 60, 40, 60)


def test_what_is_drawn_of_a_video():
    """Two visual clips and the candidates, each frame with the one an interval before it; no shift of the hue."""
    made = config(motion="flow-edges", flow="tvl1", gamma=0.05, candidates=4, frames=8, stride=2, motion_frames=3)
    draw, starts, hues = DrawClips(made, None), [], []
    for seed in range(40):
        plan = draw(VIDEO, torch.Generator().manual_seed(seed))
        visual, pairs = plan.frames, plan.own.numbers.view(4, 3, 2)
        assert visual.shape == (2, 8)
        assert (visual.diff(dim=1) == 2).all()
        assert (pairs[..., 1] - pairs[..., 0] == made.flow_interval).all()
        assert (pairs.diff(dim=1) == made.motion_stride).all()
        assert min(visual.min(), pairs.min()) >= 0
        assert max(visual.max(), pairs.max()) < 60
        assert len(set(visual[:, 0].tolist())) == 2
        assert len(set(pairs[:, 0, 0].tolist())) == 4
        starts += [pairs[:, 0, 0].tolist()]
        hues.append(plan.appearance.jitter)
    firsts = [first for first, *_ in starts]
    assert min(firsts) < 12
    assert max(firsts) > 38
    assert any(start != sorted(start) for start in starts)
    jitter = torch.cat(hues)
    assert (jitter[:, 3] == 0).all()  # Section 4.1
    assert jitter[:, :3].std(dim=0).min() > 0.05


def test_prepared_clips_are_above_gamma():
    """Edges of 0 to 10: a gamma of 0.02 is a mean of 0.2. The video moves from frame 30 on."""
    edges = torch.where(torch.arange(60) < 30, 0.15, 0.25)
    folder = SimpleNamespace(means=lambda path: edges, read=lambda path, times: times)
    made = config(motion="flow-edges", flow="prepared", gamma=0.02, motion_frames=4, motion_stride=2)
    starts = []
    for seed in range(30):
        shown = DrawClips(made, folder)(VIDEO, torch.Generator().manual_seed(seed)).own
        assert (shown.edges.diff(dim=1) == 2).all()
        assert edges[shown.edges].mean(dim=1).min() > 0.2
        assert shown.moving == 1
        starts += shown.edges[:, 0].tolist()
    assert min(starts) < 30 < 45 < max(starts)
    still = SimpleNamespace(means=lambda path: torch.full((60,), 0.15), read=folder.read)
    assert DrawClips(made, still)(VIDEO, torch.Generator()).own.moving == 0


def test_without_temporal_jitter_a_visual_clip_shows_the_moment_of_the_other_motion_clip(monkeypatch):
    """[v^q, m^k] and [m^q, v^k] are the pairs of mv: the visual query is of the motion key's time."""
    made = config(temporal_jitter=False, gamma=0.05, candidates=4)
    windows = torch.arange(4, dtype=torch.uint8) * 50
    frames = windows[None, :, None, None, None, None].expand(2, 4, made.frames, 16, 16, 3)
    motion = [torch.zeros(2, 3, made.motion_frames, 16, 16)] * 2
    chosen = torch.tensor([[0, 2], [3, 1]])
    monkeypatch.setattr(views, "choose_motion", lambda *given: (motion, torch.ones(2, dtype=torch.bool), chosen))
    given = made_batch(
        frames.contiguous(),
        extents=torch.tensor([[0.0, 4.0], [0.0, 1.0], [0.0, 1.0]]).expand(2, 2, 3, 2),
        appearance=motionops.Appearance.neutral(batch=4).map(lambda field: field.unflatten(0, (2, 2))),
    )
    visual = views.cut(replace(made, mean=(0.0,) * 3, std=(1.0,) * 3), given, tvl1_pairs).visual
    shown = [(255 * clips.mean(dim=(1, 2, 3, 4)) / 50).round().int().tolist() for clips in visual]
    assert shown == [[2, 1], [0, 3]]


def test_a_motion_clip_is_no_pair_with_itself():
    """Of a video with one clip above gamma, or of one in which all clips are alike, there is no pair of L_m."""
    own = config(gamma=0.05, candidates=2)
    squares = squares_of(own, [[1, 1], [1, 0], [0, 0]])
    squares[0].view(2, own.motion_frames, 2, 16, 16, 3)[1, 1, 1, :, ::2] = 230  # another clip than the first
    frames = torch.zeros(3, 2, own.frames, 16, 16, 3, dtype=torch.uint8)
    look = motionops.Appearance.neutral(6).map(lambda part: part.unflatten(0, (3, 2)))
    extents = torch.tensor([0.0, 1.0]).expand(3, 2, 3, 2)
    batch = made_batch(frames, own=squares, extents=extents, appearance=look)
    clips = cut(own, batch, tvl1_pairs)
    assert clips.moving.tolist() == [True, True, False]
    assert clips.paired.tolist() == [True, False, False]
    assert torch.equal(clips.motion.query[1], clips.motion.key[1])


def test_any_network_is_a_backbone():
    torch.manual_seed(0)
    visual, motion = (nn.Sequential(nn.Conv3d(3, channels, 3, stride=(1, 8, 8)), nn.ReLU()) for channels in (4, 6))
    small = config(gamma=0.05, frames=4, motion_frames=3)
    modist_ = MoDist(small, visual, motion)
    assert modist_.backbone is visual
    modist_.total_steps = modist_.steps_per_epoch = 1000
    given = made_batch(
        torch.randint(0, 256, (2, 2, 4, 16, 16, 3), dtype=torch.uint8),
        own=squares_of(small, [[1, 1, 1, 1], [0, 1, 0, 1]]),
        extents=torch.tensor([[0.0, 4.0], [0.0, 1.0], [0.0, 1.0]]).expand(2, 2, 3, 2),
        appearance=motionops.Appearance.neutral(batch=4).map(lambda field: field.unflatten(0, (2, 2))),
    )
    outputs = modist_.training_step(given, 0)
    outputs["loss"].backward()
    assert outputs["low_motion"] == 0
    for network in (visual, motion):
        assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_a_set_where_nothing_moves_is_refused(monkeypatch):
    modist_ = module()
    modist_.total_steps = modist_.steps_per_epoch = 2
    nothing = torch.zeros(BATCH, dtype=torch.bool)
    assert modist_.count_still(nothing) == 4
    modist_.step = 1
    with pytest.raises(UserError, match=r"--gamma 0.002: of the 8 videos drawn so far none has a clip of"):
        modist_.count_still(nothing)


def test_frame_differences_and_flow_inputs():
    pairs = torch.randint(0, 256, (2, 3, 2, 8, 8, 3), dtype=torch.uint8)
    difference = motion_input.motion_of_pairs(pairs, "frame-difference", None)
    expected = (pairs[:, :, 1].double() - pairs[:, :, 0].double()).permute(0, 4, 1, 2, 3) / 255
    torch.testing.assert_close(difference.double(), expected, rtol=1e-6, atol=1e-6)
    vectors = torch.randn(6, 2, 8, 8)
    flow = motion_input.motion_of_pairs(pairs, "flow", lambda flat: vectors)
    assert torch.equal(flow[1, :2, 2], vectors[5])
    torch.testing.assert_close(
        motion_input.strength(flow, "flow"), vectors.norm(dim=1).unflatten(0, (2, 3)).mean((1, 2, 3)) / 10
    )
    assert motion_input.network_input(flow, "flow").shape == (2, 3, 3, 8, 8)


def test_flow_edges_of_pairs():
    pairs = torch.zeros(2, 3, 2, 8, 8, 3, dtype=torch.uint8)
    vectors = torch.randn(6, 2, 8, 8)
    edges = motion_input.motion_of_pairs(pairs, "flow-edges", lambda flat: vectors)
    assert torch.equal(edges[:, 0], motionops.flow_edges(vectors.unflatten(0, (2, 3))))
    assert torch.equal(motion_input.network_input(edges, "flow-edges")[:, 2], edges[:, 0] / 10)


@pytest.mark.parametrize(("counts", "compiled"), [([4, 2, 3, 2], 1), ([3, 1, 2, 0, 4], 3)])
def test_however_many_videos_move(counts, compiled, graphs, monkeypatch):
    """One graph for two and more, and one each for none and for one."""
    torch.manual_seed(0)
    modist_ = MoDist(config(compile=True), SmallNetwork(2), SmallNetwork(2))
    clips = [torch.randn(4, 3, 2, 16, 16) for _ in range(4)]

    def prepare(module, moving):
        cut = Clips(Pair(*clips[:2]), Pair(*clips[2:]), torch.arange(4) < moving, torch.arange(4) < moving)
        monkeypatch.setattr(method, "cut", lambda *given: cut)

    compare(modist_, prepare, counts)
    assert len(graphs) == compiled


def test_gamma_is_a_share_of_what_each_input_can_reach():
    """The strongest edge, a flow of ten pixels and white after black are 1; 0.02 is a mean edge of 0.2 of 0 to 10."""
    edges = torch.full((1, 1, 2, 4, 4), 10.0)
    flow = torch.tensor([6.0, 8.0, 10.0]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 4, 4)
    white = torch.ones(1, 3, 2, 4, 4)
    for kind, motion in (("flow-edges", edges), ("flow", flow), ("frame-difference", -white)):
        assert motion_input.strength(motion, kind).item() == pytest.approx(1.0)
        assert motion_input.strength(0.03 * motion, kind).item() == pytest.approx(0.03)
        assert motion_input.network_input(motion, kind).abs().max().item() == pytest.approx(1.0)
    assert PRESETS["kinetics400"].gamma == 0.02
    assert PRESETS["demo"].gamma * 10 == pytest.approx(0.02)  # what the demo's edges of 0 to 10 always had
