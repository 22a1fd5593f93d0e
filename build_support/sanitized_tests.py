"""Hostile arguments for the operators of `make attacks`, built with AddressSanitizer and UndefinedBehaviorSanitizer.

A copy of the package beside their library runs the same tests; what reads or writes beyond its memory ends them there,
with its file and line. Further arguments go to pytest: `-k ghost`, or `--slow` for thousands of cases an operator.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from build_support.ninja_build import ROOT, SANITIZED, build_sanitized
from build_support.toolchain import BuildError, find_cxx

TESTS = ["tests/fuzz", "tests/test_backward_arguments.py", "tests/layers/test_ghost_batch_norm.py"]
# More memory than there is ends in an error of the operator, as it does without the sanitizers.
OPTIONS = "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=3000"


def main(further: list[str]) -> int:
    try:
        build_sanitized()
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    package = SANITIZED.parent
    shutil.copytree(
        ROOT / "motionops", package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    # The sanitizer comes before all else that is loaded, and knows of exceptions where libstdc++ is there already.
    cxx, _ = find_cxx()
    preloaded = [
        subprocess.run(
            [*shlex.split(cxx), f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = {**os.environ, "LD_PRELOAD": " ".join(map(str.strip, preloaded)), "ASAN_OPTIONS": OPTIONS}
    environment |= {"UBSAN_OPTIONS": "print_stacktrace=1", "OMP_NUM_THREADS": "1", "MOTIONOPS_REQUIRE": "cpu"}
    # the sanitizer writes to the descriptor, and ends the process: pytest is not to hold it back
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--backend", "cpu", "--capture=sys"]
    command += ["-o", f"pythonpath={package.parent} {ROOT}", *TESTS, *further]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
