"""The backward operators check every argument: autograd passes right ones, but they can be called by themselves."""

import pytest
import torch

from tests.contrast.every_operator import sample_of

# Arguments of the forward operators behind their tensors, with all gradients wanted.
FORWARD = {
    "queue_infonce": (0.1, True, False),
    "pairwise_infonce": (0.1, True, True, False, 0),
    "pixel_contrast": (0.7, 0.1, True, False),
    "region_contrast": (0.1, True, True, False),
}


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
        if name.startswith(("log_sum_exp", "positive_logit", "weight", "expected")):
            wrong["half the width"] = value.half()  # read as float32 it would be read beyond its end
        return wrong
    if name in ("temperature_value", "radius", "max_value"):
        return {"zero": 0.0, "no number": float("nan")}
    return {
        "products": {"whole numbers": torch.int32},
        "grid": {"no divisor": [3, 3, 4]},
        "first": {"a word": "x"},
    }.get(name, {})


@pytest.mark.parametrize("op", [*FORWARD, "flow_edges", "motion_map", "frame_difference"])
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
