"""The `comparison` fixture: an operator beside its peers. benchmarks/README.md says how to write a benchmark."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import pytest
import torch

import motionops
from benchmarks.machine import machine_name
from benchmarks.measure import Timing, copy_bandwidth, matrix_rate, measure
from motionops.info import build_info, machine_info

FOLDER = Path(__file__).resolve().parent
OURS = "motionops"

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
        targets: dict[str, float] | None = None,
        seconds: float = 2.0,
    ) -> dict[str, Timing]:
        """Check, then time ``ours`` and ``peers`` in turns.

        Args:
            case: what is computed, with its sizes: "B 64, K 65536, D 128, forward + backward".
            ours, peers: functions without arguments that return tensors (in any nesting); all must return what
                ``reference`` returns, or the benchmark fails without a time. A peer that raises is named and left out.
            rtol, atol: how far they may be apart, relative to the largest value of each tensor, and absolutely.
            moved_bytes: each input read once and each output written once; gives GB/s and the share of a plain copy's.
            operations: arithmetic operations; gives GFLOP/s and the share of a matrix product's.
            targets: peer -> how many times faster the operator is meant to be.
            seconds: about how long each candidate is timed.
        """
        expected = reference()
        candidates = {OURS: ours}
        for name, work in {OURS: ours, **peers}.items():
            try:
                result = work()
            except Exception as error:
                if name == OURS:
                    raise
                _lines.append(f"{self.op}, {case}: {name} was not measured: {type(error).__name__}: {error}")
                continue
            candidates[name] = work
            wrong = difference(result, expected, rtol, atol)
            if wrong is not None:
                pytest.fail(f"{self.op}, {case}: not timed, as {name} differs from the reference: {wrong}")
        timings = measure(candidates, self.device, seconds=seconds)
        self.benchmark.pedantic(ours, rounds=3)
        reachable = {name: goal for name, goal in (targets or {}).items() if name in candidates}
        self._report(case, timings, moved_bytes, operations, reachable)
        return timings

    def _report(self, case, timings, moved_bytes, operations, targets) -> None:
        own = timings[OURS].median_ms
        faster = {name: timing.median_ms / own for name, timing in timings.items() if name != OURS}
        record = {
            "case": case,
            "device": self.device.type,
            "timings": {name: dataclasses.asdict(timing) for name, timing in timings.items()},
            "times_faster_than": faster,
            "targets": {name: {"wanted": goal, "reached": faster[name] >= goal} for name, goal in targets.items()},
        }
        title = f"{self.op} on {self.device.type}: {case}"
        if moved_bytes:
            record["gigabytes_per_second"] = moved_bytes / own / 1e6
            record["share_of_copy"] = record["gigabytes_per_second"] / _copy_bandwidth(self.device)
            title += f", {record['gigabytes_per_second']:.1f} GB/s = {record['share_of_copy']:.0%} of a copy"
        if operations:
            record["gigaflops"] = operations / own / 1e6
            record["share_of_matrix_product"] = record["gigaflops"] / _matrix_rate(self.device)
            title += f", {record['gigaflops']:.0f} GFLOP/s = {record['share_of_matrix_product']:.0%} of a product"
        _lines.append(title)
        for name, timing in timings.items():
            memory = "    ?" if timing.peak_mib is None else f"{timing.peak_mib:8.1f}"
            line = f"  {name:<24}{timing.median_ms:10.3f} ms ({timing.p20_ms:.3f}-{timing.p80_ms:.3f}) {memory} MiB"
            if name in faster:
                line += f"   {faster[name]:6.2f} x ours"
            if name in targets:
                line += f"   target {targets[name]:g}: {'reached' if faster[name] >= targets[name] else 'missed'}"
            _lines.append(line)
        save(self.op, record)


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
        one, other = one.detach().double().cpu(), other.detach().double().cpu()
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
    file = FOLDER / "results" / machine_name() / f"{op}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(file.read_text())["results"] if file.exists() else []
    same = (record["case"], record["device"])
    record = {**record, "commit": _commit(), "date": datetime.now(timezone.utc).date().isoformat()}
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
def _matrix_rate(device: torch.device) -> float:
    return matrix_rate(device, torch.bfloat16 if device.type == "cuda" else torch.float32)


@cache
def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../csrc", "../motionops")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def pytest_terminal_summary(terminalreporter) -> None:
    if _lines:
        terminalreporter.section("motionops beside its peers")
        for line in _lines:
            terminalreporter.write_line(line)
