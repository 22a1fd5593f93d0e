"""SeCo's losses: values by hand, what learns and what does not."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from motionops.methods.mcl.seco import OrderLoss, intra_loss


def test_intra_loss_by_hand():
    query = torch.tensor([[1.0, 0.0]])
    same, others = torch.tensor([[0.6, 0.8]]), torch.tensor([[[0.8, 0.6], [0.0, 1.0]]])
    expected = (math.log1p(math.exp((0.8 - 0.6) / 0.5)) + math.log1p(math.exp((0.0 - 0.6) / 0.5))) / 2
    assert intra_loss(query, same, others, temperature=0.5).item() == pytest.approx(expected)


def test_intra_loss_is_a_softmax_of_two_for_each_other_clip():
    query, same = (normalize(torch.randn(5, 8, dtype=torch.float64), dim=1) for _ in range(2))
    others = normalize(torch.randn(5, 2, 8, dtype=torch.float64), dim=2)
    rows = [torch.stack([query[b] @ same[b], query[b] @ others[b, n]]) / 0.1 for b in range(5) for n in range(2)]
    expected = cross_entropy(torch.stack(rows), torch.zeros(10, dtype=torch.int64))
    assert intra_loss(query, same, others).item() == pytest.approx(expected.item())


def test_only_the_query_learns():
    query, same, others = (torch.randn(*shape, requires_grad=True) for shape in ((3, 4), (3, 4), (3, 2, 4)))
    order = OrderLoss(4)
    (intra_loss(query, same, others) + order(query, others, torch.tensor([True, False, True]))).backward()
    assert query.grad.abs().sum() > 0
    assert same.grad is None
    assert others.grad is None
    assert order.classifier.weight.grad.abs().sum() > 0


def test_order_loss_by_hand():
    order = OrderLoss(1)
    with torch.no_grad():
        order.classifier.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 6.0]]))
        order.classifier.bias.zero_()
    # The row (1, 2, 2) has norm 3: the logits are (0, 5).
    query, others = torch.tensor([[1.0]]), torch.tensor([[[2.0], [2.0]]])
    assert order(query, others, torch.tensor([True])).item() == pytest.approx(math.log1p(math.exp(-5)))
    assert order(query, others, torch.tensor([0])).item() == pytest.approx(math.log1p(math.exp(5)))


def test_an_empty_batch_is_zero():
    assert intra_loss(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 2, 4)).item() == 0
    assert OrderLoss(4)(torch.zeros(0, 4), torch.zeros(0, 2, 4), torch.zeros(0)).item() == 0


def test_bad_arguments():
    rows = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"others must be \[B=2, N, D=4\], got \[2, 4\]"):
        intra_loss(rows, rows, rows)
    with pytest.raises(ValueError, match=r"query and same must be \[B, D\]"):
        intra_loss(rows, torch.zeros(3, 4), torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match="temperature must be > 0"):
        intra_loss(rows, rows, torch.zeros(2, 1, 4), temperature=0)
    with pytest.raises(ValueError, match=r"OrderLoss: .* got \[2, 4\], \[2, 3, 4\] and \[2\]"):
        OrderLoss(4)(rows, torch.zeros(2, 3, 4), torch.zeros(2))
