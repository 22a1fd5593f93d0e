"""The losses of a step against dense formulas in float64; the choice of motion clips; ids of the queues."""

from dataclasses import replace

import modist
import pytest
import torch

import motionops
from motionops.errors import UserError
from motionops.learning import FeatureQueue, motion_input

BATCH, DIM, TAU = 4, 8, 0.1


def module(**changes):
    torch.manual_seed(0)
    own = {"batch_size": BATCH, "dim": DIM, "queue": 12, "size": 16, "hidden": 16, "frames": 2, "motion_frames": 2}
    return modist.MoDist(replace(modist.MoDistConfig(), **{**own, "motion": "frame-difference", **changes}))


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
    queue = modist_.motion_queue
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


def step(modist_, visual, motion, moving, ids, monkeypatch):
    """A training step with given embeddings `(query, key)` of both pathways."""
    embedded = {"": visual, "motion_": motion}
    monkeypatch.setattr(modist_, "clips", lambda batch: modist.Clips([], [], moving))
    monkeypatch.setattr(modist_, "embed", lambda clips, pathway, kind: embedded[pathway])
    modist_.total_steps = modist_.steps_per_epoch = 1000
    return modist_.training_step({"index": ids}, 0)


@pytest.mark.parametrize("negatives", ["query", "key"])
def test_the_four_terms_and_what_enters_the_queues(monkeypatch, negatives):
    modist_ = module(mv_negatives=negatives, weight_v=1.0, weight_m=1.0)
    for queue in (modist_.queue, modist_.motion_queue):
        queue.enqueue(unit(12, DIM), torch.arange(12) % 5)
    (v_q, v_k), (m_q, m_k) = (unit(BATCH, DIM), unit(BATCH, DIM)), (unit(BATCH, DIM), unit(BATCH, DIM))
    moving, ids = torch.tensor([True, False, True, True]), torch.tensor([0, 2, 4, 8])
    before = {
        name: (q.features.clone(), q.ids.clone()) for name, q in (("v", modist_.queue), ("m", modist_.motion_queue))
    }
    out = step(modist_, (v_q, v_k), (m_q, m_k), moving, ids, monkeypatch)
    rows = torch.tensor([0, 2, 3])
    to_motion, to_visual = ("v", "m") if negatives == "query" else ("m", "v")
    expected = {
        "v": dense(v_q, v_k, ids, *before["v"]),
        "m": dense(m_q[rows], m_k[rows], ids[rows], *before["m"]),
        "mv": dense(v_q[rows], m_k[rows], ids[rows], *before[to_motion])
        + dense(m_q[rows], v_k[rows], ids[rows], *before[to_visual]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(out[f"loss_{name}"].double(), value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out["loss"].double(), sum(expected.values()), rtol=1e-5, atol=1e-5)
    assert out["low_motion"] == 1
    assert torch.equal(modist_.queue.features, before["v"][0])  # not before the backward pass
    modist_.finish_pending()
    assert torch.equal(modist_.queue.features[:4], v_k)
    assert modist_.queue.ids[:4].tolist() == ids.tolist()
    assert torch.equal(modist_.motion_queue.features[:3], m_k[rows])
    assert modist_.motion_queue.ids[:3].tolist() == [0, 4, 8]
    assert torch.equal(modist_.motion_queue.features[3:], before["m"][0][3:])


def videos(config, moves):
    """Frames as a data set gives them; candidate c of video b changes within its pairs where moves[b][c]."""
    size, still = 16, torch.full((16, 16, 3), 90, dtype=torch.uint8)
    moved = still.clone()
    moved[:, ::2] = 200
    batch = []
    for video in moves:
        frames = [still] * (modist.visual_windows(config) * config.frames)
        for candidate in video:
            frames += [still, moved if candidate else still] * config.motion_frames
        batch.append(torch.stack(frames)[None])
    assert batch[0].shape[-2] == size
    return batch


def test_motion_clips_are_the_first_candidates_above_gamma(monkeypatch):
    modist_ = module(gamma=0.05, candidates=4)
    moves = [[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    computed = []
    original = modist.motion_of_pairs
    monkeypatch.setattr(modist, "motion_of_pairs", lambda p, *rest: computed.append(len(p)) or original(p, *rest))
    clips, moving, chosen = modist_.choose_motion(videos(modist_.config, moves))
    assert moving.tolist() == [True, True, True, False]
    assert chosen.tolist() == [[0, 1], [1, 3], [3, 3], [0, 1]]
    assert computed == [4, 4, 3, 3]  # the third candidate of the first video was not needed
    for clip in clips:
        assert clip.shape == (4, 3, 2, 16, 16)
        assert clip[:3].abs().mean() > 0.05
        assert clip[3].abs().max() == 0


def test_without_gamma_nothing_is_refused():
    modist_ = module(gamma=0.0)
    clips, moving, chosen = modist_.choose_motion(videos(modist_.config, [[0, 0], [1, 0]]))
    assert moving.tolist() == [True, True]
    assert chosen.tolist() == [[0, 1], [0, 1]]
    assert len(clips) == 2


def test_a_set_where_nothing_moves_is_refused(monkeypatch):
    modist_ = module()
    modist_.total_steps = modist_.steps_per_epoch = 2
    nothing = torch.zeros(BATCH, dtype=torch.bool)
    assert modist_.count_still(nothing) == 4
    modist_.step = 1
    with pytest.raises(UserError, match=r"--gamma 0.02: of the 8 videos drawn so far none has a clip of"):
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
        motion_input.strength(flow, "flow"), vectors.norm(dim=1).unflatten(0, (2, 3)).mean((1, 2, 3))
    )
    assert motion_input.network_input(flow, "flow").shape == (2, 3, 3, 8, 8)


def test_flow_edges_of_pairs():
    pairs = torch.zeros(2, 3, 2, 8, 8, 3, dtype=torch.uint8)
    vectors = torch.randn(6, 2, 8, 8)
    edges = motion_input.motion_of_pairs(pairs, "flow-edges", lambda flat: vectors)
    assert torch.equal(edges[:, 0], motionops.flow_edges(vectors.unflatten(0, (2, 3))))
    assert torch.equal(motion_input.network_input(edges, "flow-edges")[:, 2], edges[:, 0] / 10)
