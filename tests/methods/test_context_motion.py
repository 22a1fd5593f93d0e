"""The losses of a step against dense formulas in float64; which frames a sample holds; motion as it is cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import motionops
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.methods.context_motion import PRESETS, ContextMotion, ContextMotionConfig, make_dataset
from motionops.methods.context_motion.ablations import value_loss
from motionops.methods.context_motion.regulariser import MotionRegulariser
from motionops.methods.context_motion.views import cut_clip, cut_key_frame, cut_motion
from motionops.motion import read_motion_vectors
from motionops.motion.vector_clips import fill_key_frames, in_steps
from motionops.training.data.videos import TrainingVideos
from motionops.video import KnownVideo, class_names, key_frame_numbers, read_list, read_video
from motionops.video.encoding import write_video
from tests.made_batch import made_batch

BATCH, DIM, TAU = 3, 8, 0.2


def config(**changes):
    own = {"batch_size": BATCH, "dim": DIM, "hidden": 16, "frames": 4, "size": 16, "motion_frames": 4, "width": 16}
    own |= {"feedforward": 16, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0, "temperature": TAU}
    own |= {"motion_backbone": "r3d_small"}
    return replace(ContextMotionConfig(), **{**own, **changes})


def module(**changes):
    torch.manual_seed(0)
    return ContextMotion(config(**changes))


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def dense(query, keys):
    """The mean over i of -log exp(cos(k_i, q_i) / tau) / sum_l exp(cos(k_l, q_i) / tau), and who is first."""
    total, first = 0.0, 0
    for i, q in enumerate(query):
        logits = torch.stack([cosine(k, q) for k in keys]) / TAU
        total = total + torch.logsumexp(logits, 0) - logits[i]
        first += bool(logits.argmax() == i)
    return total / len(query), first / len(query)


def mlp(head, x):
    """Eq. 1's g without the norm, in float64."""
    x = x.double()
    hidden = (x @ head.first.weight.double().T + head.first.bias.double()).relu()
    return hidden @ head.second.weight.double().T + head.second.bias.double()


def test_the_context_loss_is_equation_1():
    m = module()
    features, image = torch.randn(BATCH, 128, 1, 2, 2), torch.randn(BATCH, 3, 1, 16, 16)
    loss, accuracy = m.context_loss(features, image)
    maps = m.image_backbone(image)
    clips, images = mlp(m.clip_head, features.mean((2, 3, 4))), mlp(m.image_head, maps.mean((2, 3, 4)))
    expected, first = dense(clips, images)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert accuracy.item() == pytest.approx(first)


@pytest.mark.parametrize("hard", [0, 3])
@pytest.mark.parametrize("predictor", ["transformer", "convgru"])
def test_the_motion_loss_is_equation_2_with_hard_negatives(hard, predictor):
    m = module(hard_negatives=hard, predictor=predictor).eval()
    features, motion = torch.randn(BATCH, 128, 1, 2, 2), torch.randn(BATCH, 1 + hard, 2, 4, 16, 16)
    loss, accuracy = m.motion_loss(features, motion)
    predicted = m.predictor(features)  # [B, C3, T3, H3, W3]
    assert predicted.shape[2:] == (1, 2, 2)
    query, own, further = [], [], []
    for b in range(BATCH):
        maps = m.motion_backbone(motion[b])
        for t in range(maps.shape[2]):
            for y in range(maps.shape[3]):
                for x in range(maps.shape[4]):
                    query.append(mlp(m.prediction_head, predicted[b, :, t, y, x]))
                    own.append(mlp(m.motion_head, maps[0, :, t, y, x]))
                    further += [mlp(m.motion_head, maps[k, :, t, y, x]) for k in range(1, 1 + hard)]
    expected, first = dense(query, own + further)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert accuracy.item() == pytest.approx(first)
    assert len(own + further) == BATCH * 4 * (1 + hard)


