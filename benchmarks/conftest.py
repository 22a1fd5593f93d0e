"""The `comparison` fixture: an operator beside its peers. benchmarks/README.md says how to write a benchmark."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import pytest
import torch

import motionops
from benchmarks.machine import machine_name
from benchmarks.measure import Timing, copy_bandwidth, matrix_rate, measure, timed
from motionops.info import build_info, machine_info

FOLDER = Path(__file__).resolve().parent
OURS = "motionops"
# Seconds of a peer's call, above which a hurried run leaves the peer out.
HURRIED_CALL = 0.5

_lines: list[str] = []


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Run a benchmark on the CPU, and on the GPU where there is one."""
    if request.param == "cuda" and not (motionops.has_cuda() and torch.cuda.is_available()):
        pytest.skip("no GPU, or a build without CUDA operators")
    return torch.device(request.param)


@pytest.fixture
def comparison(request: pytest.FixtureRequest, device: torch.device, benchmark) -> Comparison:
    """Compare an operator with its peers in one run; results go to benchmarks/results/<machine>/<op>.json."""
    # Else a function that was compiled for the case before is compiled for sizes that vary, which is slower.
    torch.compiler.reset()
    return Comparison(request.path.stem.removeprefix("bench_"), device, benchmark)


class Comparison:
    """What a benchmark calls, once for each case."""

    def __init__(self, op: str, device: torch.device, benchmark):
        self.op, self.device, self.benchmark = op, device, benchmark

    def __call__(
        self,
        case: str,
        *,
        ours: Callable[[], object],
        reference: Callable[[], object],
        peers: dict[str, Callable[[], object]],
        rtol: float = 1e-4,
        atol: float = 1e-5,
        moved_bytes: int | None = None,
        operations: int | None = None,
        products: torch.dtype = torch.float32,
        targets: dict[str, float] | None = None,
        aims: dict[str, float] | None = None,
        portions: dict[str, float] | None = None,
        bounds: Mapping[str, float] | None = None,
        seconds: float = 2.0,
        clock: Callable[..., dict[str, Timing]] | None = None,
    ) -> dict[str, Timing]:
        """Check, then time ``ours`` and ``peers`` in turns.

        Args:
            case: what is computed, with its sizes: "B 64, K 65536, D 128, forward + backward".
            ours, peers: functions without arguments that return tensors (in any nesting). ``ours`` must return what
                ``reference`` returns, or the benchmark fails without a time. A peer that returns something else, or
                raises, is left out and named in the record with the difference or the error.
            rtol, atol: how far they may be apart, relative to the largest value of each tensor, and absolutely.
            moved_bytes: each input read once and each output written once; gives GB/s and the share of a plain copy's.
            operations: arithmetic operations; gives GFLOP/s and the share of a matrix product's.
            products: the type whose matrix product that share is of.
            targets: peer -> how many times faster the operator is meant to be.
            aims: what the operator is meant to reach by itself, by the names in ``AIMS``.
            portions: peer -> the portion of the work that it does, where all of it would take minutes; what it returns
                is as large as the others', by repetition, and its times are divided by the portion.
            bounds: peer -> the rtol of one that rounds more than its inputs' type does; in the record where it is used.
            seconds: about how long each candidate is timed. With MOTIONOPS_BENCH_SECONDS=0 nothing is timed or written:
                the candidates are compiled and checked.
            clock: times the candidates in place of :func:`benchmarks.measure.measure`.
        """
        start = time.perf_counter()
        expected = reference()
        no_peers = hurried() and time.perf_counter() - start > 10 * HURRIED_CALL
        candidates, left_out = {}, {}
        bounds = {name: bound for name, bound in (bounds or {}).items() if name in peers}
        for name, work in {OURS: ours, **peers}.items():
            if hurried() and "torch.compile" in name:
                left_out[name] = "no time to compile it"
                continue
            if no_peers and name != OURS:
                left_out[name] = "no time for it: the reference alone took it"
                continue
            start = time.perf_counter()
            try:
                wrong = difference(work(), expected, bounds.get(name, rtol), atol)
            except Exception as error:
                if name == OURS:
                    raise
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                continue
            if hurried() and name != OURS and time.perf_counter() - start > HURRIED_CALL:
                left_out[name] = f"no time for it: a call took {time.perf_counter() - start:.1f} s"
            elif wrong is None:
                candidates[name] = work
            elif name == OURS:
                pytest.fail(f"{self.op}, {case}: not timed, as it differs from the reference: {wrong}")
            else:
                left_out[name] = f"differs from the reference: {wrong}"
        _lines.extend(f"{self.op}, {case}: {name} is left out: {reason}" for name, reason in left_out.items())
        if not timed():
            self.benchmark.pedantic(ours, rounds=1)
            return {}
        del expected
        timings = (clock or measure)(candidates, self.device, seconds=seconds)
        for name, portion in (portions or {}).items():
            if name in timings:
                timings[name] = timings[name].of_portion(portion)
        self.benchmark.pedantic(ours, rounds=3)
        record = self._record(case, timings, moved_bytes, operations, products, targets or {}, aims or {})
        if bounds := {name: bound for name, bound in bounds.items() if name in candidates}:
            record["bounds"] = bounds
        if left_out:
            record["left_out"] = left_out
        self._print(record)
        save(self.op, record)
        return timings

    def _record(self, case, timings, moved_bytes, operations, products, targets, aims) -> dict:
        own = timings[OURS]
        faster = {name: timing.median_ms / own.median_ms for name, timing in timings.items() if name != OURS}
        record = {
            "case": case,
            "device": self.device.type,
            "timings": {name: dataclasses.asdict(timing) for name, timing in timings.items()},
            "times_faster_than": faster,
            "targets": {
                name: {"wanted": goal, "reached": faster[name] >= goal}
                for name, goal in targets.items()
                if name in faster
            },
        }
        if moved_bytes:
            record["copy_gigabytes_per_second"] = _copy_bandwidth(self.device)
            record["gigabytes_per_second"] = moved_bytes / own.median_ms / 1e6
            record["share_of_copy"] = record["gigabytes_per_second"] / record["copy_gigabytes_per_second"]
        if operations:
            record["product"] = product_name(products, self.device)
            record["product_gigaflops"] = _matrix_rate(self.device, products)
            record["gigaflops"] = operations / own.median_ms / 1e6
            record["share_of_matrix_product"] = record["gigaflops"] / record["product_gigaflops"]
        for name, goal in aims.items():
            value, at_most = AIMS[name](record, own), name in ("ms", "of eager's memory")
            if value is not None:
                reached = value <= goal if at_most else value >= goal
                record["targets"][name] = {"wanted": goal, "reached": reached, "value": value}
        return record

    def _print(self, record) -> None:
        title = f"{self.op} on {self.device.type}: {record['case']}"
        if "share_of_copy" in record:
            title += f", {record['gigabytes_per_second']:.1f} GB/s = {record['share_of_copy']:.0%} of a copy"
        if "share_of_matrix_product" in record:
            share = f"{record['share_of_matrix_product']:.0%} of a product in {record['product']}"
            title += f", {record['gigaflops']:.0f} GFLOP/s = {share}"
        _lines.append(title)
        faster, targets = record["times_faster_than"], record["targets"]
        for name, timing in record["timings"].items():
            memory = "    ?" if timing["peak_mib"] is None else f"{timing['peak_mib']:8.1f}"
            spread = f"({timing['p20_ms']:.3f}-{timing['p80_ms']:.3f})"
            line = f"  {name:<24}{timing['median_ms']:10.3f} ms {spread} {memory} MiB"
            if name in faster:
                line += f"   {faster[name]:6.2f} x ours"
            if name in targets:
                line += f"   target {targets[name]['wanted']:g}: {_verdict(targets[name])}"
            _lines.append(line)
        for name in targets.keys() & AIMS.keys():
            goal = targets[name]
            _lines.append(f"  {name}: {goal['value']:.3g}, aim {goal['wanted']:g}: {_verdict(goal)}")


