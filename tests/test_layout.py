"""The tree keeps its shape: every operator has all of its files, and torch stays in the bindings."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
LIST = json.loads((CSRC / "sources.json").read_text())
OPS = LIST["ops"]

SIBLINGS = [
    "csrc/{stem}.h",
    "csrc/{stem}.cu",
    "csrc/{stem}_cpu.cpp",
    "csrc/{stem}_torch.cpp",
    "motionops/{stem}.py",
    "tests/{family}/test_{op}.py",
    "benchmarks/{family}/bench_{op}.py",
]


def sources(*suffixes: str) -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in suffixes)


def relative(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("stem", OPS)
def test_an_operator_has_all_its_files(stem, sibling):
    family, op = stem.split("/")
    path = sibling.format(stem=stem, family=family, op=op)
    assert (ROOT / path).exists(), f"{stem} is in csrc/sources.json, but {path} is missing"


@pytest.mark.parametrize("stem", OPS)
def test_an_operator_is_public(stem):
    import motionops

    op = stem.split("/")[1]
    assert callable(getattr(motionops, op))
    assert op in motionops.__all__


def test_every_source_is_listed():
    listed = {LIST["facts"], *LIST["cpu"], *LIST["cuda"]}
    listed |= {stem + ending for stem in OPS for ending in (".cu", "_cpu.cpp", "_torch.cpp")}
    assert {relative(path) for path in sources(".cpp", ".cu")} == listed


def test_no_cpp_beside_a_cu_of_the_same_name():
    both = [relative(path) for path in sources(".cu") if path.with_suffix(".cpp").exists()]
    assert not both, f"setuptools maps the two to one object file: {both}"


@pytest.mark.parametrize("path", sources(".h", ".cpp", ".cu", ".cuh", ".inl"), ids=relative)
def test_torch_stays_in_the_bindings(path):
    included = re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', path.read_text(), re.MULTILINE)
    torch = [name for name in included if re.match(r"(torch|ATen|c10|caffe2)/", name)]
    if not path.name.endswith(("_torch.cpp", "_binding.h")):
        assert not torch, f"{relative(path)} includes {torch}; only *_torch.cpp and the binding headers may"
        bindings = [name for name in included if name.endswith("_binding.h")]
        assert not bindings, f"{relative(path)} includes {bindings}, which include torch"
    # ATen and c10 change with every torch: one binary for all of them uses torch's stable ABI and what is header-only
    stable = ("torch/csrc/stable/", "torch/csrc/inductor/aoti_torch/c/")
    unstable = [name for name in torch if not name.startswith(stable)]
    assert not unstable, f"{relative(path)} includes {unstable}, which are not of torch's stable ABI"


@pytest.mark.parametrize("path", sources(".cu", ".cuh"), ids=relative)
def test_kernels_are_started_by_launch(path):
    assert "<<<" not in path.read_text(), "start kernels with launch() of core/launch.h: the emulator cannot read <<<"
