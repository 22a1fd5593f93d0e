"""What is handed out: the archive holds what a build reads, versions stand in one place, dependencies have reasons."""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from build_support import environment, release
from build_support.sources import CSRC, ROOT, read_sources
from motionops.library import OLDEST_TORCH

PYPROJECT = (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return release.make_archive(tmp_path_factory.mktemp("archive"))


def read_by_a_build() -> set[str]:
    """The sources, what they include, and the Python that has them compiled."""
    sources = read_sources()
    read, new = set(), {*sources.cpu, *sources.cuda, *sources.torch, sources.facts}
    while new:
        read |= new
        names = [name for path in new for name in re.findall(r'^\s*#\s*include "(.+)"', path.read_text(), re.M)]
        new = {CSRC / name for name in names} - read
    read |= {CSRC / "sources.json", *(ROOT / "build_support").glob("*.py"), *(ROOT / "motionops").rglob("*.py")}
    read |= {ROOT / "motionops" / "py.typed", *(ROOT / "motionops").rglob("*.yaml")}
    read |= {ROOT / name for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")}
    return {str(path.relative_to(ROOT)) for path in read}


def test_the_archive_holds_what_a_build_reads(archive):
    with tarfile.open(archive) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    needed = read_by_a_build()
    assert len(needed) > 300
    assert needed - held == set()
    built = [name for name in held if name.endswith((".so", ".pyc", ".o")) or name.startswith("build/")]
    assert built == [], "what was built here is in the archive"


def test_the_hashes_are_those_that_sha256sum_checks(archive):
    release.write_sums(archive.parent)
    subprocess.run(["sha256sum", "--check", "--strict", release.SUMS], cwd=archive.parent, check=True)


def test_the_oldest_torch_is_the_same_everywhere():
    assert environment.oldest_torch() == OLDEST_TORCH
    assert f"torch>={'.'.join(map(str, OLDEST_TORCH))}" in PYPROJECT


def test_the_version_is_written_once():
    import motionops

    files = ["pyproject.toml", "setup.py", "CMakeLists.txt", "CITATION.cff", "Dockerfile"]
    again = [name for name in files if motionops.__version__ in (ROOT / name).read_text()]
    assert again == []


@pytest.fixture(scope="module")
def requirements(archive) -> set[str]:
    """The packages that the archive's own account of itself asks for, in whatever extra."""
    with tarfile.open(archive) as file:
        name = next(name for name in file.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO"))
        lines = file.extractfile(name).read().decode().splitlines()
    return {line[15:] for line in lines for line in re.findall(r"^Requires-Dist: [A-Za-z0-9_-]+", line)} - {"motionops"}


def test_every_dependency_has_its_reason(requirements):
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = set(re.findall(r"`([a-z0-9_-]+)`", "\n".join(re.findall(r"^\|([^|]+)\|", page, re.M))))
    assert len(requirements) > 30
    assert requirements - explained == set()


def test_set_up_knows_the_versions_of_what_it_installs(requirements):
    locked = {line.partition("==")[0] for line in environment.VERSIONS.read_text().splitlines()}
    elsewhere = {"cupy-cuda12x", "cupy-cuda13x", "nvidia-dali-cuda120"}  # another CUDA than CI's
    elsewhere |= {"cut-cross-entropy", "liger-kernel", "inf-cl"}  # Triton kernels: a GPU
    assert requirements - elsewhere - locked == set()


def test_a_torch_of_the_users_is_not_replaced(tmp_path):
    _, file = environment.constraints(tmp_path, torch_stays=True, latest=False)
    kept = {line.partition("==")[0] for line in Path(file).read_text().splitlines()}
    assert kept & {"torch", "torchvision", "triton", "nvidia-cublas"} == set()
    assert {"numpy", "lightning", "nvidia-dali-cuda130"} <= kept
    assert environment.constraints(tmp_path, torch_stays=True, latest=True) == []