def test_both_sides_of_both_losses_learn():
    m = module()
    features = torch.randn(BATCH, 128, 1, 2, 2, requires_grad=True)
    m.context_loss(features, torch.randn(BATCH, 3, 1, 16, 16))[0].backward()
    m.motion_loss(features, torch.randn(BATCH, 4, 2, 4, 16, 16))[0].backward()
    assert features.grad.abs().sum() > 0
    for part in (m.image_backbone, m.image_head, m.clip_head, m.motion_backbone, m.motion_head, m.prediction_head):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters() if parameter.ndim > 1)


def test_values_and_ranges_of_values():
    """Table 1's other losses: mean square error of the values, cross-entropy of their ranges."""
    torch.manual_seed(0)
    values = torch.tensor([[-9.0, -0.4], [0.0, 0.39], [0.41, 9.0]])  # 5 ranges of -1..1: edges at -0.6, -0.2, 0.2, 0.6
    ranges = [[0, 1], [2, 3], [3, 4]]
    predicted = torch.randn(3, 2)
    loss, accuracy = value_loss(predicted, values, 5, 1.0)
    expected = sum((predicted[i, j].double() - values[i, j].double()) ** 2 for i in range(3) for j in range(2)) / 6
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)
    assert value_loss(values, values, 5, 1.0)[1] == 1
    scores = torch.randn(3, 10, dtype=torch.float64)
    loss, accuracy = value_loss(scores, values, 5, 1.0)
    terms, right = [], 0
    for i in range(3):
        for j in range(2):
            row = scores[i, 5 * j : 5 * j + 5]
            terms.append(torch.logsumexp(row, 0) - row[ranges[i][j]])
            right += int(row.argmax()) == ranges[i][j]
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    assert accuracy.item() == pytest.approx(right / 6)


@pytest.mark.parametrize("kind", ["mse", "cross-entropy"])
def test_values_are_those_of_the_cells_and_need_no_m_network(kind):
    m = module(motion_loss=kind, levels=5, level_limit=1.0).eval()
    assert not hasattr(m, "motion_backbone")
    features, motion = torch.randn(BATCH, 128, 1, 2, 2), torch.randn(BATCH, 1, 2, 4, 16, 16)
    loss, _ = m.motion_loss(features, motion)
    predicted = m.prediction_head(m.predictor(features).permute(0, 2, 3, 4, 1))
    blocks = motion[:, 0].reshape(BATCH, 2, 1, 4, 2, 8, 2, 8).mean(dim=(3, 5, 7))
    expected, _ = value_loss(predicted, blocks.permute(0, 2, 3, 4, 1), 5, 1.0)
    torch.testing.assert_close(loss, expected)


def dataset(folder, **changes):
    videos = [replace(video, frames=24) for video in read_list(folder / "train.txt")]
    return make_dataset(config(**changes), TrainingVideos(videos))


def numbers(data, generator=None, frames=24):
    generator = generator or torch.Generator().manual_seed(0)
    plan = data.plan(KnownVideo(0, "a.mp4", frames, 48, 48), generator)
    return plan.frames[0], plan.own.motion


def test_future_motion_is_that_of_the_next_frames(shapes):
    data, generator = dataset(shapes), torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(200):
        clip, motion = numbers(data, generator)
        starts.add(int(clip[0]))
        assert (clip.diff() == 2).all()
        assert motion[0].tolist() == [int(clip[-1]) + 1 + i for i in range(4)]
        assert motion.min() >= 0
        assert motion.max() < 24
        assert len({row[0] for row in motion.tolist()}) == 4
        for other in motion[1:]:
            assert not set(other.tolist()) & set(motion[0].tolist())
    assert starts == set(range(24 - 7 - 4 + 1))


def test_current_motion_is_that_of_the_clips_middle(shapes):
    data, generator = dataset(shapes, period="current", hard_negatives=1), torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(200):
        clip, motion = numbers(data, generator)
        starts.add(int(clip[0]))
        assert motion[0].tolist() == [int(clip[0]) + 1 + i for i in range(4)]
        assert not set(motion[1].tolist()) & set(motion[0].tolist())
    assert starts == set(range(24 - 7 + 1))