def _of_eagers_memory(record: dict, own: Timing) -> float | None:
    eager = record["timings"].get("eager", {}).get("peak_mib")
    return own.peak_mib / eager if eager and own.peak_mib is not None else None


# What an operator can be meant to reach by itself; None where this run cannot tell.
AIMS: dict[str, Callable[[dict, Timing], float | None]] = {
    "of a copy": lambda record, own: record.get("share_of_copy"),
    "ms": lambda record, own: own.median_ms,
    "of eager's memory": _of_eagers_memory,
}


def hurried() -> bool:
    """Whether the run has so little time that slow peers are left out: MOTIONOPS_BENCH_HURRY=1."""
    return os.environ.get("MOTIONOPS_BENCH_HURRY") == "1"


def _verdict(goal: dict) -> str:
    return "reached" if goal["reached"] else "missed"


def difference(result: object, expected: object, rtol: float, atol: float) -> str | None:
    """Say how two results differ, or None. Tensors may be nested in tuples, lists and dicts."""
    results, expectations = _tensors(result), _tensors(expected)
    if len(results) != len(expectations):
        return f"{len(results)} tensors instead of {len(expectations)}"
    for index, (one, other) in enumerate(zip(results, expectations, strict=True)):
        if one.shape != other.shape:
            return f"tensor {index} has shape {list(one.shape)} instead of {list(other.shape)}"
        if one.numel() == 0:
            continue
        one, other = one.detach().double(), other.detach().to(one.device).double()
        error, allowed = (one - other).abs().max().item(), atol + rtol * other.abs().max().item()
        if not error <= allowed:
            return f"tensor {index} is off by {error:.3g}, allowed {allowed:.3g}"
    return None


