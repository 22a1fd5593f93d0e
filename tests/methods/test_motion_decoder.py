"""The motion decoder against its formula written out in NumPy."""

import math

import numpy as np
import pytest
import torch

from motionops.methods.fima.motion_decoder import MotionDecoder
from motionops.models.positions import sinusoidal_positions


def dense_decoder(decoder, source, target):
    """Cross-attention written out, in float64. Returns the map, the class prediction and the last attention."""
    state = {key: value.double().numpy() for key, value in decoder.state_dict().items()}
    heads = decoder.layers[0].multihead_attn.num_heads
    b, c, t, h, w = source.shape
    width = state["embed.weight"].shape[0]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def positions(count):
        table = np.zeros((count, width))
        for p in range(count):
            for i in range(0, width, 2):
                table[p, i] = math.sin(p / 10000 ** (i / width))
                table[p, i + 1] = math.cos(p / 10000 ** (i / width))
        return table

    predicted = np.zeros((b, c, t, h, w))
    classes = np.zeros((b, c, t))
    attentions = []
    for sample in range(b):
        for frame in range(t):
            source_cells, target_cells = (
                m.double().numpy()[sample, :, frame].reshape(c, -1).T for m in (source, target)
            )
            x = linear(source_cells, "embed") + positions(len(source_cells))
            x = np.concatenate([state["cls_token"][0], x])
            memory = linear(target_cells, "embed") + positions(len(target_cells))
            for number in range(len(decoder.layers)):
                name = f"layers.{number}"
                weight = state[f"{name}.multihead_attn.in_proj_weight"].reshape(3, width, width)
                bias = state[f"{name}.multihead_attn.in_proj_bias"].reshape(3, width)
                q = norm(x, f"{name}.norm1") @ weight[0].T + bias[0]
                k, v = memory @ weight[1].T + bias[1], memory @ weight[2].T + bias[2]
                size = width // heads
                mixed, scores = [], []
                for head in range(heads):
                    part = slice(head * size, (head + 1) * size)
                    logits = q[:, part] @ k[:, part].T / math.sqrt(size)
                    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
                    weights /= weights.sum(axis=1, keepdims=True)
                    scores.append(weights)
                    mixed.append(weights @ v[:, part])
                x = x + linear(np.concatenate(mixed, axis=1), f"{name}.multihead_attn.out_proj")
                hidden = np.maximum(linear(norm(x, f"{name}.norm2"), f"{name}.linear1"), 0)
                x = x + linear(hidden, f"{name}.linear2")
            out = linear(x, "unembed")
            classes[sample, :, frame] = out[0]
            predicted[sample, :, frame] = out[1:].T.reshape(c, h, w)
            attentions.append(np.mean(scores, axis=0))
    return predicted, classes, np.stack(attentions).reshape(b, t, h * w + 1, -1)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    decoder = MotionDecoder(6, width=16, depth=2, heads=4, feedforward=12).eval()
    # Biases, norms and the token away from what they are initialised to, so that each is seen to count.
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return decoder


