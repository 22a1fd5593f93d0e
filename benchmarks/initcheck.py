"""initcheck over the small shapes, judged by this library's kernels alone: python -m benchmarks.initcheck

The tool learns what is initialised from the writes it watches, so it cannot be told to watch some kernels only: what
torch's kernels wrote would count as uninitialised. All are watched, then, and reports of reads by kernels of other
libraries are counted and named, but are no failure.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = "motionops"  # the namespace of all our kernels
OTHERS = re.compile(r"\b(at|c10|cub|thrust|cublas\w*|cudnn|cutlass|cusparse\w*|cusolver\w*)::|at_cuda_detail")
# Lines of the tool that begin no report.
FRAME = ("COMPUTE-SANITIZER", "ERROR SUMMARY")
SHOWN = 5


@dataclass(frozen=True)
class Report:
    """One report, as the tool wrote it."""

    text: str

    @property
    def ours(self) -> bool:
        """What names no other library's kernel may be ours: an inlined function of a header, a copy."""
        return OURS in self.text or not OTHERS.search(self.text)

    @property
    def where(self) -> str:
        """The line that names the kernel."""
        return next((line.strip() for line in self.text.splitlines() if line.lstrip().startswith("at ")), self.text)


def reports(log: str) -> list[Report]:
    """The reports in what the tool wrote: a line that says what, then indented lines that say where."""
    found: list[list[str]] = []
    inside = False
    for line in log.splitlines():
        said = line.removeprefix("=========").removeprefix(" ").rstrip()
        if not line.startswith("=========") or not said or said.startswith(FRAME):
            inside = False
        elif said.startswith(" ") and inside:
            found[-1].append(said)
        elif not said.startswith(" "):
            found.append([said])
            inside = True
    return [Report("\n".join(lines)) for lines in found]


def verdict(log: str, code: int) -> tuple[int, str]:
    """The exit status, and what is to be said.

    Args:
        log: what the tool wrote.
        code: its own exit status, which is that of the program where nothing else went wrong.
    """
    summary = re.search(r"ERROR SUMMARY: (\d+) error", log)
    if summary is None:
        return 1, f"{log}\ninitcheck did not come to its summary"
    found = reports(log)
    ours, others = [report for report in found if report.ours], [report for report in found if not report.ours]
    lines = [report.text for report in ours[:SHOWN]]
    for where, count in Counter(report.where for report in others).most_common(SHOWN):
        lines.append(f"not ours, {count} times: {where[:200]}")
    lines.append(f"initcheck: {len(ours)} reports of our kernels, {len(others)} of others', {summary[1]} errors in all")
    unread = not found and int(summary[1]) > 0
    if unread:
        lines.append("the errors were not understood")
    if code:
        lines.append(f"the program ended with status {code}")
    return int(bool(ours or unread or code)), "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 0 where the program ended well and no report is ours."""
    parser = argparse.ArgumentParser(description="initcheck, judged by this library's kernels alone.")
    parser.add_argument("--sanitizer", default="compute-sanitizer", help="the tool")
    parser.add_argument("program", nargs="*", help="what it runs; by default the operators on small shapes")
    options = parser.parse_args(arguments)
    program = options.program or [sys.executable, "-m", "benchmarks.small_shapes", "--device", "cuda"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        settings = ["--show-backtrace", "device", "--print-limit", "0", "--launch-timeout", "0", "--log-file", str(log)]
        code = subprocess.run([options.sanitizer, "--tool", "initcheck", *settings, *program]).returncode
        status, text = verdict(log.read_text(errors="replace") if log.exists() else "", code)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
