"""The parts of the papers' protocols: segments of videos, unit features, RandAugment, Nesterov, clipped gradients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("tyro")
import motionops
from motionops.commandline import parse
from motionops.commands.evaluate.finetune import Finetune, measure_finetune
from motionops.commands.evaluate.linear import SVM, Linear, measure_linear, measure_svm
from motionops.commands.evaluate.lowshot import LowShot, measure_lowshot
from motionops.commands.evaluate.retrieval import Retrieval, measure_retrieval
from motionops.commands.evaluate.settings import default_clips, merged_settings
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.video_clips import VideoClips
from motionops.evaluation.protocols.finetuning.attentive import AttentivePool
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.clips import DrawClip, make_dataset
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.protocols.finetuning.rand_augment import rand_augment
from motionops.evaluation.protocols.papers import protocol_settings
from motionops.models import build_backbone
from motionops.training.data.videos import TrainingVideos
from motionops.video import Video, moving_shapes
from motionops.views.even_clips import segment_frames
from tests.made_batch import made_batch


def config(**changes):
    own = {"backbone": "random", "frames": 4, "size": 16, "batch_size": 4, "classes": ("a", "b"), "workers": 0}
    return FinetuneConfig(**{**own, "output": Path("x"), **changes})


@pytest.mark.parametrize(("length", "frames"), [(45, 16), (121, 16), (9, 16), (1, 4), (24, 8)])
def test_segments_are_those_of_slowfast(length, frames):
    """Its ssv2.py, in NumPy: ends at round((L - 1) / T i), the middle of each segment; training draws within them."""
    ends = [int(np.round((length - 1) / frames * i)) for i in range(frames + 1)]
    middles = [(ends[i] + ends[i + 1]) // 2 for i in range(frames)]
    assert segment_frames(length, frames).tolist() == middles
    generator, seen = torch.Generator().manual_seed(0), [set() for _ in range(frames)]
    for _ in range(400):
        for place, number in enumerate(segment_frames(length, frames, generator).tolist()):
            seen[place].add(number)
    assert seen == [set(range(ends[i], ends[i + 1] + 1)) for i in range(frames)]


def test_training_draws_a_frame_of_each_segment():
    """And not a clip of frames that follow one another with the stride."""
    ends = [int(np.round(44 / 8 * i)) for i in range(9)]
    draw, generator = DrawClip(config(frames=8, stride=2, sampling="segments")), torch.Generator().manual_seed(0)
    for _ in range(20):
        (numbers,) = draw.frames(45, generator).tolist()
        assert all(ends[i] <= number <= ends[i + 1] for i, number in enumerate(numbers))


def test_a_short_video_is_seen_whole_by_segments(tmp_path, counting_frames):
    """45 frames: 16 different ones, where a clip of 16 frames at stride 8 holds the last ten times."""
    from motionops.video.encoding import write_video

    write_video(tmp_path / "v.mp4", counting_frames(24, offset=10))
    video = Video(str(tmp_path / "v.mp4"), "a")
    recipe = ClipRecipe(clips=1, frames=8, size=16, crop=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, sampling="segments")
    (clip,) = VideoClips([video], recipe)[0].cut([0], recipe)
    shown = ((255 * clip.mean(dim=(0, 2, 3)) - 10) / 8).round().int().tolist()
    assert shown == segment_frames(24, 8).tolist()
    assert len(set(shown)) == 8
    data = make_dataset(config(frames=8, sampling="segments"), TrainingVideos([replace(video, frames=24)]))
    data = data.of_whole_pictures()
    first, second = (
        ((data[epoch, 0].frames[0].float().mean(dim=(1, 2, 3)) - 10) / 8).round().int() for epoch in (0, 1)
    )
    assert not torch.equal(first, second)
    ends = torch.tensor([round(23 / 8 * place) for place in range(9)])
    for drawn in (first, second):
        assert (drawn >= ends[:-1]).all()
        assert (drawn <= ends[1:]).all()
    with pytest.raises(ValueError, match="clips must be 1 with sampling segments"):
        replace(recipe, clips=10).check("x")


def test_a_probe_of_unit_features_does_not_see_their_scale():
    """FIMA's rate of 1.5 is one of features of length 1: with those of length 13 a step is 169 times as long."""
    maps = torch.randn(4, 128, 1, 2, 2)
    for normalise in (True, False):
        classifier = SupervisedClassifier(config(normalise=normalise, dropout=0.0, freeze=True))
        same = torch.allclose(classifier.logits(maps), classifier.logits(13 * maps), atol=1e-6)
        assert same == normalise
    features = maps.mean(dim=(2, 3, 4))
    classifier = SupervisedClassifier(config(normalise=True, dropout=0.0))
    unit = features / features.square().sum(dim=1, keepdim=True).sqrt()
    expected = unit @ classifier.classifier.weight.T + classifier.classifier.bias
    torch.testing.assert_close(classifier.logits(maps), expected)