def test_hard_negatives_of_a_short_video_are_any_other_places(shapes):
    data = dataset(shapes, hard_negatives=5)
    clip, motion = numbers(data, frames=11)
    assert clip[0] == 0
    assert motion[0, 0] == 7
    assert len(motion) == 6
    assert sorted(motion[1:, 0].tolist()) == [0, 1, 2, 3, motion[5, 0]]
    assert 3 < motion[5, 0] < 7
    _, motion = numbers(dataset(shapes, hard_negatives=12), frames=11)
    assert set(motion[1:, 0].tolist()) == set(range(7))


def test_an_item_is_what_the_file_holds_kept_in_memory_or_not(shapes):
    for changes in ({}, {"alpha": 0.0}, {"alpha": 1.0}, {"cell": 4}):
        kept, read = (dataset(shapes, cache_gib=gib, **changes) for gib in (1.0, 0.0))
        for index in range(4):
            first, second = kept.of_whole_pictures()[3, index], read.of_whole_pictures()[3, index]
            assert torch.equal(first.frames, second.frames)
            assert torch.equal(first.extents, second.extents)
            for name, one, other in zip(first.own._fields, first.own, second.own, strict=True):
                assert (one is None) == (other is None), name
                assert one is None or torch.equal(one, other), name
            assert (first.own.key_frame is not None) == (changes.get("alpha") != 1.0)
            assert (first.own.motion is not None) == (changes.get("alpha") != 0.0)
            path = read.path(index)
            start = int(first.starts[0])
            assert torch.equal(first.frames[0], read_video(path)[start : start + 8 : 2])
            if first.own.motion is not None:
                whole = read_motion_vectors(path, cell=read.reader.cell)
                assert torch.equal(first.own.motion[0], whole[start + 7 : start + 11])
            if first.own.key_frame is not None:
                keys = key_frame_numbers(path).tolist()
                before = max((number for number in keys if number <= start), default=0)
                behind = min((number for number in keys if number >= start + 6), default=24)
                near = [read_video(path)[number] for number in (before, *keys) if before <= number <= behind]
                assert any(torch.equal(first.own.key_frame[0, 0], frame) for frame in near)


def test_the_key_frame_is_a_random_one_around_the_clip(tmp_path):
    """Grey frames whose level is their number, a key frame every 6: of 5 frames from s on, those at s and behind."""
    frames = np.broadcast_to((8 * np.arange(24, dtype=np.uint8))[:, None, None, None], (24, 32, 32, 3))
    write_video(tmp_path / "counted.mp4", frames.copy(), options={"g": "6", "sc_threshold": "0"})
    (tmp_path / "train.txt").write_text("counted.mp4 0\n")
    assert key_frame_numbers(tmp_path / "counted.mp4").tolist() == [0, 6, 12, 18]
    for gib in (1.0, 0.0):
        data, seen = dataset(tmp_path, cache_gib=gib, motion_frames=2).of_whole_pictures(), {}
        for epoch in range(120):
            item = data[epoch, 0]
            key = round(float(item.own.key_frame.float().mean()) / 8)
            seen.setdefault(int(item.starts[0]), set()).add(key)
        for start, keys in seen.items():
            before = start // 6 * 6
            around = {number for number in range(before, 24, 6) if number < start + 6 + 6}
            assert keys <= around, (start, keys)
        assert sum(len(keys) > 1 for keys in seen.values()) > len(seen) / 2


def test_a_frame_that_stands_still_is_no_key_frame():
    motion = torch.tensor([3.0, 0.0, 0.0, 0.0, -2.0])[:, None, None, None].expand(5, 2, 1, 1)
    intra = torch.tensor([False, False, True, False, False])
    still = torch.tensor([3.0, 0.0, 0.0, 0.0, -2.0])
    assert torch.equal(fill_key_frames(motion, intra)[:, 0, 0, 0], still)  # the one before it stands still
    intra = torch.tensor([False, True, False, False, True])
    assert fill_key_frames(motion, intra)[:, 0, 0, 0].tolist() == [3.0, 3.0, 0.0, 0.0, 0.0]
    first = torch.tensor([True, False, False, False, False])
    assert fill_key_frames(motion, first)[0, 0, 0, 0] == 0.0


