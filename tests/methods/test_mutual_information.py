"""Bounds of mutual information against closed forms; the gradient of MINE."""

import math

import pytest
import torch

from motionops.methods.controllable.mutual_information import MutualInformation, information_bound


def gaussians(count, rho, generator):
    """`count` pairs of standard normal numbers with correlation rho, `[count, 1]` each."""
    x = torch.randn(count, 1, generator=generator)
    return x, rho * x + math.sqrt(1 - rho**2) * torch.randn(count, 1, generator=generator)


def others(y, count):
    """For every row `count` values of y that were drawn without looking at its x: `[N, count, 1]`."""
    return torch.stack([y.roll(shift, 0) for shift in range(1, count + 1)], dim=1)


def estimate(estimator, rho, batch, negatives, steps, seed=0):
    """Train on fresh pairs, and measure on 400 000 others."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 100)
    network = MutualInformation(1, 1, hidden=64, estimator=estimator)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x, y = gaussians(batch, rho, generator)
        optimizer.zero_grad()
        (-network(x, y, others(y, negatives))).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        parts = [gaussians(50_000 // negatives, rho, generator) for _ in range(8 * negatives)]
        if estimator == "infonce":
            return sum(network(x, y, others(y, negatives)).item() for x, y in parts) / len(parts)
        x, y = (torch.cat(side) for side in zip(*parts, strict=True))
        return network(x, y, others(y, 1)).item()


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("estimator", ["mine", "nwj"])
def test_correlated_gaussians(estimator, rho):
    known = -0.5 * math.log(1 - rho**2)
    assert estimate(estimator, rho, batch=2048, negatives=1, steps=1500) == pytest.approx(known, rel=0.1)


def test_infonce_of_correlated_gaussians():
    known = -0.5 * math.log(1 - 0.9**2)
    assert estimate("infonce", 0.9, batch=64, negatives=63, steps=1000) == pytest.approx(known, rel=0.1)


def test_independent_variables_share_nothing():
    assert abs(estimate("mine", 0.0, batch=1024, negatives=1, steps=300)) < 0.002


def scores(n=5, m=3):
    generator = torch.Generator().manual_seed(3)
    joint = torch.randn(n, generator=generator, dtype=torch.float64)
    return joint, torch.randn(n, m, generator=generator, dtype=torch.float64)


def test_bounds_are_their_formulas():
    joint, marginal = scores()
    mean = sum(joint.tolist()) / 5
    partition = sum(math.exp(value) for value in marginal.flatten().tolist()) / 15
    assert information_bound(joint, marginal, "mine").item() == pytest.approx(mean - math.log(partition), abs=1e-12)
    assert information_bound(joint, marginal, "nwj").item() == pytest.approx(mean - partition / math.e, abs=1e-12)
    ratios = [
        math.log(math.exp(own) / ((math.exp(own) + sum(map(math.exp, row))) / 4))
        for own, row in zip(joint.tolist(), marginal.tolist(), strict=True)
    ]
    assert information_bound(joint, marginal, "infonce").item() == pytest.approx(sum(ratios) / 5, abs=1e-12)


def test_infonce_is_at_most_the_logarithm_of_its_choices():
    joint, marginal = torch.full((4,), 100.0), torch.zeros(4, 7)
    assert information_bound(joint, marginal, "infonce").item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("estimator", ["mine", "infonce", "nwj"])
def test_gradients(estimator):
    torch.manual_seed(0)
    network = MutualInformation(3, 2, hidden=4, estimator=estimator).double().eval()
    x, y = (torch.randn(4, dim, dtype=torch.float64, requires_grad=True) for dim in (3, 2))
    marginal = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x, y))
    assert torch.autograd.gradcheck(network, (x, y, marginal))
    joint, others_ = (part.requires_grad_() for part in scores())
    assert torch.autograd.gradcheck(lambda *both: information_bound(*both, estimator), (joint, others_))


def test_the_default_marginal_are_all_other_rows():
    torch.manual_seed(0)
    network = MutualInformation(2, 3, hidden=8).double().eval()
    x, y = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    everyone_else = torch.stack([torch.cat([y[:i], y[i + 1 :]]) for i in range(4)])
    torch.testing.assert_close(network(x, y), network(x, y, everyone_else))


def test_scores_are_a_two_layer_network_over_the_pair():
    torch.manual_seed(0)
    network = MutualInformation(2, 3, hidden=8, estimator="nwj").double().eval()
    x, y = torch.randn(1, 2, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    weight = torch.cat([network.first_x.weight, network.first_y.weight], dim=1)
    pair = torch.cat([x, y], dim=1)
    score = (pair @ weight.T + network.first_x.bias).clamp(min=0) @ network.second.weight[0] + network.second.bias
    torch.testing.assert_close(network(x, y, y[:, None]), score[0] - (score[0] - 1).exp())


def test_the_gradient_of_mine_divides_by_the_moving_average_of_the_partition():
    torch.manual_seed(0)
    decay = 0.75
    network = MutualInformation(1, 1, hidden=8, decay=decay).double()
    assert network.log_partition.isinf()
    average = None
    for _ in range(3):
        x, y = torch.randn(6, 1, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
        network.zero_grad()
        value = network(x, y)
        value.backward()
        # G of all 36 pairs by the layers themselves.
        both = torch.cat([x[:, None].expand(6, 6, 1), y[None].expand(6, 6, 1)], dim=2)
        weight = torch.cat([network.first_x.weight, network.first_y.weight], dim=1)
        g = torch.relu(both @ weight.T + network.first_x.bias) @ network.second.weight[0] + network.second.bias
        marginal = g[~torch.eye(6, dtype=torch.bool)]
        now = marginal.exp().mean().item()
        average = now if average is None else decay * average + (1 - decay) * now
        assert network.log_partition.item() == pytest.approx(math.log(average), abs=1e-12)
        assert value.item() == pytest.approx((g.diagonal().mean() - marginal.exp().mean().log()).item(), abs=1e-12)
        expected = torch.autograd.grad(
            g.diagonal().mean() - marginal.exp().mean() / average, [network.first_x.weight, network.second.weight]
        )
        torch.testing.assert_close(network.first_x.weight.grad, expected[0])
        torch.testing.assert_close(network.second.weight.grad, expected[1])


def test_without_decay_and_in_evaluation_the_gradient_is_the_bounds_own():
    torch.manual_seed(0)
    network = MutualInformation(2, 2, hidden=8, decay=0.0).double()
    x, y = torch.randn(5, 2, dtype=torch.float64, requires_grad=True), torch.randn(5, 2, dtype=torch.float64)
    (training,) = torch.autograd.grad(network(x, y), x)
    (evaluating,) = torch.autograd.grad(network.eval()(x, y), x)
    assert torch.equal(training, evaluating)
    assert network.log_partition.isinf()


def test_frozen_moves_the_features_alone():
    torch.manual_seed(0)
    network = MutualInformation(2, 2, hidden=8)
    network(torch.randn(4, 2), torch.randn(4, 2))
    before = network.log_partition.clone()
    x, y = torch.randn(4, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    network(x, y, frozen=True).backward()
    assert torch.equal(network.log_partition, before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert x.grad.abs().sum() > 0
    assert y.grad.abs().sum() > 0


def test_the_moving_average_is_saved():
    network = MutualInformation(2, 2, hidden=4)
    network(torch.randn(4, 2), torch.randn(4, 2))
    again = MutualInformation(2, 2, hidden=4)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.log_partition, network.log_partition)


def test_large_scores_stay_finite():
    network = MutualInformation(1, 1, hidden=4)
    with torch.no_grad():
        network.second.bias.fill_(500.0)  # e^500 is no float32
    value = network(torch.randn(8, 1), torch.randn(8, 1))
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_pairs_by_their_places_are_the_same_pairs():
    """And with a moving average: the marginal is weighted alike, by the pairs of each x."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network, twin = (MutualInformation(2, 3, hidden=8).double() for _ in range(2))
    twin.load_state_dict(network.state_dict())
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    first, second = torch.tensor([0, 0, 0, 3, 4, 4]), torch.tensor([1, 2, 3, 0, 1, 1])
    others = torch.randint(4, (5, 2), generator=generator)
    for _ in range(2):
        value = network.of_pairs(x, y, first, second, others)
        expected = twin(x[first], y[second], y[others[first]])
        torch.testing.assert_close(value, expected)
        gradients = [torch.autograd.grad(v, list(n.parameters())) for v, n in ((value, network), (expected, twin))]
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(network.log_partition, twin.log_partition)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MutualInformation(0, 2), "MutualInformation: x_dim must be at least 1, got 0"),
        (lambda: MutualInformation(2, 2, estimator="dv"), "estimator must be one of mine, infonce, nwj, got 'dv'"),
        (lambda: MutualInformation(2, 2, decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: MutualInformation(2, 3)(torch.ones(4, 2), torch.ones(4, 2)), r"y must be \[N=4, 3\], got \[4, 2\]"),
        (lambda: MutualInformation(2, 2)(torch.ones(1, 2), torch.ones(1, 2)), "got N = 1"),
        (
            lambda: MutualInformation(2, 2)(torch.ones(4, 2), torch.ones(4, 2), torch.ones(4, 2)),
            r"marginal must be \[N=4, M >= 1, 2\], got \[4, 2\]",
        ),
        (lambda: information_bound(torch.ones(3), torch.ones(2, 2)), r"got \[3\] and \[2, 2\]"),
        (lambda: information_bound(torch.ones(3), torch.ones(3, 2), "x"), "information_bound: estimator must be one"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
