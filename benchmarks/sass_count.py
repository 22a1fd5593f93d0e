"""What kernels execute, counted in their machine code: registers, stack, instructions of hot loops. Needs no GPU.

    python -m benchmarks.sass_count csrc/flow/flow_edges.cu --kernel forward
    python -m benchmarks.sass_count build/extension/cuda/csrc/flow/flow_edges.cu.o --arch sm_80

A ``.cu`` is compiled first; objects and cubins are read as they are. A hot loop is an innermost one that reads or
writes global memory, or has products of matrices; all between its first and its last instruction counts, so what a
branch inside rarely reaches is counted as if it always did. Spills are stack. ``WORK`` says what a loop makes, and so
what an element costs.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {  # the first that an instruction begins with
    "local": "LDL STL",
    "global": "LDG STG LD. ST. RED ATOM",
    "shared": "LDS STS LDSM",
    "matrix": "HMMA IMMA",
    "special": "MUFU",
    "float64": "DADD DMUL DFMA DSETP DMNMX",
    "convert": "F2 I2 HADD2.F32 HADD2.BF16",
    "move": "MOV UMOV CS2R S2R S2UR IMAD.MOV HFMA2 R2UR LDC ULDC R2P P2R",
    "float32": "FADD FMUL FFMA FMNMX FSETP FSEL FSET FCHK",
    "control": "BRA BSSY BSYNC CALL RET EXIT WARPSYNC BAR NOP PLOP3",
    "integer": "IADD IMAD IABS LEA LOP3 SHF ISETP VIADD VIMNMX SEL PRMT UIADD UIMAD UISETP ULEA USEL USHF ULOP3 POPC",
}
WARP_INSTRUCTIONS_A_SECOND = 132 * 4 * 1.755e9  # an H100's


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str
    target: int | None  # of a branch


@dataclass(frozen=True)
class Kernel:
    name: str
    registers: int
    stack: int
    instructions: tuple[Instruction, ...]

    def hot_loops(self) -> list[tuple[Instruction, ...]]:
        spans = [(i.target, i.address) for i in self.instructions if i.target is not None and i.target < i.address]
        inner = [a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
        loops = [tuple(i for i in self.instructions if first <= i.address <= last) for first, last in inner]
        return [loop for loop in loops if any(class_of(i.opcode) == "global" for i in loop) or products_of(loop) >= 16]


@dataclass(frozen=True)
class Work:
    """A thread makes `rows` rows; one `instruction` in its loop stands for `elements` rows."""

    instruction: str
    elements: float
    rows: int = 16
    halo: int = 0  # rows that the loop passes through besides


WORK = {
    "flow_edges_forward_kernel": Work("STG", 1),
    "flow_edges_backward_kernel": Work("STG", 1 / 2, halo=2),
    "motion_map_forward_kernel": Work("STG", 1),
    "motion_map_grid_kernel": Work("LDG", 1 / 6),
    "motion_map_backward_kernel": Work("STG", 1 / 2, halo=2),
    "frame_difference_kernel": Work("LDG", 1),
}


def products_of(loop: tuple[Instruction, ...]) -> int:
    """Instructions of the matrix units, or as many FFMA as take their place: 16 outer products of 2 by 4 numbers."""
    return sum(i.opcode.startswith("HMMA") for i in loop) + sum(i.opcode.startswith("FFMA") for i in loop) // 8


def class_of(opcode: str) -> str:
    for name, beginnings in CLASSES.items():
        if opcode.startswith(tuple(beginnings.split())):
            return name
    return "other"


def parse(sass: str, usage: str) -> Iterator[Kernel]:
    """Kernels of ``cuobjdump -sass`` and ``cuobjdump -res-usage`` of one architecture."""
    resources = {
        name: (int(registers), int(stack))
        for name, registers, stack in re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", usage)
    }
    line = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
    for part in re.split(r"\bFunction : ", sass)[1:]:
        name = part.split(None, 1)[0]
        instructions = []
        for address, opcode, operands in line.findall(part):
            target = re.search(r"0x([0-9a-f]+)", operands) if opcode.startswith("BRA") else None
            instructions.append(Instruction(int(address, 16), opcode, int(target[1], 16) if target else None))
        yield Kernel(demangled(name), *resources[name], tuple(instructions))


def demangled(name: str) -> str:
    """`name` without namespaces and parameters, or as it is where nothing here can tell."""
    if shutil.which("c++filt"):
        name = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
    return re.sub(r"^void |\(anonymous namespace\)::|\w+::|\((?!anonymous).*", "", name)


def per_element(kernel: Kernel, loop: tuple[Instruction, ...]) -> float | None:
    """Instructions a thread executes for one element of its result, those outside the loop shared among a strip's."""
    work = WORK.get(kernel.name.split("<")[0])
    if work is None:
        return None
    numbers = re.findall(r"\b\d+\b", kernel.name.split("<", 1)[1])
    width = int(numbers[0]) if numbers else 1
    made = sum(re.match(work.instruction, i.opcode) is not None for i in loop) * work.elements * width
    if made == 0:
        return None
    outside = len(kernel.instructions) - len(loop)
    return (len(loop) / made * width * (work.rows + work.halo) + outside) / (width * work.rows)


def report(kernels: list[Kernel], elements: int | None = None) -> str:
    """A table, a row for each hot loop, or for a kernel without one."""
    head = ["kernel", "registers", "stack", "loop", "outside", "an element"]
    rows = [[*head, *([f"µs for {elements}"] if elements else []), "of the loop"]]
    for kernel in kernels:
        for loop in kernel.hot_loops() or [()]:
            cost = per_element(kernel, loop) if loop else None
            row = [kernel.name, kernel.registers, kernel.stack, len(loop), len(kernel.instructions) - len(loop)]
            row.append("" if cost is None else f"{cost:.1f}")
            if elements:
                row.append("" if cost is None else f"{cost * elements / 32 / WARP_INSTRUCTIONS_A_SECOND * 1e6:.0f}")
            counts = Counter(class_of(i.opcode) for i in loop).most_common()
            rows.append([*row, ", ".join(f"{name} {count}" for name, count in counts)])
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def cuobjdump() -> str:
    found = shutil.which("cuobjdump")
    triton = importlib.util.find_spec("triton")
    if found is None and triton is not None:  # brings its own
        found = shutil.which("cuobjdump", path=str(Path(triton.origin).parent / "backends" / "nvidia" / "bin"))
    if found is None:
        sys.exit("sass_count: no cuobjdump on PATH and no triton that brings one")
    return found


def read(path: Path, architecture: str) -> list[Kernel]:
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".cu":
            cubin = Path(folder) / "kernels.cubin"
            options = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", f"-I{ROOT / 'csrc'}", f"-arch={architecture}"]
            subprocess.run(["nvcc", *options, "-cubin", "-o", cubin, path], check=True)
            path = cubin
        outputs = [
            subprocess.run(
                [cuobjdump(), what, "-arch", architecture, path], capture_output=True, text=True, check=True
            ).stdout
            for what in ("-sass", "-res-usage")
        ]
    return list(parse(*outputs))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Count the instructions of kernels' hot loops.")
    parser.add_argument("path", type=Path, help="a .cu, an object or a cubin")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--kernel", default="", help="a regular expression that names must contain")
    parser.add_argument("--elements", type=int, help="of the result: gives the time that an H100 needs to issue them")
    options = parser.parse_args(arguments)
    kernels = [k for k in read(options.path, options.arch) if re.search(options.kernel, k.name)]
    print(report(kernels, options.elements))


if __name__ == "__main__":
    main()
