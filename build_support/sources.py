"""The sources, from csrc/sources.json, which CMakeLists.txt reads too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"


@dataclass(frozen=True)
class Sources:
    cpu: list[Path]
    cuda: list[Path]
    torch: list[Path]
    facts: Path


def read_sources() -> Sources:
    """Read the list. Raises FileNotFoundError naming the files that it lists and that are not there."""
    listed = json.loads((CSRC / "sources.json").read_text())
    ops = [CSRC / stem for stem in listed["ops"]]
    sources = Sources(
        cpu=[op.with_name(op.name + "_cpu.cpp") for op in ops] + [CSRC / name for name in listed["cpu"]],
        cuda=[op.with_name(op.name + ".cu") for op in ops] + [CSRC / name for name in listed["cuda"]],
        torch=[op.with_name(op.name + "_torch.cpp") for op in ops],
        facts=CSRC / listed["facts"],
    )
    files = [*sources.cpu, *sources.cuda, *sources.torch, sources.facts]
    missing = [str(path.relative_to(ROOT)) for path in files if not path.exists()]
    if missing:
        raise FileNotFoundError(f"csrc/sources.json lists files that do not exist: {', '.join(missing)}")
    return sources