def test_equals_the_formula(decoder):
    source, target = torch.randn(2, 6, 2, 3, 3), torch.randn(2, 6, 2, 3, 3)
    expected = dense_decoder(decoder, source, target)
    ours = decoder(source, target, return_attention=True)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine.double(), torch.from_numpy(theirs), rtol=1e-4, atol=1e-4)
    predicted, classes = decoder(source, target)
    torch.testing.assert_close(predicted, ours[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classes, ours[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[2].sum(dim=3), torch.ones(2, 2, 10))


def test_frames_do_not_see_each_other(decoder):
    source, target = torch.randn(1, 6, 2, 3, 3), torch.randn(1, 6, 2, 3, 3)
    before, classes = decoder(source, target)
    changed_source, changed_target = source.clone(), target.clone()
    changed_source[:, :, 1] += 1
    changed_target[:, :, 1] += 1
    after, changed = decoder(changed_source, changed_target)
    assert torch.equal(after[:, :, 0], before[:, :, 0])
    assert torch.equal(changed[:, :, 0], classes[:, :, 0])
    assert not torch.allclose(after[:, :, 1], before[:, :, 1])


def test_queries_do_not_see_each_other_and_positions_count(decoder):
    source, target = torch.randn(1, 6, 1, 3, 3), torch.randn(1, 6, 1, 3, 3)
    before, classes = decoder(source, target)
    changed = source.clone()
    changed[..., 2, 2] += 1
    after, same = decoder(changed, target)
    kept = torch.ones(3, 3, dtype=torch.bool)
    kept[2, 2] = False
    torch.testing.assert_close(after[..., kept], before[..., kept])
    torch.testing.assert_close(same, classes)  # [cls] depends on the target alone
    # The same content in another order is another frame: positions are added on both sides.
    flipped, flipped_classes = decoder(source, target.flip(4))
    assert (flipped - before).abs().max() > 1e-3  # rounding alone: less than 1e-6
    assert (flipped_classes - classes).abs().max() > 1e-3


def test_without_positions_the_target_is_a_set(decoder):
    decoder.positions.zero_()
    source, target = torch.randn(1, 6, 1, 3, 3), torch.randn(1, 6, 1, 3, 3)
    order = torch.randperm(9)
    shuffled = target.flatten(3)[..., order].unflatten(3, (3, 3))
    for mine, theirs in zip(decoder(source, shuffled), decoder(source, target), strict=True):
        torch.testing.assert_close(mine, theirs)
    # And the prediction moves with the query.
    moved, _ = decoder(source.flatten(3)[..., order].unflatten(3, (3, 3)), target)
    torch.testing.assert_close(moved, decoder(source, target)[0].flatten(3)[..., order].unflatten(3, (3, 3)))


def test_class_token_carries_no_position(decoder):
    """With no cells to tell apart, moving the whole position table by one leaves [cls] as it is only if it has none."""
    source, target = torch.randn(1, 6, 1, 1, 1), torch.randn(1, 6, 1, 1, 1)
    _, before = decoder(source, target)
    # One memory token: attention is 1 whatever the query holds, so only a position on the token itself could show.
    with torch.no_grad():
        decoder.embed.bias.sub_(1.0)
        decoder.positions.add_(1.0)
    _, after = decoder(source, target)
    torch.testing.assert_close(after, before)


def test_default_configuration():
    decoder = MotionDecoder(1024)
    layer = 4 * 512 * 512 + 4 * 512 + 2 * (512 * 512 + 512) + 4 * 512
    ends = 1024 * 512 + 512 + 512 * 1024 + 1024
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 2 * layer + ends + 512
    assert not decoder.cls_token.any()
    assert "positions" not in decoder.state_dict()
    table = sinusoidal_positions(100, 512)
    assert table.shape == (100, 512)
    torch.testing.assert_close(table[3, :2], torch.tensor([math.sin(3), math.cos(3)]))


def test_without_class_token_and_with_other_target_sizes():
    decoder = MotionDecoder(6, width=16, class_token=False).eval()
    predicted, classes = decoder(torch.randn(2, 6, 2, 3, 3), torch.randn(2, 6, 2, 2, 4))
    assert predicted.shape == (2, 6, 2, 3, 3)
    assert classes is None


def test_dropout_acts_in_training_alone():
    decoder = MotionDecoder(6, width=16, dropout=0.5)
    source = torch.randn(1, 6, 1, 3, 3)
    assert not torch.equal(decoder(source, source)[0], decoder(source, source)[0])
    decoder.eval()
    assert torch.equal(decoder(source, source)[0], decoder(source, source)[0])


def test_all_parameters_get_gradients():
    decoder = MotionDecoder(6, width=16, dropout=0.0)
    predicted, classes = decoder(torch.randn(1, 6, 2, 3, 3), torch.randn(1, 6, 2, 3, 3))
    (predicted.square().sum() + classes.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 15}, "width must be even and a multiple of heads=4, got 15"),
        ({"width": 18}, "width must be even and a multiple of heads=4, got 18"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"positions": 0}, "positions must be at least 1, got 0"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=f"MotionDecoder: {message}"):
        MotionDecoder(6, **arguments)


def test_wrong_maps():
    decoder = MotionDecoder(6, width=16, positions=9)
    good = torch.randn(2, 6, 2, 3, 3)
    with pytest.raises(ValueError, match=r"source_map must be \[B, C=6, T, H, W\], got \[2, 5, 2, 3, 3\]"):
        decoder(good[:, :5], good)
    with pytest.raises(ValueError, match=r"target_map must be \[B=2, C=6, T=2, H, W\], got \[2, 6, 1, 3, 3\]"):
        decoder(good, good[:, :, :1])
    with pytest.raises(ValueError, match=r"target_map must have H\*W <= 9 cells, got 12"):
        decoder(good, torch.randn(2, 6, 2, 3, 4))
