"""A step of every method: what learns, what moves and what stays; every ablation; any network as the backbone."""

import copy

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

import motionops
from motionops.models.pathway import Pathway, leaves
from motionops.models.shuffled_batch_norm import Shuffle
from tests.methods.small_network import SmallNetwork
from tests.methods.steps import ready, steps
from tests.methods.tiny import CARDS, NAMES, tiny
from tests.methods.watched import silent_flags

STEPS_OF_A_FALL = 8
# The estimator of L_mi takes steps of its own, but for the constant that is added to all scores: the Donsker-Varadhan
# bound does not see it, so that whether it moves is a matter of rounding.
BY_ITSELF, UNSEEN = "information.theta.", {"information.theta.second.bias"}


def parts(module, kind):
    return {name: each for name, each in module.named_modules() if isinstance(each, kind)}


def queues(module):
    return {name: each.features.clone() for name, each in parts(module, motionops.FeatureQueue).items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def momentum_copies(module):
    """(momentum, parameters of the copy, of what it is a copy of), of each."""
    for path in parts(module, Pathway).values():
        for encoder, source in ((path.key_backbone, path.backbone), (path.key_head, path.head)):
            yield encoder.momentum, list(encoder.network.parameters()), list(source.parameters())


@pytest.mark.parametrize("method", NAMES)
def test_copies_move_once_a_step_and_queues_behind_it(shapes, tmp_path, method):
    module, _, batches = ready(method, shapes, tmp_path)
    for batch in batches:
        before, held = copy.deepcopy(module), queues(module)
        for _ in steps(module, [batch]):
            # The losses are made; the backward pass, the update and the queues' writes are to come.
            assert same(queues(module), held)
            for now, former in zip(momentum_copies(module), momentum_copies(before), strict=True):
                momentum, copied, _ = now
                for value, old, learnt in zip(copied, *former[1:], strict=True):
                    expected = momentum * old.double() + (1 - momentum) * learnt.double()
                    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-8)
        assert all(not torch.equal(rows, held[name]) for name, rows in queues(module).items())


@pytest.mark.parametrize("method", NAMES)
def test_every_weight_learns_and_every_norm_sees_its_batch(shapes, tmp_path, method):
    module, _, batches = ready(method, shapes, tmp_path, batches=1)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    for outputs in steps(module, batches):
        assert all(value.dtype == torch.float32 for value in outputs.values())
    for name, weight in module.named_parameters():
        assert weight.requires_grad == (weight.grad is not None), name
        learns = weight.requires_grad or name.startswith(BY_ITSELF)
        assert name in UNSEEN or torch.equal(weight, before[name]) != learns, name
    for name, norm in parts(module, _BatchNorm).items():
        assert norm.num_batches_tracked > 0, name
        assert norm.running_mean.abs().max() > 0, name


@pytest.mark.parametrize("method", [name for name in NAMES if "queue" in CARDS[name].flags])
def test_a_shuffle_is_the_same_on_all_ranks(shapes, tmp_path, method):
    """Whatever the global generator is at, of which each rank has its own; in another step it is another."""
    module, _, batches = ready(method, shapes, tmp_path, batches=1, group=2, batch_size=8)
    drawn = []
    for seed, step in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(seed)
        module.step = step
        drawn.append([each.own for each in leaves(module.prepare(batches[0])) if isinstance(each, Shuffle)])
    assert drawn[0]
    assert all(torch.equal(one, two) for one, two in zip(*drawn[:2], strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(drawn[0], drawn[2], strict=True))


@pytest.mark.parametrize("method", NAMES)
def test_losses_fall(shapes, tmp_path, method):
    """Steps on one batch, whose clips are cut and whose draws are made alike; a lowest value, as descent swings.

    At a lower temperature a key is told from the queue's random rows before anything is learnt.
    """
    module, _, batches = ready(method, shapes, tmp_path, batches=1, temperature=0.5)
    rows = []
    for outputs in steps(module, batches * STEPS_OF_A_FALL, alike=True):
        rows.append({name: value.item() for name, value in outputs.items()})
    for name, least in {"": 0.1, **CARDS[method].falls}.items():
        first, *others = (row[f"loss_{name}" if name else "loss"] for row in rows)
        assert min(others) < first - least, (name, rows)


def two_steps(method, shapes, output, **flags):
    """What the losses of two steps are."""
    module, _, batches = ready(method, shapes, output, watch=True, **flags)
    values = []
    for outputs in steps(module, batches):
        assert all(value.dtype == torch.float32 for value in outputs.values() if value.is_floating_point())
        assert all(rows.dtype == torch.float32 for _, rows, _ in module._enqueued)
        values.append({name: value.item() for name, value in outputs.items() if name.startswith("loss")})
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in values)
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert silent_flags(module.config) == [], "flags without an effect here, of which none is an Only"
    return values


@pytest.fixture(scope="module")
def plain(shapes, tmp_path_factory):
    """The losses of two steps of a method's tiny run."""
    known = {}

    def losses(method):
        if method not in known:
            known[method] = two_steps(method, shapes, tmp_path_factory.mktemp("plain"))
        return known[method]

    return losses


ABLATIONS = [(method, flags) for method in NAMES for flags in CARDS[method].ablations]


@pytest.mark.parametrize(
    ("method", "flags"), ABLATIONS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_every_ablation_learns_something_else(shapes, tmp_path, plain, method, flags):
    values = two_steps(method, shapes, tmp_path, **flags)
    assert values != plain(method)
    names = flags.get("losses")
    assert names is None or {f"loss_{name}" for name in names} == values[0].keys() - {"loss"}


@pytest.mark.parametrize("method", NAMES)
def test_any_network_can_be_the_backbone(shapes, tmp_path, method):
    network = SmallNetwork(tiny(method, shapes, tmp_path).frames)
    module, _, batches = ready(method, shapes, tmp_path, batches=1, network=network)
    assert module.backbone is network
    for outputs in steps(module, batches):
        assert outputs["loss"].isfinite()
    assert all(weight.grad.abs().max() > 0 for weight in network.parameters())
