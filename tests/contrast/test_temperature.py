"""A temperature that is a tensor: learnt, or scheduled, in all contrastive operators."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.contrast.budget import loss_and_gradients, widened
from tests.contrast.every_operator import OPERATORS, PRODUCTS, features_of, sample_of

every_operator = pytest.mark.parametrize("op", OPERATORS)


def loss_of(result):
    return result if isinstance(result, torch.Tensor) else result.loss


def on(device, sample):
    return {name: value.to(device) for name, value in sample.items()}


@every_operator
def test_gradcheck(op):
    sample = widened({name: value for name, value in sample_of(op, 6).items() if not name.endswith("ids")})
    sample["temperature"] = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    rows = 2 if op.endswith("infonce") else None  # of maps all
    query = sample.pop("query")[:rows].requires_grad_()
    key = sample.pop("key")[: len(query) if op == "queue_infonce" else None].requires_grad_()
    temperature = sample.pop("temperature")
    assert torch.autograd.gradcheck(
        lambda q, k, t: loss_of(OPERATORS[op][0](q, k, **sample, temperature=t)), (query, key, temperature)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@every_operator
def test_it_is_what_its_number_is(backend, op, dtype):
    sample = on(backend.device, sample_of(op))
    temperature = torch.tensor(0.17, dtype=dtype, device=backend.device)
    wanted = loss_and_gradients(
        lambda **given: OPERATORS[op][0](**given, temperature=temperature.item()), sample, ("query", "key")
    )
    for given in (temperature, temperature.cpu()):
        ours = loss_and_gradients(
            lambda **arguments: OPERATORS[op][0](**arguments, temperature=given),  # noqa: B023
            sample,
            ("query", "key"),
        )
        for name, value in wanted.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("features", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
@every_operator
def test_the_gradient_is_not_rounded_with_the_queries(backend, op, products, features):
    sample = on(backend.device, sample_of(op))
    sample["query"], sample[PRODUCTS[op]] = sample["query"].to(features), sample[PRODUCTS[op]].to(products)
    sample["temperature"] = torch.tensor(0.2, device=backend.device)
    rounded = {n: v.to(products).cpu().double() if n in features_of(sample) else v.cpu() for n, v in sample.items()}
    wanted = ("temperature", "query")
    ours = loss_and_gradients(OPERATORS[op][0], sample, wanted)
    truth = loss_and_gradients(OPERATORS[op][1], rounded, wanted)
    # a GPU rounds the weights of 16-bit keys to 16 bits
    near = 2e-5 if products == torch.float32 or backend.name == "cpu" else 4e-3
    torch.testing.assert_close(ours["temperature"].cpu().double(), truth["temperature"].double(), rtol=near, atol=0)
    plain = loss_and_gradients(OPERATORS[op][0], sample, ("query",))
    assert torch.equal(ours["query"], plain["query"])


@every_operator
def test_a_schedule_is_compiled_once(backend, op):
    sample = on(backend.device, sample_of(op))
    sample["query"].requires_grad_()
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")

    def loss(temperature):
        return loss_of(OPERATORS[op][0](**sample, temperature=temperature))

    compiled = torch.compile(loss, backend=counter, fullgraph=True)
    for step in range(20):
        temperatures = [torch.tensor(0.2 - 0.005 * step, device=backend.device).requires_grad_() for _ in range(2)]
        found, expected = (f(t) for f, t in zip((compiled, loss), temperatures, strict=True))
        assert torch.equal(found, expected)
        for value in (found, expected):
            value.backward()
        torch.testing.assert_close(temperatures[0].grad, temperatures[1].grad)
    assert counter.frame_count <= 2


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@every_operator
def test_a_value_that_does_not_fit_is_seen_where_nothing_waits(op, value):
    with pytest.raises(ValueError, match=f"^{op}: temperature must be finite and above 0, got {value:g}"):
        OPERATORS[op][0](**sample_of(op), temperature=torch.tensor(value))


@every_operator
def test_without_a_gradient_to_it_nothing_changes(op):
    """Nor does one under no_grad."""
    sample = sample_of(op)
    temperature = torch.tensor(0.2, requires_grad=True)
    with torch.no_grad():
        assert not loss_of(OPERATORS[op][0](**sample, temperature=temperature)).requires_grad
    assert not loss_of(OPERATORS[op][0](**sample, temperature=temperature.detach())).requires_grad


@every_operator
def test_the_raw_operator_refuses_other_tensors(backend, op):
    sample = on(backend.device, sample_of(op))
    operators = getattr(torch.ops, backend.namespace)
    schema = getattr(operators, op).default._schema
    for temperature, error, words in (
        (torch.ones(1, device=backend.device), ValueError, r"must be a number or a scalar, \[\], got \[1\]"),
        (torch.ones((), device=backend.device).int(), TypeError, "must be float32, .*, got int32"),
        (torch.ones((), device="meta"), ValueError, r"must be on \w+(:\d+)? as query is, got meta"),
    ):
        given = sample | {"temperature": temperature, "temperature_value": 0.1, "radius": 0.7, "panel_rows": 0}
        given |= {argument.name: False for argument in schema.arguments if str(argument.type) == "bool"}
        with pytest.raises(error, match=f"^{op}: temperature {words}"):
            getattr(operators, op)(*(given.get(argument.name) for argument in schema.arguments))


def test_rows_that_do_not_count_tell_it_nothing(backend):
    """Pixels outside the mask may hold anything."""
    sample = on(backend.device, sample_of("pixel_contrast"))
    sample["temperature"] = torch.tensor(0.2, device=backend.device)
    clean = loss_and_gradients(OPERATORS["pixel_contrast"][0], sample, ("temperature",))
    sample["query"] = sample["query"].masked_fill(~sample["query_mask"][:, None, :, :, None], float("nan"))
    dirty = loss_and_gradients(OPERATORS["pixel_contrast"][0], sample, ("temperature",))
    assert torch.equal(dirty["temperature"], clean["temperature"])
    assert clean["temperature"] != 0
