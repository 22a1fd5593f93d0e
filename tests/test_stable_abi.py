"""The operators' libraries use torch's stable ABI alone: one file for every torch from 2.11 on and every Python."""

import re
import subprocess
from pathlib import Path

import pytest

from motionops import library
from tests.conftest import load_emulated

ROOT = Path(__file__).resolve().parent.parent
EMULATED = ROOT / "tests" / "emulator" / "_emulated.so"


def undefined_symbols(path: Path) -> list[str]:
    """What the library wants from others, by its plain names."""
    listed = subprocess.run(["nm", "--dynamic", "--undefined-only", "--demangle", path], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    return [line.split(maxsplit=1)[1] for line in listed.stdout.splitlines()]


def foreign(symbols: list[str]) -> list[str]:
    """Of ATen, c10 or torch in C++, of Python, and of a CUDA library that may not be there."""
    return [name for name in symbols if re.search(r"\b(at|c10|torch|pybind11)::|^_?Py[A-Z_]|^cu(da)?[A-Z]", name)]


@pytest.mark.parametrize("path", [library.OPERATORS, EMULATED], ids=lambda path: path.name)
def test_nothing_of_torchs_cpp_nor_python_is_linked_to(path):
    if path == EMULATED and load_emulated() is not None:
        pytest.skip("the emulated build is not there")
    symbols = undefined_symbols(path)
    assert any(name.startswith("aoti_torch_empty_strided") for name in symbols)  # what is used of torch is seen
    assert foreign(symbols) == []


def test_a_foreign_symbol_is_seen():
    names = ["c10::Error::what() const", "PyErr_SetString", "cudaMalloc", "memcpy@GLIBC_2.14", "std::bad_alloc::what()"]
    assert foreign(names) == names[:3]


def test_of_torch_one_library_is_needed():
    """Those of CUDA would keep a CUDA build from loading beside a torch without."""
    listed = subprocess.run(["readelf", "-d", library.OPERATORS], capture_output=True, text=True)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", listed.stdout)
    assert [name for name in needed if "torch" in name or "c10" in name or "cu" in name] == ["libtorch_cpu.so"]


# What RHEL 8 has (glibc 2.28, GCC 8), and torch's own wheels ask for.
OLD = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11), "GCC": (8, 0)}


def versions_needed(path: Path) -> dict[str, tuple[int, ...]]:
    """The newest version of each library of the system that is asked for."""
    listed = subprocess.run(["readelf", "--version-info", path], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    needs = listed.stdout.partition("Version needs section")[2]
    found = re.findall(r"Name: ([A-Z]+)_([\d.]+)", needs)
    versions = [(name, tuple(map(int, version.split(".")))) for name, version in found]
    return {name: max(version for other, version in versions if other == name) for name, _ in versions}


def test_an_older_linux_loads_them():
    versions = versions_needed(library.OPERATORS)
    assert {"GLIBC", "GLIBCXX"} <= versions.keys() <= OLD.keys()
    assert {name: version for name, version in versions.items() if version > OLD[name]} == {}


def test_one_function_is_to_be_seen():
    """No symbol of the operators, of CUDA's runtime or of C++'s library meets another's of the same name."""
    listed = subprocess.run(["nm", "--dynamic", "--defined-only", library.OPERATORS], capture_output=True, text=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["motionops_build_facts"]


def test_torch_itself_knows_where_its_cuda_stream_is():
    """The one function that is looked up by its name while running (csrc/core/cuda_scope_binding.h)."""
    import torch

    cuda = Path(torch.__file__).parent / "lib" / "libtorch_cuda.so"
    if not cuda.exists():
        pytest.skip("torch is a CPU-only build")
    listed = subprocess.run(["nm", "--dynamic", "--defined-only", cuda], capture_output=True, text=True)
    assert re.search(r" T aoti_torch_get_current_cuda_stream$", listed.stdout, re.MULTILINE)
