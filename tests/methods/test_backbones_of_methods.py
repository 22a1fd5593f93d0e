"""Every backbone that a method's --help offers makes a step's losses, or is refused in one line before a video is read.

Shapes alone are computed (on torch's meta device): what is looked for are parts that a method wants of a network.
"""

import typing

import pytest
import torch
from torch.utils._pytree import tree_map_only

pytest.importorskip("lightning")
from motionops.commands.train import exported
from motionops.errors import UserError
from motionops.layers import BatchNorm3d
from motionops.training.config import TrainConfig
from motionops.training.method import Method
from tests.methods.steps import ready
from tests.methods.tiny import NAMES, package_of, tiny

SMALL = {"batch_size": 2, "size": 32, "frames": 8, "queue": 16}
OWN = {"fima": {"losses": ("vv", "pix")}, "controllable": {"stride": 1, "losses": ("nce",), "clips": 2}}


def offered(method):
    """(flag's field, network) of the trained backbone and of those beside it."""
    hints = typing.get_type_hints(exported(package_of(method), TrainConfig))
    fields = [field for field in hints if field.endswith("backbone")]
    return [(field, name) for field in fields for name in typing.get_args(hints[field])]


def flags_of(method):
    flags = {**SMALL, **OWN.get(method, {})}
    if method in ("controllable", "context_motion"):
        flags.pop("queue")
    return flags


@pytest.fixture(scope="module")
def prepared(shapes, tmp_path_factory):
    """What `prepare` makes of a method's first batch: it depends on the clips' shape alone, but for MCL's cells."""
    known = {}

    def of(method):
        if method not in known:
            small = ready(method, shapes, tmp_path_factory.mktemp(method), batches=1, **flags_of(method))
            known[method] = small.module.prepare(small.batches[0])
        return known[method]

    return of


@pytest.fixture(autouse=True)
def norms_keep_shapes(monkeypatch):
    """On the meta device torch takes a norm apart into twenty small steps, of thousands of norms."""
    monkeypatch.setattr(BatchNorm3d, "forward", lambda self, input, residual=None: input)


def refusal(config):
    """What a program says of the flags before it looks for videos; None where it says nothing."""
    try:
        config.check_backbone()
    except UserError as error:
        return str(error)
    return None


def cases():
    """MoCo asks nothing of a network that FIMA and MCL, which are offered the same, do not ask too."""
    for method in NAMES:
        for field, backbone in offered(method):
            repeats = method == "moco" and backbone != TrainConfig().backbone
            yield pytest.param(method, field, backbone, marks=pytest.mark.slow if repeats else ())


@pytest.mark.parametrize(("method", "field", "backbone"), cases())
def test_a_backbone_that_is_offered_makes_the_losses(shapes, tmp_path, prepared, method, field, backbone):
    config = tiny(method, shapes, tmp_path, **flags_of(method), **{field: backbone})
    refused = refusal(config)
    if refused is not None:
        assert "\n" not in refused
        assert backbone in refused
        return
    with torch.device("meta"):
        module = exported(package_of(method), Method)(config)
    given = list(prepared(method))
    if method == "mcl":
        given[3] = torch.zeros(len(given[0]), *module.grid)
    step = module.losses(*tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), tuple(given)))
    assert step.losses
    assert all(loss.shape == () for loss in step.losses.values())
