"""A kernel that begins beside the one before it waits for that before it touches memory, as this machine code says."""

import importlib.util
import shutil
from functools import cache

import pytest

import motionops
from benchmarks import sass_count
from motionops.library import BUILD_FACTS
from tests.test_ptxas import LOGS

pytestmark = [
    pytest.mark.skipif(not motionops.has_cuda(), reason=f"CPU build: {BUILD_FACTS['cuda_reason']}"),
    pytest.mark.skipif(
        shutil.which("cuobjdump") is None and importlib.util.find_spec("triton") is None, reason="no cuobjdump"
    ),
]
MEMORY = ("LDG", "STG", "LD.", "ST.", "ATOM", "RED")


@cache
def machine_code(file: str, architecture: str) -> list[sass_count.Kernel]:
    return sass_count.read(LOGS / "contrast" / f"{file}.cu.o", architecture)


def opcodes(file: str, kernel: str, architecture: str) -> list[list[str]]:
    if architecture.removeprefix("sm_") not in BUILD_FACTS["cuda_architectures"].replace(".", ""):
        pytest.skip(f"this build is for {BUILD_FACTS['cuda_architectures']}")
    found = [k for k in machine_code(file, architecture) if kernel in k.name]
    assert found
    return [[instruction.opcode for instruction in k.instructions] for k in found]


@pytest.mark.parametrize("file", ["queue_infonce", "pairwise_infonce"])
def test_a_merge_waits_for_what_it_merges(file):
    for code in opcodes(file, "own_key_merge_kernel", "sm_90"):
        wait = code.index("ACQBULK")
        assert not [opcode for opcode in code[:wait] if opcode.startswith(MEMORY)]
    for code in opcodes(file, "streaming_softmax_kernel", "sm_90"):
        assert "PREEXIT" in code  # it lets the merge come


def test_an_older_gpu_is_not_asked_to_wait():
    for kernel in ("own_key_merge_kernel", "streaming_softmax_kernel"):
        for code in opcodes("queue_infonce", kernel, "sm_80"):
            assert not {"ACQBULK", "PREEXIT"} & set(code)
