"""Timing several ways to do one thing, in turns, with a cold cache, and the memory that each takes."""

from __future__ import annotations

import ctypes
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

Work = Callable[[], object]

MEBIBYTE = 2**20
# Of the host's time: calls in a round, and rounds at least. Some 20 launches a call, of 1024 that may wait for a GPU.
HOST_CALLS, HOST_ROUNDS = 20, 20


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call, and the memory that one call takes beside its inputs (None where it cannot be known)."""

    median_ms: float
    p20_ms: float
    p80_ms: float
    peak_mib: float | None
    samples: int

    def of_portion(self, portion: float) -> Timing:
        """Of all of the work, where this is of a portion; the memory stays."""
        times = (value / portion for value in (self.median_ms, self.p20_ms, self.p80_ms))
        return Timing(*times, self.peak_mib, self.samples)


def timed() -> bool:
    """Whether anything is timed in this run: MOTIONOPS_BENCH_SECONDS=0 only checks."""
    return float(os.environ.get("MOTIONOPS_BENCH_SECONDS", 1.0)) > 0


def measure(
    candidates: dict[str, Work], device: torch.device, *, seconds: float = 2.0, rounds: int = 7
) -> dict[str, Timing]:
    """Time all candidates in turns, in a new random order each round, so that a disturbance falls on all alike.

    Args:
        candidates: name -> function to call.
        device: where they run. On a GPU CUDA events take the time, and the L2 cache is flushed before each sample.
        seconds: about how long each may take in all; slow ones still get 3 rounds. MOTIONOPS_BENCH_SECONDS sets a
            lower one, for a run that has little time.
        rounds: the least number of samples, where `seconds` allows it.
    """
    seconds = min(seconds, float(os.environ.get("MOTIONOPS_BENCH_SECONDS", seconds)))
    clock = _time_on_gpu if device.type == "cuda" else _time_on_cpu
    memory = {name: peak_memory(work, device) for name, work in candidates.items()}  # also the warm-up
    once = {name: min(clock(work, 1) for _ in range(2)) for name, work in candidates.items()}
    # a sample is at least 2 ms long: below that, clocks and schedulers are what is measured
    calls = {name: max(1, round(2e-3 / max(once[name], 1e-7))) for name in candidates}
    longest = max(once[name] * calls[name] for name in candidates)
    rounds = max(3, rounds, min(100, int(seconds / longest))) if longest * rounds < 4 * seconds else 3
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            samples[name].append(clock(candidates[name], calls[name]))
    return {name: _summary(values, memory[name]) for name, values in samples.items()}


def host_times(candidates: dict[str, Work], device: torch.device, *, seconds: float = 2.0) -> dict[str, Timing]:
    """What the host spends on a call of each: the least of many rounds in turns stands for the median.

    A GPU is waited for between the rounds, and not in them: a round is shorter than what it lets the host launch ahead.
    """
    seconds = min(seconds, float(os.environ.get("MOTIONOPS_BENCH_SECONDS", seconds)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for work in candidates.values():
        _time_on_host(work, device)
    until = time.perf_counter() + seconds * len(candidates)
    while time.perf_counter() < until or len(samples[min(samples)]) < HOST_ROUNDS:
        for name, work in candidates.items():
            samples[name].append(_time_on_host(work, device))
    timings = {name: _summary(values, None) for name, values in samples.items()}
    return {name: replace(timings[name], median_ms=1e3 * min(values)) for name, values in samples.items()}


def peak_memory(work: Work, device: torch.device) -> float | None:
    """MiB that a call of `work` takes at its peak, results included, over what is taken before it."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MEBIBYTE
    # Freed memory that malloc keeps would hide what the call takes from it.
    ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status_mib("VmRSS")
        work()
        return max(0.0, _status_mib("VmHWM") - before)
    except (OSError, KeyError):
        return None


def copy_bandwidth(device: torch.device) -> float:
    """GB/s of a plain copy, bytes read and written both counted: the floor of memory-bound work is given in it."""
    source = torch.empty(256 * MEBIBYTE if device.type == "cuda" else 64 * MEBIBYTE, dtype=torch.float32, device=device)
    source.zero_()
    target = torch.empty_like(source).zero_()
    timing = measure({"copy": lambda: target.copy_(source)}, device, seconds=0.5)["copy"]
    return 2 * source.numel() * source.element_size() / timing.median_ms / 1e6


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product: the floor of compute-bound work is given in it."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    timing = measure({"product": lambda: a @ b}, device, seconds=0.5)["product"]
    return 2 * size**3 / timing.median_ms / 1e6


def _time_on_cpu(work: Work, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def _time_on_host(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return _time_on_cpu(work, HOST_CALLS)


def _time_on_gpu(work: Work, calls: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    device, total = torch.device("cuda", torch.cuda.current_device()), 0.0
    for _ in range(calls):
        flush_l2(device)
        start.record()
        work()
        end.record()
        end.synchronize()
        total += start.elapsed_time(end)
    return total / calls / 1e3


def flush_l2(device: torch.device) -> None:
    """Fill the cache with other data by reading them: written ones would go to memory while the next call is timed."""
    _twice_the_cache(device).amax()


@cache
def _twice_the_cache(device: torch.device) -> torch.Tensor:
    size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
    return torch.zeros(size // 4, dtype=torch.int32, device=device)


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values[field].split()[0]) / 1024


def _summary(values: list[float], memory: float | None) -> Timing:
    times = 1e3 * torch.tensor(values, dtype=torch.float64)
    low, middle, high = torch.quantile(times, torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)).tolist()
    return Timing(middle, low, high, memory, len(values))
