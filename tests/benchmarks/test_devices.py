"""Nothing that a GPU's run needs stays on the CPU: benchmarks, small shapes and tests on a GPU that is played."""

import inspect
import itertools
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks import peers, small_shapes
from benchmarks.codec import bench_rasterize_motion_vectors
from benchmarks.contrast import bench_queue_infonce
from benchmarks.flow import bench_tvl1_flow
from motionops import library
from motionops.flow.tvl1_flow import tvl1_flow_reference
from tests.benchmarks.test_peers import PLAYED
from tests.pretended_gpu import GPU, PretendedGPU
from tests.streams import leaves_of_its_own

ROOT = Path(__file__).parents[2]
FAMILIES = ("codec", "contrast", "flow", "geometry", "host", "views")
# What a test is about that wants a real GPU, or torch.compile, which does not look into a played one.
OF_A_GPU = ("compile", "opcheck", "stream", "graph", "captured", "equals_cpu", "equals_the_cpu", "float64_is_refused")


def functions(folder, prefix):
    """(module, function) of what pytest would collect of the operators' families."""
    for path in sorted(path for family in FAMILIES for path in (ROOT / folder / family).glob(f"{prefix}*.py")):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, function in vars(module).items():
            if name.startswith(prefix):
                yield path.stem, function


def parameters(function):
    """The arguments of each of its calls, from its marks; of a curve the first point."""
    axes = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name != "parametrize":
            continue
        names, values = mark.args
        names = [names] if isinstance(names, str) else names
        rows = [dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in values]
        axes.append(rows[:1] if "growth" in function.__name__ else rows)
    for chosen in itertools.product(*axes):
        yield {name: value for row in chosen for name, value in row.items()}


BENCHMARKS = [
    pytest.param(function, arguments, id=f"{stem}-{function.__name__}-{'-'.join(map(str, arguments.values()))}")
    for stem, function in functions("benchmarks", "bench_")
    for arguments in parameters(function)
]
TESTS = [
    pytest.param(function, id=f"{stem}-{function.__name__}")
    for stem, function in functions("tests", "test_")
    if list(inspect.signature(function).parameters) == ["backend"]
    and not any(word in function.__name__ for word in OF_A_GPU)
]


class OneCallEach:
    """The fixture `comparison`, which here calls each candidate once."""

    device = GPU

    def __call__(self, case, *, ours, reference, peers, **settings):
        for work in (reference, ours, *peers.values()):
            work()


class PlayedBackend:
    """What tests see of the backend `cuda`."""

    name, device, namespace = "cuda", GPU, library.NAMESPACE

    ops = torch.ops.motionops

    def tensor(self, value):
        return value.to(GPU)


@pytest.mark.parametrize(("benchmark_function", "arguments"), BENCHMARKS)
def test_benchmarks(monkeypatch, benchmark_function, arguments):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(bench_queue_infonce, "captured", leaves_of_its_own)
    # Iterations and frames are alike.
    monkeypatch.setattr(
        bench_tvl1_flow, "tvl1_flow_reference", lambda a, b: tvl1_flow_reference(a, b, iterations=2, warps=1, scales=2)
    )
    monkeypatch.setattr(bench_rasterize_motion_vectors, "FRAMES", 2)
    # The losses that a machine may lack are played by torch's.
    optional = peers.optional
    monkeypatch.setattr(peers, "optional", lambda name: PLAYED.get(name) or optional(name))
    if "shape" in arguments:  # of augment_clips, whose peers loop over clips
        arguments = {"shape": (2, *arguments["shape"][1:])}
    with PretendedGPU():
        benchmark_function(OneCallEach(), **arguments)


@pytest.mark.parametrize("case", small_shapes.CASES.values(), ids=small_shapes.CASES)
def test_small_shapes(case):
    with PretendedGPU():
        case(GPU)


@pytest.mark.parametrize("test_function", TESTS)
def test_tests_of_operators(test_function):
    with PretendedGPU(all_values=True):
        test_function(PlayedBackend())


def test_what_is_left_on_the_cpu_is_found():
    with PretendedGPU():
        there = torch.arange(4.0).to(GPU)
        assert (there + torch.arange(4, device=GPU) + 1 + torch.tensor(1.0)).tolist() == [2.0, 4.0, 6.0, 8.0]
        assert there[torch.tensor([1, 2])].sum().item() == 3  # torch takes indices of the CPU
        assert there.cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="to be on the same device"):
            there + torch.arange(4.0)
        here = torch.empty(2**20)
        assert here.device.type == "cpu"
        assert (here.to(GPU) * 2).device == GPU
        with pytest.raises(RuntimeError, match="to be on the same device"):
            here.to(GPU) + here
