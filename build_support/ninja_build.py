"""Building the operators with ninja: one rule a kind of source, dependencies from the compilers, nothing done twice.

`motionops/_operators.so` holds the operators, for every Python and every torch from 2.11 on: of torch it uses the
stable ABI alone, and it has a CUDA runtime of its own. Two more libraries are for the tests only:
`tests/emulator/_emulated.so` holds the same bindings over the .cu files, which the host compiler reads with the headers
of tests/emulator, and the one in build/attacks the CPU operators, which stop where they leave their memory.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from build_support.old_linux import stubs
from build_support.sources import CSRC, ROOT, Sources, read_sources
from build_support.toolchain import BuildError, find_cuda, find_cxx

OPERATORS = ROOT / "motionops" / "_operators.so"
EMULATED = ROOT / "tests" / "emulator" / "_emulated.so"
SANITIZED = ROOT / "build" / "attacks" / "package" / "motionops" / "_operators.so"
EMULATOR = ROOT / "tests" / "emulator"
SUPPORT = ROOT / "build_support"

# The oldest torch whose stable ABI is used: 2.11, as (major << 56) + (minor << 48).
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020b000000000000"
CXX_FLAGS = "-std=c++20 -O3 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math -Wall -Wextra"
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"
# -Xptxas -v: registers and spills of every kernel, kept in <object>.log and read by tests/test_ptxas.py
NVCC_FLAGS = (
    "-std=c++20 -O3 --expt-relaxed-constexpr -lineinfo -Xptxas -v,-warn-spills -Xcompiler -fPIC,-fvisibility=hidden"
)

RULES = """\
rule cxx
  command = $cxx $flags -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = $description
rule nvcc
  command = $nvcc $flags -MD -MF $out.d -c $in -o $out > $out.log 2>&1 || (cat $out.log; rm -f $out; false)
  depfile = $out.d
  deps = gcc
  description = $description
rule link
  command = $cxx -shared $in $flags -o $out.new && mv $out.new $out
  description = $description
