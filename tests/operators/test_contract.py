"""What every operator keeps, on every backend; what is one operator's own is in its tests/<family>/test_<op>.py."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from motionops.library import NAMESPACE, use_namespace
from tests.contrast.memory import extra_mebibytes
from tests.operators.calls import (
    assert_alike,
    cotangent,
    laid_out_together,
    layouts,
    move,
    outputs,
    raw_calls,
    replaced,
    run,
    tensors,
)
from tests.operators.card import CARDS, EXACT
from tests.streams import check_side_stream_and_graph

SAMPLES = [pytest.param(card, name, id=f"{card.op}-{name}") for card in CARDS for name in card.samples]
LARGE = [pytest.param(card, name, id=f"{card.op}-{name}") for card in CARDS for name in card.large]
LEARN = [pytest.param(card, name, id=f"{card.op}-{name}") for card in CARDS if card.learns for name in card.samples]
every_sample = pytest.mark.parametrize(("card", "name"), SAMPLES)
every_large_sample = pytest.mark.parametrize(("card", "name"), LARGE)
every_sample_that_learns = pytest.mark.parametrize(("card", "name"), LEARN)
every_operator = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.op)


# ---- what is given ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("card", "name"), SAMPLES + LARGE)
def test_equals_its_reference(backend, card, name):
    if name in card.large and backend.name == "emulated":
        pytest.skip("the small samples do")
    arguments = move(card.sample(name), backend.device)
    before = {where: tensor.clone() for where, tensor in tensors(arguments).items()}
    weights = cotangent(card, arguments)
    found, expected = (run(card, arguments, weights, function=f) for f in (card.function, card.reference))
    for what, value in expected.items():
        assert found[what].device.type == backend.device.type
        assert_alike({what: found[what]}, {what: value}, **card.near(weights.dtype))
    for where, tensor in tensors(arguments).items():
        assert torch.equal(tensor, before[where]), f"{where} was written to"


@every_operator
def test_every_tensor_is_in_a_sample(card):
    """What an operator takes is not forgotten, nor that it has a gradient."""
    given = set()
    for name in card.samples:
        operator, values = raw_calls(card, NAMESPACE, card.sample(name))[0]
        schema = operator._schema.arguments
        given |= {argument.name for argument, value in zip(schema, values, strict=True) if value is not None}
    assert given == {argument.name for argument in schema}
    assert set(card.learns) <= given
    assert hasattr(getattr(torch.ops, NAMESPACE), f"{card.op}_backward") == bool(card.learns)


@every_sample
def test_any_strides(backend, card, name):
    types = card.types[:1] if backend.name == "emulated" and card.without else card.types  # long under the emulator
    for dtype in types:
        plain = move(card.in_type(card.sample(name), dtype), backend.device)
        weights = cotangent(card, plain)
        wanted = run(card, plain, weights)
        for where, tensor in tensors(plain).items():
            for what, laid_out in layouts(tensor):
                arguments, before = replaced(plain, where, laid_out), laid_out.clone()
                expected = wanted
                if not torch.equal(laid_out, tensor):  # rows that share their memory are alike
                    expected = run(card, replaced(plain, where, laid_out.contiguous()), weights)
                near = card.unaligned if what == "behind others" else EXACT
                found = run(card, arguments, weights)
                assert_alike(found, expected, f"{dtype}, {where}, {what}:", **near)
                strides = found["output 0"].stride()
                assert card.laid_out(found["output 0"], arguments), f"{where}, {what}: the result's are {strides}"
                assert torch.equal(laid_out, before), f"{where}, {what}: was written to"
        together = run(card, laid_out_together(plain, "axes reversed"), weights)
        assert_alike(together, wanted, f"{dtype}, all axes reversed:")
        if card.learns:
            for what, laid_out in layouts(weights):
                expected = run(card, plain, laid_out.contiguous())
                assert_alike(run(card, plain, laid_out), expected, f"{dtype}, gradient of the result, {what}:")
            alike = torch.ones((), device=backend.device, dtype=weights.dtype).expand(weights.shape)
            expected = run(card, plain, alike.contiguous())
            assert_alike(run(card, plain, alike), expected, f"{dtype}, gradient of a sum:")


@every_sample
def test_arrays_of_other_libraries(backend, card, name):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are on the CPU")
    arguments = card.sample(name)
    arrays = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in arguments.items()}
    assert any(isinstance(value, np.ndarray) for value in arrays.values())
    assert_alike(run(card, arrays, wanted=()), run(card, arguments, wanted=()))


@pytest.mark.parametrize(
    ("card", "changes", "error", "words"),
    [
        pytest.param(card, *wrong, id=f"{card.op}-{number}-{'-'.join(wrong[0])}")
        for card in CARDS
        for number, wrong in enumerate(card.wrong)
    ],
)
def test_wrong_arguments(backend, card, changes, error, words):
    if backend.name == "cuda" and not card.looks_at_values_on_cuda:
        pytest.skip("values on a GPU are not looked at, and the texts name the CPU")
    card.function(**move(card.right(), backend.device))
    with pytest.raises(error, match=f"^{card.op}: .*{words}"):
        card.function(**move({**card.right(), **changes}, backend.device))


@every_sample
def test_devices_must_agree(backend, card, name):
    """Nor do tensors without memory mix with others."""
    arguments = move(card.sample(name), backend.device)
    places = tensors(arguments)
    for (where, tensor), elsewhere in ((place, device) for place in places.items() for device in ("meta", "cpu")):
        if len(places) == 1 or tensor.device.type == elsewhere:
            continue
        with pytest.raises(ValueError, match=rf"^{card.op}: .* must be on \w+.*, got \w+") as raised:
            card.function(**replaced(arguments, where, tensor.to(elsewhere)))
        assert elsewhere in str(raised.value), where
        if where != next(iter(places)):  # the first is what the others are compared with
            assert re.findall(r"\w+", where)[-1] in str(raised.value), where


@pytest.mark.parametrize(
    ("card", "dtype"), [pytest.param(card, dtype, id=f"{card.op}-{dtype}") for card in CARDS for dtype in card.without]
)
def test_types_that_are_refused_on_cuda(backend, card, dtype):
    if backend.name == "cpu":
        pytest.skip("the CPU takes them")
    for name in card.samples:
        arguments = move(card.in_type(card.sample(name), dtype), backend.device)
        named = [argument for argument in card.without[dtype] if argument in arguments][-1]
        words = f"{card.op}: {named} must be float32, bfloat16 or float16 on CUDA, got float64"
        with pytest.raises(TypeError, match=words):
            card.function(**arguments)


@every_sample
def test_results_do_not_depend_on_torchs_defaults(backend, card, name):
    """Neither the device of new tensors nor their type."""
    arguments = move(card.sample(name), backend.device)
    weights = cotangent(card, arguments)
    expected = run(card, arguments, weights)
    with torch.device("meta"):
        assert_alike(run(card, arguments, weights), expected, "another default device")
    before = torch.get_default_dtype()
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            assert_alike(run(card, arguments, weights), expected, f"default {dtype}")
        finally:
            torch.set_default_dtype(before)


@every_sample
def test_subnormal_halves_where_the_host_flushes(backend, card, name):
    """No float16 is a subnormal float32, so it makes no difference that those are flushed to 0."""
    if backend.name != "cpu" or not card.features:
        pytest.skip("about the CPU's conversions")
    if torch.bfloat16 not in card.types:
        pytest.skip("it takes no halves")
    arguments = card.sample(name)
    for feature in card.features:
        if feature in arguments and arguments[feature].is_floating_point():
            arguments[feature] = (arguments[feature] * 2e-5).half()
    if not any(isinstance(value, Tensor) and value.dtype == torch.float16 for value in arguments.values()):
        pytest.skip("it takes no halves")
    weights = (cotangent(card, arguments).float() * 3e-5).to(outputs(card.function(**arguments))[0].dtype)
    expected, threads = run(card, arguments, weights), torch.get_num_threads()
    torch.set_num_threads(1)
    assert torch.set_flush_denormal(True)
    try:
        found = run(card, arguments, weights)
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    assert_alike(found, expected)


@every_sample
def test_programs_are_saved(card, name):
    """Whatever an operator returns, a named tuple too, an exported program returns it after it was loaded."""
    arguments = card.sample(name)
    given = tensors(arguments)

    class Program(torch.nn.Module):
        def forward(self, *values: Tensor):
            filled = arguments
            for where, value in zip(given, values, strict=True):
                filled = replaced(filled, where, value)
            return card.function(**filled)

    program = torch.export.export(Program(), tuple(given.values()))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    found, expected = torch.export.load(file).module()(*given.values()), card.function(**arguments)
    assert type(found) is type(expected)
    for one, other in zip(outputs(found), outputs(expected), strict=True):
        assert torch.equal(one, other)


# ---- gradients -------------------------------------------------------------------------------------------------------


@every_sample
def test_what_learns_has_a_gradient_and_nothing_else(backend, card, name):
    arguments = move(card.sample(name), backend.device)
    for tensor in tensors(arguments).values():
        if tensor.is_floating_point():
            tensor.requires_grad_()
    results = outputs(card.function(**arguments))
    assert [result.requires_grad for result in results] == [bool(card.learns) and n == 0 for n in range(len(results))]
    if card.learns:
        results[0].sum().backward()
    have = {where for where, tensor in tensors(arguments).items() if tensor.grad is not None}
    assert have == {f"['{learns}']" for learns in card.learns if arguments.get(learns) is not None}
    for where in have:
        tensor = tensors(arguments)[where]
        assert (tensor.grad.dtype, tensor.grad.shape) == (tensor.dtype, tensor.shape)


@every_sample_that_learns
def test_without_gradients_nothing_is_kept(backend, card, name):
    arguments = move(card.sample(name), backend.device)
    expected = run(card, arguments, wanted=())
    for learns in card.learns:
        if learns in arguments:
            arguments[learns].requires_grad_()
    with torch.no_grad():
        results = outputs(card.function(**arguments))
    assert not any(result.requires_grad for result in results)
    for result, value in zip(results, expected.values(), strict=True):
        assert torch.equal(result, value)


@every_sample_that_learns
def test_gradient_of_one_alone(backend, card, name):
    """Whether the others need none, or are only not asked for."""
    arguments = move(card.sample(name), backend.device)
    weights = cotangent(card, arguments)
    together = run(card, arguments, weights)
    learns = tuple(learns for learns in card.learns if learns in arguments)
    for one in learns:
        for learning in ((one,), learns):
            alone = run(card, arguments, weights, wanted=(one,), learning=learning)
            assert_alike(alone, {what: together[what] for what in alone}, **card.one_alone)


@every_sample_that_learns
def test_gradients_scale_with_that_of_the_result(backend, card, name):
    arguments = move(card.sample(name), backend.device)
    weights = cotangent(card, arguments)
    once, thrice = run(card, arguments, weights), run(card, arguments, 3 * weights)
    for what, value in once.items():
        torch.testing.assert_close(thrice[what], value if what.startswith("output") else 3 * value)
        assert what.startswith("output") or value.norm() > 0


@every_sample_that_learns
def test_second_derivatives_are_refused(backend, card, name):
    arguments = move(card.sample(name), backend.device)
    weights = cotangent(card, arguments).requires_grad_()
    for learns in card.learns:
        if learns not in arguments:
            continue
        leaf = arguments[learns].detach().requires_grad_()
        first = outputs(card.function(**{**arguments, learns: leaf}))[0]
        (gradient,) = torch.autograd.grad(first, leaf, weights, create_graph=True)
        if torch.equal(gradient, weights):  # what is only added
            continue
        with pytest.raises(RuntimeError, match=f"{card.op}: its gradient cannot be differentiated again"):
            gradient.sum().backward()


@every_sample_that_learns
def test_the_forward_operator_must_know_of_the_gradients(backend, card, name):
    """Where it keeps something for one only if that is wanted."""
    arguments = move(card.sample(name), backend.device)
    operator, values = raw_calls(card, backend.namespace, arguments)[0]
    names = [argument.name for argument in operator._schema.arguments]
    for learns in (name.removesuffix("_gradient") for name in names if name.endswith("_gradient")):
        given = dict(zip(names, values, strict=True)) | {f"{other}_gradient": False for other in card.learns}
        given = {name: given[name] for name in names} | {learns: given[learns].detach().requires_grad_()}
        first = outputs(operator(*given.values()))[0]
        with pytest.raises(RuntimeError, match=f"{card.op}: {learns}_gradient must be True"):
            first.backward()


# ---- the operator as torch sees it -----------------------------------------------------------------------------------


@every_sample
def test_opcheck(backend, card, name):
    """Of what a call and its backward pass come down to: with all gradients, with each alone, and with one wanted."""
    arguments = move(card.sample(name), backend.device)
    learns = tuple(learns for learns in card.learns if learns in arguments)
    ways = [{"wanted": learns}]
    if len(learns) > 1:
        ways += [{"wanted": (one,)} for one in learns] + [{"wanted": (one,), "learning": learns} for one in learns]
    seen = set()
    for way in ways:
        calls = raw_calls(card, backend.namespace, arguments, **way)
        assert [operator._opname for operator, _ in calls] == [card.op, f"{card.op}_backward"][: 1 + bool(learns)]
        for operator, values in calls:
            key = (operator, str([value for value in values if not isinstance(value, Tensor)]))
            if key in seen:
                continue
            seen.add(key)
            needing = way.get("learning", way["wanted"]) if operator._opname == card.op else ()
            torch.library.opcheck(operator, with_gradients(operator, values, needing), test_utils=tried(backend))


def tried(backend):
    """Of opcheck. What torch traces is one Python for all backends: it is traced where the kernels are quick."""
    rest = ("test_aot_dispatch_dynamic",) if backend.name != "emulated" else ()
    return ("test_schema", "test_autograd_registration", "test_faketensor", *rest)


def with_gradients(operator, values, needing):
    """The arguments of an operator, some of which require gradients."""
    named = zip(operator._schema.arguments, values, strict=True)
    return tuple(value.detach().requires_grad_() if argument.name in needing else value for argument, value in named)


KINDS = ["axes reversed", "axis 1 is last", "every second of axis 1", "a part", "axis 0 is expanded"]


@pytest.mark.parametrize("kind", KINDS)
@every_operator
def test_opcheck_of_other_layouts(backend, card, kind):
    if backend.name == "emulated" and card.without:
        pytest.skip("long under the emulator")
    arguments = laid_out_together(move(card.sample(next(iter(card.samples))), backend.device), kind)
    learns = [name for name in card.learns if name in arguments]
    for operator, values in raw_calls(card, backend.namespace, arguments):
        needing = learns if operator._opname == card.op else ()
        torch.library.opcheck(operator, with_gradients(operator, values, needing), test_utils=tried(backend))


@every_sample
def test_fake_kernels_in_any_strides(backend, card, name):
    if backend.name == "emulated" and card.without:
        pytest.skip("long under the emulator")
    arguments = move(card.sample(name), backend.device)
    for where, tensor in tensors(arguments).items():
        for _, laid_out in layouts(tensor):
            for operator, values in raw_calls(card, backend.namespace, replaced(arguments, where, laid_out)):
                needing = card.learns if operator._opname == card.op else ()
                torch.library.opcheck(
                    operator,
                    with_gradients(operator, values, [name for name in needing if name in arguments]),
                    test_utils=("test_schema", "test_faketensor"),
                )


@every_sample
def test_meta_tensors_have_the_results_shapes(card, name):
    for dtype in card.types:
        arguments = card.in_type(card.sample(name), dtype)
        real, meta = (outputs(card.function(**a)) for a in (arguments, move(arguments, "meta")))
        for one, other in zip(real, meta, strict=True):
            assert other.device.type == "meta"
            assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


@every_sample
def test_compiles_whole(backend, card, name):
    """Between other operators, and without a break in the graph."""
    if backend.name == "emulated":
        pytest.skip("what is traced is the CPU's")
    arguments = move(card.sample(name), backend.device)

    def step(**given):
        doubled = {
            name: 2 * value if name in card.learns and value is not None else value for name, value in given.items()
        }
        first, *others = outputs(card.function(**doubled))
        return first * 2, *others

    torch.compiler.reset()  # each sample is compiled for itself, and torch counts how often
    compiled = torch.compile(step, fullgraph=True, backend=card.compiler)
    weights = cotangent(card, arguments)
    expected, found = (run(card, arguments, weights, function=f) for f in (step, compiled))
    for what, value in expected.items():
        torch.testing.assert_close(found[what], value, msg=lambda text, what=what: f"{what}: {text}")


# ---- threads, memory, streams, devices -------------------------------------------------------------------------------


@every_large_sample
def test_threads_do_not_change_the_result(backend, card, name):
    if backend.name != "cpu":
        pytest.skip("about the CPU's threads")
    arguments, before, results = card.sample(name), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(run(card, arguments))
    finally:
        torch.set_num_threads(before)
    for one, other in pairwise(results):
        assert_alike(other, one, **card.threads)


@pytest.mark.parametrize(
    ("card", "number"), [pytest.param(c, n, id=f"{c.op}-{n}") for c in CARDS for n in range(len(c.frugal))]
)
def test_memory_does_not_grow_with_the_pairs(backend, card, number):
    if backend.name == "emulated":
        pytest.skip("minutes under the emulator")
    make, allowed = card.frugal[number]
    arguments = move(make(0), backend.device)
    weights = torch.ones((), device=backend.device)
    extra = extra_mebibytes(lambda: run(card, arguments, weights), backend.device)
    assert extra < allowed(backend.name)


@pytest.mark.parametrize(("card", "name"), SAMPLES + LARGE)
def test_side_stream_and_graph(backend, card, name):
    if name in card.large and backend.name != "cuda":
        pytest.skip("there are no streams: a small one does")
    inputs, others = (move(card.sample(name, seed), backend.device) for seed in (0, 1))
    weights = cotangent(card, inputs)
    check_side_stream_and_graph(lambda given: run(card, given, weights), inputs, others, backend.device)


@pytest.mark.parametrize(("card", "name"), SAMPLES + LARGE)
def test_equals_the_cpu(backend, card, name):
    if backend.name == "cpu":
        pytest.skip("compared with itself")
    if name in card.large and backend.name == "emulated" and card.without:
        pytest.skip("long under the emulator")
    for dtype in card.alike_in:
        arguments = card.in_type(card.sample(name), dtype)
        with use_namespace(NAMESPACE):
            weights = cotangent(card, arguments)
            on_cpu = run(card, arguments, weights)
        ours = run(card, move(arguments, backend.device), weights.to(backend.device))
        for what, value in on_cpu.items():
            factor = card.rougher.get(name, 1) if what.startswith("gradient") else 1
            near = {kind: factor * bound for kind, bound in card.alike(dtype).items()}
            assert_alike({what: ours[what]}, {what: value}, f"{dtype}", **near)