def test_motion_clips_are_resampled_in_time():
    assert PRESETS["ucf101"].motion_map_shape() == (2, 7, 7)  # with 8 steps one: (x, y, t) had lost its t
    clips = torch.arange(4.0)[:, None, None].expand(1, 2, 2, 4, 8, 8)
    assert in_steps(clips, 8)[0, 0, 0, :, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert in_steps(clips, 0) is clips


def test_negatives_of_a_group_are_those_of_its_own_step():
    """Two GPUs of two videos each are a step of four in groups of two, as their gradients are averaged."""
    torch.manual_seed(0)
    whole = module(negatives="group", group=2)
    alone = module(negatives="local")
    query, key, further = torch.randn(4 * 3, DIM), torch.randn(4 * 3, DIM), torch.randn(4 * 6, DIM)
    found = whole.pairwise(4, query, key, further)
    parts = [alone.pairwise(2, query[a * 6 :][:6], key[a * 6 :][:6], further[a * 12 :][:12]) for a in (0, 1)]
    torch.testing.assert_close(found.loss, (parts[0].loss + parts[1].loss) / 2)
    assert torch.equal(found.rank, torch.cat([part.rank for part in parts]))


def test_rows_weigh_alike_in_groups_of_several_sizes():
    """Five videos in groups of two are a group of two and one of three: the mean is over rows."""
    torch.manual_seed(0)
    whole, alone = module(negatives="group", group=2), module(negatives="local")
    query, key = torch.randn(5 * 3, DIM), torch.randn(5 * 3, DIM)
    two, three = (alone.pairwise(count, query[rows], key[rows]) for count, rows in ((2, slice(6)), (3, slice(6, 15))))
    torch.testing.assert_close(whole.pairwise(5, query, key).loss, 0.4 * two.loss + 0.6 * three.loss)


def textured_pan(path, step):
    """A texture that moves by `step` pixels a frame to the right."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, 12, 40, generator=generator)
    texture = torch.nn.functional.interpolate(texture, (96, 320), mode="bicubic").clamp(0, 1)[0]
    frames = torch.stack([texture[:, :, 160 - step * t : 256 - step * t] for t in range(24)])
    write_video(path, (255 * frames).byte().permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("source", ["vectors", "tvl1"])
def test_the_motion_clips_of_a_pan(tmp_path, source):
    """Of known speed, from the file to the network's input: its length in pixels of the clip, its sign mirrored."""
    step = 2
    textured_pan(tmp_path / "pan.mp4", step)
    (tmp_path / "train.txt").write_text("pan.mp4 0\n")
    data = dataset(tmp_path, motion=source, size=32, crop_area=(0.5, 0.9))
    mirrored = set()
    for epoch in range(6):
        batch = context_motion_batch(data, [(epoch, 0)])
        begin, end = batch.extents[0, 0, 2].tolist()
        mirrored.add(begin > end)
        expected = step * 32 / ((end - begin) * 96)
        clips = cut_motion(data.plan.config, batch, batch.extents[:, 0])
        assert clips.shape == (1, 4, 2, 4, 32, 32)
        inner = clips[0, :, :, :, 6:-6, 6:-6]
        # The first frame of all has no neighbour before it, and may be one of a hard negative.
        assert inner[:, 0].median().item() == pytest.approx(expected, abs=0.25 * 32 / 96)
        assert inner[0, 0].mean().item() == pytest.approx(expected, rel=0.2)
        assert inner[0, 1].abs().mean().item() < 0.2
    assert mirrored == {False, True}


def test_a_frame_of_a_motion_clip_is_what_has_moved_since_the_frame_before():
    """A texture that is moved once, before one frame of a clip or of its hard negative."""
    c = config(motion="tvl1", motion_frames=3, hard_negatives=1, size=32, frames=4, motion_steps=0)
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, 8, 12, generator=generator)
    texture = torch.nn.functional.interpolate(texture, (32, 48), mode="bicubic").clamp(0, 1)[0]
    before, after = (texture[:, :, start : start + 32].permute(1, 2, 0) for start in (10, 8))
    extents = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]])
    for clip in range(2):
        for moved in range(1, 4):
            groups = [[before] * 4, [before] * 4]
            groups[clip] = [before] * moved + [after] * (4 - moved)
            frames = torch.stack([before] * c.frames + groups[0] + groups[1])
            batch = made_batch((255 * frames).round().byte()[None, None])
            (cut,) = cut_motion(c, batch, extents)  # [K, 2, T, S, S]
            right = cut[:, 0, :, 6:-6, 6:-6].mean(dim=(2, 3))
            expected = torch.zeros(2, 3)
            expected[clip, moved - 1] = 2.0
            torch.testing.assert_close(right, expected, rtol=0, atol=0.3)