"""


class Build:
    """A ninja file in the making."""

    def __init__(self, folder: Path):
        try:
            import torch
        except ImportError as error:
            raise BuildError(
                "motionops is built against the torch that will run it: "
                "pip install torch, then pip install --no-build-isolation ."
            ) from error
        self.folder = folder
        self.lines: list[str] = []
        self.cxx, self.cxx_version = find_cxx()
        self.cuda, self.cuda_reason = find_cuda(torch.version.cuda)
        self.torch_version = torch.__version__
        self.torch_root = Path(torch.__file__).parent

    # -- flags

    @property
    def torch_flags(self) -> list[str]:
        # Checks and dispatch need no optimiser. The version is there to compile anew when it changes: dependencies on
        # system headers are not recorded.
        version = _quote(f'-DMOTIONOPS_TORCH_VERSION="{self.torch_version}"')
        return [f"-isystem {_quote(self.torch_root / 'include')}", "-O1", TORCH_TARGET, version]

    @property
    def torch_link_flags(self) -> list[str]:
        # what is missing is said now, and not when the library is loaded
        return [f"-L{_quote(self.torch_root / 'lib')}", "-ltorch_cpu", "-Wl,--no-undefined"]

    # -- statements

    def compile(self, rule: str, source: Path, kind: str, flags: Iterable[str]) -> Path:
        target = self.folder / kind / source.relative_to(ROOT).with_suffix(source.suffix + ".o")
        self._statement(target, rule, [source], flags, f"{kind}: {source.relative_to(ROOT)}")
        return target

    def link(self, target: Path, objects: list[Path], flags: Iterable[str]) -> None:
        self._statement(target, "link", objects, flags, f"link {target.name}")

    def _statement(self, target: Path, rule: str, inputs: list[Path], flags: Iterable[str], description: str) -> None:
        self.lines += [
            f"build {_escape(target)}: {rule} {' '.join(_escape(path) for path in inputs)}",
            f"  flags = {' '.join(flags)}",
            f"  description = {description}",
        ]

    def run(self, target: Path, jobs: int | None = None) -> None:
        """Write the file and make ``target``. Raises BuildError where the compilers fail."""
        self.folder.mkdir(parents=True, exist_ok=True)
        head = [f"builddir = {_escape(self.folder)}", f"cxx = {self.cxx}"]
        head.append(f"nvcc = {_quote(self.cuda.nvcc) if self.cuda else ''}")
        file = self.folder / "build.ninja"
        file.write_text("\n".join([*head, RULES, *self.lines]) + "\n")
        command = [*_ninja(), "-f", str(file), "-k", "0", str(target)]
        jobs = jobs or int(os.environ.get("MAX_JOBS", 0))
        if jobs:
            command += ["-j", str(jobs)]
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            raise BuildError(f"building {target.name} failed; the compiler's messages are above")


def build_operators(target: Path = OPERATORS) -> None:
    """Build ``motionops/_operators.so``: CPU operators always, CUDA operators where the toolchain is there."""
    with _lock():
        build = Build(ROOT / "build" / "operators")
        sources = read_sources()
        cuda = build.cuda
        core = [CXX_FLAGS, f"-I{_quote(CSRC)}"]
        objects = [build.compile("cxx", source, "cpu", core) for source in sources.cpu]
        binding = [*core, *build.torch_flags]
        link = build.torch_link_flags
        if cuda:
            nvcc = [NVCC_FLAGS, f"-I{_quote(CSRC)}", *cuda.gencode, f"-ccbin {_quote(shlex.split(build.cxx)[0])}"]
            objects += [build.compile("nvcc", source, "cuda", nvcc) for source in sources.cuda]
            binding += ["-DMOTIONOPS_WITH_CUDA", f"-isystem {_quote(cuda.include)}"]
            link = [*link, _quote(cuda.runtime), "-ldl -lrt -lpthread"]
            kind = "torch-cuda"
        else:
            kind = "torch"
        objects += [build.compile("cxx", source, kind, binding) for source in sources.torch]
        objects.append(build.compile("cxx", sources.facts, kind, [*binding, *_facts(build)]))
        objects.append(build.compile("cxx", SUPPORT / "old_linux.cpp", "old_linux", [CXX_FLAGS]))
        old = [_quote(stub) for stub in stubs(build.folder / "old_linux", build.cxx)]
        # all else stays inside: torch brings a CUDA runtime of its own, and every process a C++ library
        exported = f"-Wl,--version-script={_quote(SUPPORT / 'exported.map')}"
        build.link(target, objects, ["-Wl,--push-state,--no-as-needed", *old, "-Wl,--pop-state", exported, *link])
        print(f"motionops: {'CPU and CUDA' if cuda else 'CPU'} operators ({build.cuda_reason})", flush=True)
        build.run(target)


def build_emulated(target: Path = EMULATED) -> None:
    """Build ``tests/emulator/_emulated``: the .cu files compiled for the host, bound as ``motionops_emulated``."""
    with _lock():
        build = Build(ROOT / "build" / "emulated")
        sources: Sources = read_sources()
        # before every other path: these headers take the names of CUDA's
        core = [
            CXX_FLAGS.replace("-O3", "-O2"),
            "-DMOTIONOPS_EMULATED -Wno-unknown-pragmas",
            f"-I{_quote(EMULATOR / 'include')} -I{_quote(CSRC)}",
        ]
        objects = [build.compile("cxx", source, "emulated", ["-x c++", *core]) for source in sources.cuda]
        objects.append(build.compile("cxx", EMULATOR / "fiber_executor.cpp", "emulated", core))
        binding = [*core, *build.torch_flags]
        objects += [build.compile("cxx", source, "emulated", binding) for source in sources.torch]
        build.link(target, objects, build.torch_link_flags)
        build.run(target)


def build_sanitized(target: Path = SANITIZED) -> None:
    """Build the CPU operators with AddressSanitizer and UndefinedBehaviorSanitizer, as CMakeLists.txt does for C++."""
    with _lock():
        build = Build(ROOT / "build" / "attacks")
        sources = read_sources()
        core = [CXX_FLAGS.replace("-O3", "-O1 -g1"), SANITIZERS, f"-I{_quote(CSRC)}"]
        binding = [*core, *build.torch_flags]
        objects = [build.compile("cxx", source, "cpu", core) for source in sources.cpu]
        objects += [build.compile("cxx", source, "torch", binding) for source in sources.torch]
        objects.append(build.compile("cxx", sources.facts, "torch", [*binding, *_facts(build)]))
        build.link(target, objects, [SANITIZERS, *build.torch_link_flags])
        build.run(target)


def _facts(build: Build) -> list[str]:
    """What `python -m motionops.info` prints of the build. One file alone sees it: nothing else is compiled anew."""
    cuda = build.cuda
    facts = {
        "COMPILER": build.cxx_version,
        "CUDA_COMPILER": f"nvcc {cuda.version}" if cuda else "",
        "CUDA_ARCHITECTURES": " ".join(cuda.architectures) if cuda else "",
        "CUDA_REASON": build.cuda_reason,
    }
    return [_quote(f'-DMOTIONOPS_{name}="{value}"') for name, value in facts.items()]


@contextmanager
def _lock():
    """One build at a time: the second finds the work of the first done."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ninja() -> list[str]:
    try:
        import ninja
    except ImportError:
        return ["ninja"]
    return [str(Path(ninja.BIN_DIR) / "ninja")]


def _quote(path: object) -> str:
    """For the shell, inside a ninja file."""
    return shlex.quote(str(path)).replace("$", "$$")


def _escape(path: Path) -> str:
    """For ninja itself."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def main(arguments: list[str]) -> int:
    """``python -m build_support.ninja_build [operators] [emulated] [sanitized]``."""
    if sys.platform != "linux":
        print(f"error: motionops builds on Linux, this is {platform.system()}", file=sys.stderr)
        return 1
    targets = {"operators": build_operators, "emulated": build_emulated, "sanitized": build_sanitized}
    try:
        for name in arguments or ["operators"]:
            targets[name]()
    except (BuildError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
