"""The backward operators check every argument: autograd passes right ones, but they can be called by themselves."""

import numpy as np
import pytest
import torch

from tests.contrast.every_operator import sample_of
from tests.fuzz.hostile import OWN_ERRORS

# Arguments of the forward operators behind their tensors, with all gradients wanted.
FORWARD = {
    "queue_infonce": (0.1, True, False),
    "pairwise_infonce": (0.1, True, True, False, 0),
    "pixel_contrast": (0.7, 0.1, True, False),
    "region_contrast": (0.1, True, True, False),
}
EVERY = [*FORWARD, "flow_edges", "motion_map", "frame_difference", "ghost_batch_norm"]


def valid_call(backend, op: str) -> dict:
    """Right arguments of `<op>_backward`, by name."""
    namespace = backend.ops
    if op in FORWARD:
        sample = {name: value.to(backend.device) for name, value in sample_of(op).items()}
        schema = getattr(namespace, op).default._schema
        tensors = [argument.name for argument in schema.arguments if "Tensor" in str(argument.type)]
        saved = getattr(namespace, op)(*[sample.get(name) for name in tensors], *FORWARD[op])
        values = dict(zip([result.name for result in schema.returns], saved, strict=True))
        values |= {**sample, "grad_loss": torch.tensor(0.5, device=backend.device), "products": torch.float32}
        values |= {"temperature_value": 0.1, "radius": 0.7, "query_gradient": True, "key_gradient": True, "tf32": False}
    elif op == "ghost_batch_norm":
        features = torch.randn(4, 3, 3, 6, device=backend.device).movedim(-1, 1)
        channels, statistics = features.new_ones(6), features.new_ones(2, 6)
        values = {"grad_output": features, "input": features, "output": features, "weight": channels, "bias": channels}
        values |= {"mean": statistics, "var": statistics, "groups": [1, 3], "eps": 1e-5, "relu": True}
    else:
        flow = torch.randn(2, 3, 2, 8, 8, device=backend.device)
        values = {"flow": flow, "max_value": 10.0, "grid": [3, 2, 4], "first": "wrap"}
        values |= {"grad_edges": flow[:, :, 0].contiguous(), "grad_map": flow.new_ones(2, 3, 2, 4)}
        values |= {"grad_difference": flow}
    arguments = getattr(namespace, f"{op}_backward").default._schema.arguments
    return {argument.name: values.get(argument.name) for argument in arguments}


def spoiled(name: str, value) -> dict[str, object]:
    """Wrong values of one argument, by what is wrong with them."""
    if isinstance(value, torch.Tensor):
        longer = torch.cat([value.flatten(), value.new_ones(1)])
        wrong = {"a longer shape": longer, "no element": value.new_ones(0), "a meta tensor": value.to("meta")}
        if not name.endswith("_mask"):
            wrong["whole numbers"] = value.to(torch.int32)
        if name.startswith(("log_sum_exp", "positive_logit", "weight", "expected", "bias", "mean", "var")):
            wrong["half the width"] = value.half()  # read as float32 it would be read beyond its end
        return wrong
    if name in ("temperature_value", "radius", "max_value"):
        return {"zero": 0.0, "no number": float("nan")}
    return {
        "products": {"whole numbers": torch.int32},
        "grid": {"no divisor": [3, 3, 4]},
        "groups": {
            "too many": [1, 4],
            "below zero": [-1, 5],
            "beyond int64": [2**62, 2**62, 2**62, 2**62, 4],
            "none": [],
        },
        "eps": {"below zero": -1.0, "no number": float("nan")},
        "first": {"a word": "x"},
    }.get(name, {})


@pytest.mark.parametrize("op", EVERY)
def test_every_argument_is_checked(backend, op):
    operator = getattr(backend.ops, f"{op}_backward").default
    arguments = valid_call(backend, op)
    operator(*arguments.values())  # right ones run
    tried = 0
    for name, value in arguments.items():
        for what, wrong in spoiled(name, value).items():
            if op == "frame_difference" and what == "a meta tensor":
                continue  # its only tensor: that is a call on meta
            if name == "expected_query" and backend.name != "cpu":
                continue  # made by the CPU's forward passes alone
            with pytest.raises((ValueError, TypeError, RuntimeError)) as raised:
                operator(*{**arguments, name: wrong}.values())
            text = str(raised.value)
            assert text.startswith(f"{op}_backward: "), f"{name}, {what}: {text}"
            # a query or a flow that does not fit the others may be said of them
            if name not in ("query", "flow", "grid"):
                assert name.removesuffix("_value") in text or "meta" in what, f"{name}, {what}: {text}"
            tried += 1
    assert tried >= 4


@pytest.mark.parametrize("op", FORWARD)
def test_what_is_not_wanted_is_not_looked_at(backend, op):
    """[0, D] and the like are saved where no gradient of the query is wanted."""
    arguments = valid_call(backend, op) | {"query_gradient": False, "key_gradient": False}
    for name in ("expected_key", "expected_difference", "expected_query"):
        if name in arguments:
            arguments[name] = arguments[name].new_ones(0)
    gradients = getattr(backend.ops, f"{op}_backward")(*arguments.values())
    assert all(gradient.numel() == 0 for gradient in gradients)


@pytest.mark.parametrize("op", FORWARD)
def test_meta_tensors_are_checked_alike(op):
    from tests.conftest import Backend

    arguments = valid_call(Backend("cpu"), op)
    meta = {k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    operator = getattr(torch.ops.motionops, f"{op}_backward")
    shapes = [gradient.shape for gradient in operator(*meta.values())]
    assert shapes == [arguments["query"].shape, arguments["key"].shape]
    with pytest.raises(ValueError, match=f"{op}_backward: key must be"):
        operator(*{**meta, "key": meta["key"][..., :-1]}.values())
    with pytest.raises(TypeError, match=f"{op}_backward: log_sum_exp must be float32, got float16"):
        operator(*{**meta, "log_sum_exp": meta["log_sum_exp"].half()}.values())


@pytest.mark.parametrize("op", EVERY)
@pytest.mark.parametrize("times", [50, pytest.param(5_000, marks=pytest.mark.slow)])
def test_several_wrong_arguments_at_once_end_in_an_error(op, times):
    """Never in a fault, also where shapes agree with each other, but not with the rest."""
    from tests.conftest import Backend

    operator, refused = getattr(torch.ops.motionops, f"{op}_backward"), 0
    valid, random = valid_call(Backend("cpu"), op), np.random.default_rng(times)
    faults = [(name, worse) for name, value in valid.items() for worse in spoiled(name, value).values()]
    tensors = [name for name, value in valid.items() if isinstance(value, torch.Tensor)]
    for _ in range(times):
        arguments = dict(valid)
        for place in random.integers(0, len(faults), random.integers(1, 4)):
            name, worse = faults[place]
            arguments[name] = worse
        if random.integers(2):  # the first rows of everything that has any, but of one
            left = random.choice(tensors)
            shorter = {name: arguments[name] for name in tensors if name != left and arguments[name].ndim}
            arguments |= {name: value[:1] for name, value in shorter.items()}
        try:
            operator(*arguments.values())
        except OWN_ERRORS:
            refused += 1
    assert refused > times // 2