def context_motion_batch(data, keys):
    from motionops.video import collate_videos

    return collate_videos([data[key] for key in keys])


def test_clip_and_motion_share_the_crop_and_the_key_frame_has_its_own(shapes):
    c, keys = config(), [(0, 0), (0, 1), (0, 2)]
    sent = context_motion_batch(dataset(shapes), keys)
    batch = context_motion_batch(dataset(shapes).of_whole_pictures(), keys)
    clip, image = cut_clip(c, sent), cut_key_frame(c, sent)
    assert clip.shape == (BATCH, 3, 4, 16, 16)
    assert image.shape == (BATCH, 3, 1, 16, 16)
    assert not torch.equal(batch.extents[:, 0], batch.extents[:, 1])
    looks = [batch.appearance[:, part] for part in (0, 1)]
    mean_and_std = {"mean": c.mean, "std": c.std}
    again = motionops.augment_clips(batch.frames[:, 0], batch.extents[:, 0], 16, looks[0], **mean_and_std)
    assert torch.equal(clip, again)
    again = motionops.augment_clips(batch.own.key_frame[:, 0], batch.extents[:, 1], 16, looks[1], **mean_and_std)
    assert torch.equal(image, again)


def test_the_total_is_weighted_by_alpha(shapes):
    batch = context_motion_batch(dataset(shapes), [(0, 0), (0, 1), (0, 2)])
    out = module(alpha=0.3).training_step(batch, 0)
    torch.testing.assert_close(out["loss"], 0.7 * out["loss_context"] + 0.3 * out["loss_motion"])


def test_motion_prediction_regularises_a_classifier(shapes):
    videos = [replace(video, frames=24) for video in read_list(shapes / "train.txt")]
    given = {"frames": 4, "size": 32, "batch_size": BATCH, "regularise_motion": 0.4}
    own = FinetuneConfig(backbone="random", classes=tuple(class_names(videos)), **given)
    data = MotionRegulariser.make_dataset(own, TrainingVideos(videos))
    batch = context_motion_batch(data, [(0, 0), (0, 1), (0, 2)])
    assert batch.extents.shape == (BATCH, 3, 2)
    torch.manual_seed(0)
    classifier = SupervisedClassifier(own, MotionRegulariser)
    out = classifier.training_step(batch, 0)
    torch.testing.assert_close(out["loss"], out["loss_class"] + 0.4 * out["loss_regulariser"])
    out["loss"].backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())
    _, labels, motion = classifier.prepare(batch)
    assert motion.shape == (BATCH, 4, 2, 16, 32, 32)
    assert labels.tolist() == batch.label.tolist()


@pytest.mark.parametrize("changes", [{"alpha": 0.5}, {"motion_loss": "mse"}])
def test_any_network_can_be_the_backbone(shapes, changes):
    """One that says nothing of itself: 4 frames of 16 x 16 -> 2 x 4 x 4 cells of 5 channels."""
    batch = context_motion_batch(dataset(shapes, **changes), [(0, 0), (0, 1), (0, 2)])
    bare = torch.nn.Conv3d(3, 5, 3, stride=(2, 4, 4), padding=1)
    m = ContextMotion(config(**changes), bare)
    assert m.backbone is bare
    m.training_step(batch, 0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in m.parameters())