def test_an_attentive_probe_gathers_cells_by_a_learnt_query():
    """One head, written out in float64: softmax of q . k / sqrt(C) over the cells, shortcut, MLP."""
    torch.manual_seed(0)
    pool, maps = AttentivePool(8), torch.randn(2, 8, 2, 3, 3)
    p = {name: value.double() for name, value in pool.state_dict().items()}
    cells = maps.double().flatten(2).transpose(1, 2)
    mean, deviation = cells.mean(dim=2, keepdim=True), cells.var(dim=2, unbiased=False, keepdim=True)
    cells = (cells - mean) / (deviation + 1e-5).sqrt() * p["before.weight"] + p["before.bias"]
    (wq, wk, wv), (bq, bk, bv) = (p[f"attention.in_proj_{part}"].chunk(3) for part in ("weight", "bias"))
    query = p["query"][0]
    weights = ((query @ wq.T + bq) @ (cells @ wk.T + bk).transpose(1, 2) / 8**0.5).softmax(dim=2)
    mixed = (weights @ (cells @ wv.T + bv))[:, 0]
    gathered = query + mixed @ p["attention.out_proj.weight"].T + p["attention.out_proj.bias"]
    inner = (gathered - gathered.mean(1, keepdim=True)) / (gathered.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    inner = (inner * p["mlp.0.weight"] + p["mlp.0.bias"]) @ p["mlp.1.weight"].T + p["mlp.1.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    expected = gathered + inner @ p["mlp.3.weight"].T + p["mlp.3.bias"]
    torch.testing.assert_close(pool(maps).double(), expected, rtol=1e-4, atol=1e-5)
    assert [AttentivePool(channels).attention.num_heads for channels in (64, 512, 832, 40)] == [1, 8, 13, 1]
    classifier = SupervisedClassifier(config(pooling="attentive", freeze=True, dropout=0.0))
    classifier.logits(torch.randn(4, 128, 1, 2, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.pool.parameters())
    assert not any(parameter.requires_grad for parameter in classifier.backbone.parameters())
    assert classifier.train().pool.training
    assert not any(module.training for module in classifier.backbone.modules())  # BatchNorm keeps its statistics


def test_nesterov():
    optimizer = SupervisedClassifier(config(optimizer="sgd", nesterov=True)).configure_optimizers()
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)
    plain = SupervisedClassifier(config(optimizer="sgd")).configure_optimizers()
    assert not any(group["nesterov"] for group in plain.param_groups)


def test_what_rand_augment_changes_is_normalised_as_other_clips_are(monkeypatch):
    """It sees values in 0..1; where it changes nothing, the network is given what it would be without it."""
    seen = []
    asked = "motionops.evaluation.protocols.finetuning.classifier.rand_augment"
    monkeypatch.setattr(asked, lambda clips, *how: seen.append((clips, how)) or clips)
    batch = made_batch(
        torch.randint(0, 256, (2, 1, 4, 20, 20, 3), dtype=torch.uint8),
        extents=torch.tensor([[0.0, 4.0], [0.1, 0.9], [0.8, 0.2]]).expand(2, 3, 2),
        appearance=motionops.Appearance.neutral(2),
    )
    colours = {"mean": (0.1, 0.5, 0.3), "std": (0.2, 0.4, 0.9)}
    plain, changed = (
        SupervisedClassifier(config(**colours, rand_augment=how)).prepare(batch)[0] for how in ((0, 0), (2, 9))
    )
    torch.testing.assert_close(changed, plain)
    ((clips, how),) = seen
    assert how == (2, 9)
    assert 0 <= clips.min() < 0.2 < 0.8 < clips.max() <= 1


def test_rand_augment_does_the_same_to_all_frames_of_a_clip():
    torch.manual_seed(0)
    still = torch.rand(3, 3, 1, 16, 16).expand(3, 3, 5, 16, 16)
    changed = [rand_augment(still, 3, 23) for _ in range(4)]
    for clips in changed:
        assert clips.shape == still.shape
        assert 0 <= clips.min() <= clips.max() <= 1
        assert torch.equal(clips, clips[:, :, :1].expand_as(clips))
    assert any(not torch.equal(clips, changed[0]) for clips in changed[1:])
    assert (rand_augment(still, 0, 0) - still).abs().max() <= 0.5 / 255 + 1e-6


def test_single_frames_stay_single_under_a_protocol():
    stated, argv = protocol_settings("mcl", "svm"), ["--backbone", "x"]
    alone = parse(Linear, None, argv)
    assert merged_settings(alone, stated, {"frames": 1, "stride": 1, "size": 224})["frames"] == 1
    assert merged_settings(alone, stated, {"frames": 8, "stride": 8, "size": 128})["frames"] == 16
    wide = protocol_settings("modist", "linear")  # table 2: 32 x 8 of a network that was trained on 8 x 8
    assert merged_settings(alone, wide, {"frames": 8, "stride": 8, "size": 128})["frames"] == 32
    assert merged_settings(alone, wide, {"frames": 8, "stride": 8, "size": 128})["size"] == 128
    table_3 = parse(Linear, None, [*argv, "--frames", "8"])
    assert merged_settings(table_3, wide, {"frames": 8, "stride": 8, "size": 224})["frames"] == 8


def test_weights_of_images_are_a_backbone(tmp_path):
    from torchvision.models import resnet50

    torch.save(resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    backbone, clip = named_backbone(f"r2d_50:{tmp_path / 'resnet50.pth'}")
    assert (clip["frames"], clip["mean"], clip["std"]) == (1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = torch.load(tmp_path / "resnet50.pth", weights_only=True)["layer4.2.conv2.weight"]
    assert torch.equal(backbone.state_dict()["layer4.2.conv2.weight"][:, :, 0], expected)
    deep, _ = named_backbone(f"r2plus1d_50:{tmp_path / 'resnet50.pth'}")
    assert deep.name == "r2plus1d_50"
    assert build_backbone("r2d_50").state_dict().keys() == backbone.state_dict().keys()


@pytest.mark.parametrize("protocol", ["modist", "modist-ssv2", "fima-released", "mcl"])
def test_every_paper_can_be_drawn(protocol):
    """Grad-CAM is a figure of MoDist, which has no retrieval."""
    assert "short" in protocol_settings(protocol, "pictures")


@pytest.mark.parametrize(
    ("measure", "kind", "flags", "words"),
    [
        (measure_linear, Linear, ["--epochs", "50"], "--epochs: of a layer that is trained"),
        (
            measure_linear,
            Linear,
            ["--fit", "features", "--learning-rate", "3", "--dropout", ".9", "--milestones", "10", "20"],
            "--learning-rate, --milestones, --dropout: of a layer that is trained",
        ),
        (measure_linear, Linear, ["--fit", "sgd", "--no-cache"], "--cache: of --fit features"),
        (measure_linear, Linear, ["--protocol", "fima", "--C", "1"], "--C: is of --fit features"),
        (measure_lowshot, LowShot, ["--fit", "features", "--epochs", "5"], "--epochs: of a fine-tuning"),
        (measure_lowshot, LowShot, ["--no-cache"], "--cache: of --fit features"),
        (measure_retrieval, Retrieval, ["--still", "--shuffle-frames"], "--shuffle-frames: the frames of --still"),
        (measure_retrieval, Retrieval, ["--sampling", "segments", "--stride", "2"], "--stride: segments are as long"),
        (measure_retrieval, Retrieval, ["--sampling", "segments", "--clips", "3"], "--clips: of segments there is one"),
        (measure_svm, SVM, ["--frames", "1", "--stride", "2"], "--stride: a clip is a single frame"),
        (measure_finetune, Finetune, ["--sampling", "segments", "--stride", "2"], "--stride: segments are as long"),
        (
            measure_finetune,
            Finetune,
            ["--sampling", "segments", "--regularise-motion", ".2"],
            "--sampling segments: --regularise-motion predicts what follows",
        ),
        (
            measure_finetune,
            Finetune,
            ["--checkpoint-every", "5", "--checkpoint-minutes", "3"],
            "--checkpoint-minutes: says something with --checkpoint-every 0 alone",
        ),
        (measure_svm, SVM, ["--data", ".", "--split", "0.5", "--list-columns", "path", "label"], "--list-columns: of"),
    ],
)
def test_a_flag_without_effect_is_one_line(tmp_path, tiny_shapes, monkeypatch, measure, kind, flags, words):
    monkeypatch.setattr(moving_shapes, "generate", lambda: tiny_shapes)
    given = ["--backbone", "random", "--output", str(tmp_path / "out"), *flags]
    with pytest.raises(UserError, match=words.replace("--", "-.")) as error:
        measure(parse(kind, None, given))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 10, "milestones": (14, 18)}, "--milestones: 14 18 are not within the 10 --epochs"),
        ({"nesterov": True, "optimizer": "adamw"}, "--nesterov: is of --optimizer sgd, not of adamw"),
        ({"warmup_start": 1e-5, "warmup_epochs": 0.0}, "--warmup-start: there is no warm-up"),
        ({"rand_augment": (0, 9)}, "--rand-augment: must be operations from 1 on"),
        ({"rand_augment": (1, 31)}, "--rand-augment: must be operations from 1 on"),
    ],
)
def test_flags_of_a_training_that_contradict_each_other(changes, words):
    with pytest.raises(UserError, match=words):
        config(**changes).check()


def test_of_segments_there_is_one_clip_where_nobody_says_how_many():
    assert default_clips({"sampling": "segments"}) == 1
    assert default_clips({"sampling": "clips"}) == default_clips({}) == 10
