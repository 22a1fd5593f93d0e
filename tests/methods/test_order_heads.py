"""Heads of the temporal order."""

import math

import pytest
import torch

from motionops.methods.controllable.order_heads import GRUMLPOrder, GRUOrder, MLPOrder, OrderClassifier, order_table

HEADS = {"gru": lambda: GRUOrder(6), "mlp": lambda: MLPOrder(6, 3, 8), "gru-mlp": lambda: GRUMLPOrder(6, 8)}


@pytest.mark.parametrize("name", HEADS)
def test_scores_depend_on_the_order_and_on_the_video(name):
    torch.manual_seed(0)
    head = HEADS[name]()
    clips, video = torch.randn(5, 3, 6), torch.randn(5, 6)
    scores = head(clips, video)
    assert scores.shape == (5,)
    assert (scores != head(clips.flip(1), video)).all()
    assert (scores != head(clips, video.roll(1, 0))).all()
    torch.testing.assert_close(scores[2:4], head(clips[2:4], video[2:4]))  # rows do not mix
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_gru_scores_are_cosines():
    torch.manual_seed(0)
    head, clips, video = GRUOrder(6), torch.randn(5, 3, 6), torch.randn(5, 6)
    outputs, _ = head.gru(clips)
    expected = torch.nn.functional.cosine_similarity(outputs[:, -1], video)
    torch.testing.assert_close(head(clips, video), expected)
    head.temperature = 0.1
    torch.testing.assert_close(head(clips, video), expected / 0.1)


def test_all_orders_are_classes_and_the_first_is_the_right_one():
    table = order_table(4)
    assert table.shape == (24, 4)
    assert table[0].tolist() == [0, 1, 2, 3]
    assert len({tuple(order) for order in table.tolist()}) == math.factorial(4)
    head = OrderClassifier(6, 4, 8)
    assert head.second.in_features == 6 * 8  # six pairs of four clips
    assert head(torch.randn(5, 4, 6)).shape == (5, 24)


@pytest.mark.parametrize("clips", [1, 6])
def test_too_few_or_too_many_orders(clips):
    with pytest.raises(ValueError, match=f"OrderClassifier: clips must be 2 to 5 .*, got {clips}"):
        OrderClassifier(6, clips, 8)