def _tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, (tuple, list)) else []


def save(op: str, record: dict) -> None:
    """Put a record into the op's file for this machine, in place of the last one of the same case."""
    folder = os.environ.get("MOTIONOPS_BENCH_RESULTS") or FOLDER / "results"
    file = Path(folder) / machine_name() / f"{op}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(file.read_text())["results"] if file.exists() else []
    same = (record["case"], record["device"])
    record = {**record, "commit": commit(), "date": datetime.now(timezone.utc).date().isoformat()}
    results = [old for old in kept if (old["case"], old["device"]) != same] + [record]
    content = {"op": op, "machine": machine_info(), "build": build_info(), "results": results}
    file.write_text(json.dumps(_rounded(content), indent=2, ensure_ascii=False) + "\n")


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


@cache
def _copy_bandwidth(device: torch.device) -> float:
    return copy_bandwidth(device)


@cache
def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    return matrix_rate(device, dtype)


def product_name(dtype: torch.dtype, device: torch.device) -> str:
    """A type's name; a GPU's float32 products may be rounded to TF32, by torch's setting."""
    name = str(dtype).removeprefix("torch.")
    rounded = dtype == torch.float32 and device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return f"{name} (TF32)" if rounded else name


@cache
def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../csrc", "../motionops")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), help="measure on this device alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those of --device; a run that is out of time has something of everything."""
    wanted = config.getoption("--device")
    others = [item for item in items if wanted and _device_of(item) not in (None, wanted)]
    config.hook.pytest_deselected(items=others)
    items[:] = in_order_of_worth([item for item in items if item not in others])


def in_order_of_worth(items: list[pytest.Item]) -> list[pytest.Item]:
    """The first case of every file on every device, readers of files after operators, then the second ones, and so on;
    points of curves last."""
    before: Counter = Counter()
    worth = {}
    for item in items:
        kind = ("growth" in item.name, item.path, _device_of(item))
        worth[item] = (kind[0], before[kind], Path(item.path).parent.name == "video")
        before[kind] += 1
    return sorted(items, key=worth.__getitem__)


def _device_of(item: pytest.Item) -> str | None:
    return item.callspec.params.get("device") if hasattr(item, "callspec") else None


def pytest_terminal_summary(terminalreporter) -> None:
    if _lines:
        terminalreporter.section("motionops beside its peers")
        for line in _lines:
            terminalreporter.write_line(line)
