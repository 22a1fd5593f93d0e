"""No kernel spills registers to memory, by what ptxas says of the build that is here."""

import re
from pathlib import Path

import pytest

import motionops
from motionops.library import BUILD_FACTS

LOGS = Path(__file__).resolve().parent.parent / "build" / "operators" / "cuda" / "csrc"
ARCHITECTURES = ["sm_80", "sm_90"]

pytestmark = pytest.mark.skipif(not motionops.has_cuda(), reason=f"CPU build: {BUILD_FACTS['cuda_reason']}")

KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<architecture>sm_\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads",
    re.DOTALL,
)


def kernels(log: Path) -> list[dict[str, str]]:
    return [match.groupdict() for match in KERNEL.finditer(log.read_text())]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_spills(architecture):
    if architecture.removeprefix("sm_") not in BUILD_FACTS["cuda_architectures"].replace(".", ""):
        pytest.skip(f"this build is for {BUILD_FACTS['cuda_architectures']}")
    logs = sorted(LOGS.rglob("*.cu.o.log"))
    assert logs, "the operators were built without keeping what ptxas said: make clean build"
    for log in logs:
        compiled = [kernel for kernel in kernels(log) if kernel["architecture"] == architecture]
        assert compiled, f"{log.name}: no kernel for {architecture}"
        spilled = [kernel for kernel in compiled if int(kernel["stores"]) or int(kernel["loads"])]
        assert not spilled, f"{log.name}: kernels that spill: {spilled}"


def test_a_spill_would_be_seen(tmp_path):
    log = tmp_path / "x.log"
    log.write_text(
        "ptxas info    : Compiling entry function 'kernel' for 'sm_90'\n"
        "ptxas info    : Function properties for kernel\n"
        "    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
    )
    assert kernels(log) == [{"name": "kernel", "architecture": "sm_90", "stores": "8", "loads": "12"}]
