"""Proof that the sanitizers see in the CUDA sources, compiled for the host, what they are there for.

A CUDA thread is a host thread here (thread_executor.cpp). `make test-cpp` runs the programs of tests/cpp as they
are, which must be clean; here they are compiled with a fault in them, once, and again when a source has changed.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "sanitizers"
SOURCES = ("csrc", "tests/cpp", "tests/emulator")
COMPILER = os.environ.get("CXX", "g++")
ADDRESS = ("-fsanitize=address",)
THREAD = ("-fsanitize=thread",)

pytestmark = pytest.mark.skipif(which(COMPILER) is None, reason=f"no C++ compiler ({COMPILER})")


@dataclass(frozen=True)
class Program:
    main: str
    kernels: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def build(self, name: str) -> Path:
        target = BUILD / name
        newest = max(path.stat().st_mtime for folder in SOURCES for path in (ROOT / folder).rglob("*.[chi]*"))
        if target.exists() and target.stat().st_mtime > newest:
            return target
        BUILD.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        kernels = [argument for kernel in self.kernels for argument in ("-x", "c++", f"csrc/{kernel}", "-x", "none")]
        command = [
            *(COMPILER, "-std=c++20", "-O1", "-g1", "-pthread", "-Wno-unknown-pragmas", "-DMOTIONOPS_EMULATED"),
            *("-I", "tests/emulator/include", "-I", "csrc", *self.flags, *kernels),
            *(f"tests/cpp/{self.main}", "tests/emulator/thread_executor.cpp", "-o", str(part)),
        ]
        compiled = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert compiled.returncode == 0, compiled.stderr[-4000:]
        part.replace(target)
        return target


def run(program: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    # ThreadSanitizer of older compilers does not start under the wide address randomisation of newer systems
    prefix = ["setarch", "--addr-no-randomize"] if which("setarch") else []
    # halt at the first race: a missing barrier makes thousands
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    result = subprocess.run(
        [*prefix, str(program), *arguments], capture_output=True, text=True, timeout=600, env=environment
    )
    return result.returncode, result.stdout + result.stderr


class TestItBites:
    """Each of these must fail, and say why."""

    def test_a_missing_barrier_is_a_race(self) -> None:
        program = Program(
            "test_emulated_queue_infonce.cpp",
            ("contrast/queue_infonce.cu",),
            (*THREAD, "-DMOTIONOPS_TEST_WITHOUT_TILE_BARRIER"),
        )
        code, output = run(program.build("missing_barrier"), "few")
        assert code != 0
        assert "ThreadSanitizer: data race" in output

    def test_one_element_past_the_end_of_global_memory(self) -> None:
        program = Program("overrun_queue_infonce.cpp", ("contrast/queue_infonce.cu",), ADDRESS)
        code, output = run(program.build("overrun_global"))
        assert code != 0
        assert "heap-buffer-overflow" in output
        assert "WRITE of size 4" in output

    def test_one_element_past_the_end_of_shared_memory(self) -> None:
        flags = (*ADDRESS, "-DMOTIONOPS_TEST_SHARED_BYTES_MISSING=4")
        program = Program("overrun_queue_infonce.cpp", ("contrast/queue_infonce.cu",), flags)
        code, output = run(program.build("overrun_shared"), "long enough")
        assert code != 0
        assert "heap-buffer-overflow" in output
        assert "WRITE of size" in output

    def test_the_same_program_is_clean_without_the_fault(self) -> None:
        program = Program("overrun_queue_infonce.cpp", ("contrast/queue_infonce.cu",), ADDRESS)
        code, output = run(program.build("overrun_global"), "long enough")
        assert code == 0, output[-4000:]


def test_fibers_do_what_threads_do() -> None:
    """The executor that the Python tests run on, through the same program."""
    target = BUILD / "emulator_fibers"
    BUILD.mkdir(parents=True, exist_ok=True)
    flags = "-std=c++20 -O1 -Wno-unknown-pragmas -DMOTIONOPS_EMULATED -I tests/emulator/include -I csrc"
    sources = "tests/cpp/test_emulator.cpp tests/emulator/fiber_executor.cpp"
    command = [COMPILER, *flags.split(), *sources.split(), "-o", str(target)]
    compiled = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr[-4000:]
    code, output = run(target)
    assert code == 0, output[-4000:]
